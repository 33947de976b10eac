"""What reaches the terminal: results on standard output, everything said to people on standard error.

Captions, names and image keys are strangers' text. Always holds: no control character of theirs reaches a terminal.
"""

import unicodedata
from collections.abc import Iterable, Sequence

import click

CELL = 72
"""Columns a cell of a table may take; the rest is cut off with an ellipsis."""


def clean(text: str) -> str:
    """`text` on one line, fit for a terminal: white space becomes a space, what is not printable is left out."""
    return "".join(" " if letter.isspace() else letter for letter in text if letter.isspace() or letter.isprintable())


def say(text: str) -> None:
    """One line to a person."""
    click.echo(clean(text), err=True)


def result(text: str) -> None:
    """One line of what the command was asked for."""
    click.echo(clean(text))


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table with a head, columns padded, numbers to the right. `rows` without any give no line."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return []
    right = [all(isinstance(value, int | float) for value in column) for column in zip(*cells, strict=True)]
    texts = [[clean(name) for name in names], *([_shorten(clean(str(cell))) for cell in row] for row in cells)]
    widths = [max(map(_width, column)) for column in zip(*texts, strict=True)]
    return [_line(row, widths, right) for row in texts]


def _cell(value: object) -> object:
    if value is None:
        return ""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for text, width, to_right in zip(row, widths, right, strict=True):
        gap = " " * (width - _width(text))
        padded.append(gap + text if to_right else text + gap)
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Columns `text` takes: two for East Asian wide letters, none for marks that combine."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def _shorten(text: str) -> str:
    if _width(text) <= CELL:
        return text
    while _width(text) >= CELL:
        text = text[: max(1, len(text) - max(1, (_width(text) - CELL) // 2))]
    return text + "…"
