"""Standard output as terminals and pipes have it, and a parser whose errors are one line."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import NoReturn


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


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on standard error and exit 2, as everywhere in cityjax."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave after what was printed (--help) has reached its reader."""
        print(end="", flush=True)
        super().exit(status, message)
