"""A query's result as a table, and what is said of it. Pure.

Always holds: a table has at most SHOWN rows, and says so where there are more; a cell has at most CELL characters, and
lists and maps stand in it as JSON.
"""

import json
from collections.abc import Sequence

from p2pcap_tui.feed import Found
from p2pcap_tui.row_lines import GAP, Column, Row
from p2pcap_tui.words import Line, Span, number

SHOWN = 500
"""Rows that are shown; ctrl+e writes all of them to a file."""

CELL = 1_000
"""Characters of a value that a table keeps; p2pcap_tui.rows_table shows fewer still."""

WIDEST, NARROWEST = 40, 4
"""Columns that a column of the table may take, and takes at least."""

LONG = 0.5
"""Seconds from which on it is worth saying how long a query took."""

LOOKED_AT = 50
"""Rows by which a column's width is found."""

STARTS = (
    "SELECT key, caption FROM captions LIMIT 20",
    "SELECT author_name, rows, errors FROM contributors ORDER BY rows DESC",
    "SELECT sum(done) AS done, sum(images) AS images FROM chunks",
    "SELECT error, count(*) AS images FROM failures GROUP BY error ORDER BY images DESC",
    "SELECT name, address, rtt FROM peers ORDER BY rtt",
)
"""What stands in the history before somebody has asked anything."""


def text_of(value: object) -> str:
    """A value in a cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value[:CELL]
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)[:CELL]
    return str(value)


def is_number(value: object) -> bool:
    """Whether it stands to the right."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def columns_of(found: Found) -> list[Column]:
    """A column for each of the result's, as wide as its first values; a text at the end takes what room is left.
    Those that have no room are left out from the right: Enter shows a row with all of them."""
    columns: list[Column] = []
    needed = 2
    for place in range(len(found.columns)):
        column = _column(found, place)
        needed += column.width + GAP
        columns.append(column._replace(least=needed - GAP if place else 0))
    return columns


def row_lines(found: Found, place: int) -> list[Line]:
    """A whole row, a line for each column."""
    width = min(24, max(map(len, found.columns), default=0))
    values = zip(found.columns, found.rows[place], strict=True)
    return [
        [(f" {name[:width]:<{width}}  ", "accent"), ("NULL" if value is None else text_of(value), "")]
        for name, value in values
    ]


def _column(found: Found, place: int) -> Column:
    values = [row[place] for row in found.rows[:LOOKED_AT]]
    widest = max([len(found.columns[place]), *(len(text_of(value)) for value in values)])
    right = bool(values) and all(is_number(value) or value is None for value in values)
    width = max(NARROWEST, min(WIDEST, widest))
    return Column(found.columns[place], width, right=right, grows=not right and place == len(found.columns) - 1)


def rows_of(found: Found) -> list[Row]:
    """The first SHOWN rows; NULL is an empty cell."""
    return [Row(str(place), tuple(map(_cell, row))) for place, row in enumerate(found.rows[:SHOWN])]


def _cell(value: object) -> Span:
    return text_of(value), ""


def said_of(found: Found, seconds: float) -> Line:
    """How many rows there are, and whether that is all."""
    count = min(len(found.rows), SHOWN)
    took = f" in {seconds:.1f} s" if seconds >= LONG else ""
    told = f" {number(count)} row{'' if count == 1 else 's'}{took}"
    if found.truncated or len(found.rows) > SHOWN:
        return [(told, ""), (f"; there are more than {SHOWN}: ctrl+e writes all of them to a file", "warn")]
    return [(told, ""), ("; Enter: a whole row; ctrl+e writes them to a file", "dim")]


def fault_lines(message: str) -> list[Line]:
    """What the node said of a query that does not run: DuckDB points at the place, so lines and spaces are kept."""
    return [[(f" {line}", "bad" if not place else "")] for place, line in enumerate(message.splitlines() or [""])]


class History:
    """What was asked, the newest last; going through it keeps what was being typed."""

    def __init__(self, starts: Sequence[str] = STARTS, keep: int = 200) -> None:
        self._asked = [*starts]
        self._keep = keep
        self._at = len(self._asked)
        self._typed = ""

    def add(self, sql: str) -> None:
        """It was asked; asking it twice in a row is one."""
        if not self._asked or self._asked[-1] != sql:
            self._asked = [*self._asked, sql][-self._keep :]
        self._at, self._typed = len(self._asked), ""

    def go(self, by: int, typed: str) -> str:
        """The query before or after, where `typed` is what stands there now."""
        if self._at == len(self._asked):
            self._typed = typed
        self._at = max(0, min(len(self._asked), self._at + by))
        return self._asked[self._at] if self._at < len(self._asked) else self._typed
