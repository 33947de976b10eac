"""How far planning has come, on one line of the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from p2pcap.cli.output import progress


@contextmanager
def counter() -> Iterator[Callable[[int], None]]:
    """Says on a terminal how many images were planned, on one line, which goes with the block."""
    counted = False

    def count(number: int) -> None:
        nonlocal counted
        if sys.stderr.isatty():
            counted = True
            progress(f"planned {number} images")

    try:
        yield count
    finally:
        if counted:
            progress("")
