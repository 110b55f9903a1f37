"""Standard output as terminals and pipes have it: any encoding, and readers that leave early."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Decorate a command: `?` for what the terminal lacks, a quiet exit 1 where a pipe closes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        yield
        print(end="", flush=True)  # here, where a closed pipe is expected, not when Python ends
    except BrokenPipeError:
        # What is left in the buffer would fail once more: it goes nowhere instead.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
