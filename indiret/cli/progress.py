"""Progress where no terminal is: of the many states of a bar, a line now and then."""

import re
import time
from typing import Any, TextIO

EVERY = 30  # seconds from one line to the next


class ProgressLines:
    """Standard error that is a terminal to tqdm; other texts pass through."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.told = time.monotonic()
        self.in_line = False  # whether a text that passed through has not ended yet

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        _, is_bar, state = text.rpartition("\r")
        if is_bar and state.strip() and time.monotonic() - self.told >= EVERY:
            self.told = time.monotonic()
            self.stream.write(re.sub(r"\|.*\|", "", state).strip() + "\n")
            self.stream.flush()
        elif not is_bar and (self.in_line or text.strip("\n\x1b[A")):  # no move to another bar
            self.in_line = not text.endswith("\n")
            self.stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
