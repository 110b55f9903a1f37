"""Figures, tables, HTML reports and comparisons, made from a run folder and plain arrays.

`record` reads run folders, `figures` draws with matplotlib, `tables` formats numbers, `html` writes
report.html, `compare` sets several runs side by side. Nothing here needs JAX, and importing this
package imports none of the five.
"""
