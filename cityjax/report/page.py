"""The pieces of a self-contained HTML page: style, tables, pictures. All text is escaped here."""

import base64
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from cityjax.report.record import RunFolderError
from cityjax.report.tables import ARROWS, metric_label
from cityjax.report.text_table import Cell

STYLE = """
:root { color-scheme: light dark; --page: #f5f6f8; --card: #fff; --ink: #17202a; --quiet: #5c6875;
  --line: #e2e6ea; --accent: #0063a0; --tint: #eef5fb; --good: #00734f; --bad: #a84300; }
@media (prefers-color-scheme: dark) { :root { --page: #11161b; --card: #1a2128; --ink: #e6ebf0;
  --quiet: #97a3af; --line: #2c353e; --accent: #6cb8f0; --tint: #1d2a36; --good: #4fc79d;
  --bad: #f29a5c; } .picture img { filter: brightness(.9); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
.kicker { color: var(--accent); font-weight: 600; font-size: 13px; margin: 0; }
h1 { font-size: 34px; line-height: 1.2; letter-spacing: -.02em; margin: 4px 0 8px;
  overflow-wrap: anywhere; }
h2 { font-size: 19px; letter-spacing: -.01em; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 8px; }
.summary { font-size: 17px; color: var(--quiet); margin: 0 0 12px; max-width: 46em; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; margin: 0; list-style: none;
  color: var(--quiet); font-size: 14px; }
.facts b { color: var(--ink); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(235px, 1fr)); gap: 16px;
  margin-top: 28px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 18px 20px; min-width: 0; }
.card .name { color: var(--quiet); font-size: 14px; margin: 0; }
.card .value { font-size: 32px; font-weight: 650; letter-spacing: -.02em; line-height: 1.25;
  margin: 0; }
.card .value small { font-size: 17px; font-weight: 400; color: var(--quiet); letter-spacing: 0; }
.card .verdict { margin: 6px 0 0; font-size: 13.5px; }
.ahead { color: var(--good); } .behind { color: var(--bad); }
.level, .between { color: var(--quiet); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 8px 12px; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
tr:last-child > * { border-bottom: 0; }
td { white-space: nowrap; }
th { font-weight: 600; font-size: 13.5px; } thead th { vertical-align: bottom; }
th:first-child, th.text, td.text { text-align: left; } td.text { white-space: normal; }
tbody th { font-weight: 400; font-size: 15px; color: var(--quiet); }
tr.model > * { background: var(--tint); } tr.model th { color: var(--ink); font-weight: 600; }
td.best { font-weight: 700; color: var(--good); }
.note { color: var(--quiet); font-size: 13.5px; margin: 12px 0 0; }
.warn { color: var(--bad); }
code { font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
th code { font-weight: 400; color: var(--quiet); display: block; font-size: 11.5px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin: 0;
  padding: 14px 18px; overflow-x: auto; } pre code { font-size: 13.5px; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 5px 18px; margin: 0;
  font-size: 14px; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
dt.changed, dd.changed { color: var(--accent); font-weight: 600; }
.protocol { margin-top: 16px; padding-top: 16px; border-top: 1px solid var(--line); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr));
  gap: 16px; align-items: start; } .stack { display: grid; gap: 16px; }
.pictures { display: flex; flex-wrap: wrap; gap: 16px; }
figure { margin: 0; min-width: 0; } .picture { flex: 1 1 45%; } .picture.wide { flex-basis: 100%; }
figcaption { color: var(--quiet); font-size: 14px; margin: 0 0 8px; }
.picture img { display: block; max-width: 100%; width: auto; height: auto; margin: 0 auto;
  max-height: 620px; background: #fff; border-radius: 6px; }
.strip { display: flex; gap: 10px; overflow-x: auto; padding-bottom: 6px; }
.strip figure { flex: 1 0 112px; max-width: 230px; }
.strip img { display: block; width: 100%; height: auto; border-radius: 6px; }
.strip figcaption { margin: 6px 0 0; text-align: center; font-size: 12.5px; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--accent); font-size: 14px; }
details > * + * { margin-top: 10px; }
footer { color: var(--quiet); font-size: 13px; padding-top: 36px; padding-bottom: 40px; }
@media (max-width: 640px) { main, header, footer { padding-left: 16px; padding-right: 16px; }
  h1 { font-size: 27px; } .picture { flex-basis: 100%; }
  .card { padding: 14px; } th, td { padding: 7px 8px; } .card .value { font-size: 28px; } }
@media print { :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --quiet: #444;
  --line: #ccc; --tint: #f2f2f2; --accent: #00507f; --good: #00573b; --bad: #8a3700; }
  body { font-size: 11pt; } header { padding-top: 0; } main, header, footer { max-width: none; }
  .picture img { filter: none; } .card, figure, tr, pre { break-inside: avoid; }
  h2 { break-after: avoid; } .strip { flex-wrap: wrap; } .scroll { overflow: visible; }
  pre code { white-space: pre-wrap; overflow-wrap: anywhere; } }
"""


def page(title: str, header: Sequence[str], sections: Sequence[str], footer: str) -> str:
    """A whole HTML document; title and footer are plain text, the rest is HTML."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
{joined(header)}
</header>
<main>
{joined(sections)}
</main>
<footer>{escape(footer)}</footer>
</body>
</html>
"""


def joined(parts: Iterable[str]) -> str:
    """HTML parts one below the other, empty ones left out."""
    return "\n".join(part for part in parts if part)


def section(title: str, *parts: str) -> str:
    """A headed section; nothing at all when it has no content."""
    body = joined(parts)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def card(*parts: str) -> str:
    """A framed block."""
    return f'<div class="card">\n{joined(parts)}\n</div>'


def definitions(values: Mapping[str, object], *, changed: Iterable[str] = ()) -> str:
    """A list of names and values, with some names highlighted; empty without values."""
    marked = set(changed)
    rows = []
    for name, value in values.items():
        mark = ' class="changed"' if name in marked else ""
        rows.append(f"<dt{mark}>{escape(str(name))}</dt><dd{mark}>{escape(str(value))}</dd>")
    return f"<dl>\n{joined(rows)}\n</dl>" if rows else ""


def metric_heading(key: str, better: str | None) -> str:
    """A metric in words with its better direction, and its key in small under it."""
    label = escape(metric_label(key) + ARROWS.get(better or "", ""))
    return f"{label}<code>{escape(key)}</code>"


def table(
    headings: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell], str]], *, models: int = 1
) -> str:
    """A result table: HTML headings and rows (HTML name, cells, HTML note).

    The first `models` rows are tinted. A column of notes stands at the end if there are more
    headings than names and cells need.
    """
    width = 1 + max((len(cells) for _, cells, _ in rows), default=0)
    top = "".join(f'<th scope="col">{heading}</th>' for heading in headings[:width])
    top += "".join(f'<th scope="col" class="text">{heading}</th>' for heading in headings[width:])
    body = []
    for index, (name, cells, note) in enumerate(rows):
        line = f'<th scope="row">{name}</th>'
        for cell in cells:
            mark = ' class="best"' if cell.best else ""
            line += f"<td{mark}>{escape(cell.text)}</td>"
        if len(headings) > width:
            line += f'<td class="text">{note}</td>'
        kind = ' class="model"' if index < models else ""
        body.append(f"<tr{kind}>{line}</tr>")
    return (
        f'<div class="scroll"><table>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{joined(body)}\n</tbody></table></div>"
    )


def read_png(path: Path) -> bytes:
    """The bytes of a PNG file; RunFolderError when it is none."""
    data = path.read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise RunFolderError(f"{path}: not a PNG file")
    return data


def image(png: bytes, alternative: str) -> tuple[str, float]:
    """An inlined <img>, and its width divided by its height."""
    width, height = struct.unpack(">II", png[16:24])
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(alternative)}">'
    ), width / height


def picture(png: bytes, caption: str) -> str:
    """A framed picture under its caption; one much wider than high takes the whole row."""
    tag, aspect = image(png, caption)
    wide = " wide" if aspect > 1.6 else ""
    return (
        f'<figure class="card picture{wide}">'
        f"<figcaption>{escape(caption)}</figcaption>{tag}</figure>"
    )


def write_text(path: Path, text: str) -> None:
    """Write a file in one move, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", errors="replace")  # names of files may be no UTF-8
    os.replace(part, path)
