"""How far planning has come, on one line of the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def counter() -> Iterator[Callable[[int], None]]:
    """Says on a terminal how many images were planned, on one line, which ends with the block."""
    counted = False

    def count(number: int) -> None:
        nonlocal counted
        if sys.stderr.isatty():
            counted = True
            click.echo(f"\rplanned {number} images", nl=False, err=True)

    try:
        yield count
    finally:
        if counted:
            click.echo(err=True)
