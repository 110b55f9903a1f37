"""Ctrl-C and SIGTERM, as the command line takes them."""

import os
import signal
from pathlib import Path
from typing import Any


class Interrupted(BaseException):
    """A signal ended the run; `workdir` is the folder to continue, None where none was made."""

    workdir: Path | None = None

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number


class Signals:
    """Ctrl-C and SIGTERM: during updates they wait for a checkpoint, otherwise stop at once."""

    def __init__(self) -> None:
        """Install nothing: `install` does."""
        self.requested: int | None = None
        self.deferring = False

    def install(self) -> None:
        """Handle both signals from here on.

        A second one stops without a checkpoint, once the updates under way are done.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def __enter__(self) -> "Signals":
        """Begin to defer."""
        self.deferring = True
        return self

    def __exit__(self, *details: object) -> None:
        """Stop at once again; a signal that came after the last dispatch stops the run here."""
        self.deferring = False
        if self.requested is not None and details[0] is None:
            raise self.now()

    def now(self) -> BaseException:
        """Return what ends the run."""
        assert self.requested is not None
        return Interrupted(self.requested)

    def _handle(self, number: int, frame: Any) -> None:
        del frame
        if not self.deferring or self.requested is not None:
            raise Interrupted(number)
        self.requested = number
        # No print: the signal may have come in the midst of one.
        os.write(2, b"\ncityjax: stopping after the updates under way\n")
