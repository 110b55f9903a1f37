"""Tasks: what experiments on the same data share, as functions of plain arguments."""
