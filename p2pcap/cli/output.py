"""What reaches the terminal: results on standard output, everything said to people on standard error.

Captions, names, image keys, addresses and what errors quote are strangers' text, so nothing else in the commands writes
to the terminal. Always holds: no control character of theirs reaches it; what is said with --quiet is an error, or
needed to understand the results.
"""

import unicodedata
from collections.abc import Iterable, Sequence

import click

from p2pcap.export.escape import safe_json

CELL = 72
"""Columns a cell of a table may take; the rest is cut off with an ellipsis."""

QUIET = "p2pcap.cli.output.quiet"
"""Where a command's context notes that --quiet was given."""


def clean(text: str) -> str:
    """`text` on one line, fit for a terminal: white space becomes a space, what is not printable is left out."""
    if text.isprintable():
        return text
    return "".join(" " if letter.isspace() else letter for letter in text if letter.isspace() or letter.isprintable())


def say(text: str) -> None:
    """One line to a person who wants to know what goes on: not said with --quiet."""
    if not quiet():
        click.echo(clean(text), err=True)


def warn(text: str) -> None:
    """One line to a person that is said in any case: an error, or what the results cannot be understood without."""
    click.echo(clean(text), err=True)


def progress(text: str) -> None:
    """The line on standard error that is written anew in place; empty: it is wiped. For a terminal only."""
    if not quiet():
        import shutil

        width = shutil.get_terminal_size().columns - 1
        click.echo("\r\x1b[2K" + clean(text)[:width], err=True, nl=False)


def result(text: str) -> None:
    """One line of what the command was asked for."""
    click.echo(clean(text))


def results(lines: Iterable[str], none: str) -> None:
    """Lines of what the command was asked for. Where there are none, `none` is said in their place."""
    shown = False
    for line in lines:
        result(line)
        shown = True
    if not shown:
        say(none)


def result_json(value: object) -> None:
    """What the command was asked for as JSON, on one line. Characters that a terminal would obey are escapes in it."""
    import json

    encoded_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def encoded_json(data: bytes) -> None:
    """The same for what is JSON already."""
    click.echo(safe_json(data))


def be_quiet(context: click.Context) -> None:
    """From now on and in this run of the program nothing is said but what `warn` says."""
    context.meta[QUIET] = True


def quiet() -> bool:
    """Whether --quiet was given."""
    context = click.get_current_context(silent=True)
    return context is not None and QUIET in context.meta


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
