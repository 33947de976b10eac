"""A row of a table as one line of the terminal. A line that looks as it did before is not made again: to make one costs
more than to draw it, and a page that scrolls or gets another height has the same rows.

Always holds: cells are cleaned, and no markup is read in them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeVar, overload

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from p2pcap.cli.output import clean
from p2pcap_tui.words import Span

T = TypeVar("T")

GAP = 2
"""Columns between two cells."""

SCROLLBAR = 2
"""Columns of the scrollbar, for which there is always room."""

MARK = "›"
"""Before the row that the cursor is on, where no colour tells it."""

KEPT = 1_000
"""Lines that are kept at most."""

ROW_STYLES = ("good", "warn", "bad", "dim", "strong", "accent")


class Column(NamedTuple):
    """A column `width` wide. `right`: its cells stand to the right; `grows`: it gets what room is left; it is left out
    on screens narrower than `least`. `sort` is what it is sorted by, if it can be."""

    title: str
    width: int
    right: bool = False
    grows: bool = False
    least: int = 0
    sort: str = ""


class Row(NamedTuple):
    """A row, known by `id`: its cells as text with a style's name (p2pcap_tui.words.STYLES)."""

    id: str
    cells: tuple[Span, ...]


class Rows(Sequence[Row]):
    """`first`, then a row for each of `things`, which `row` makes when it is looked at: of five hundred, forty are."""

    def __init__(self, first: Sequence[Row], things: Sequence[T], row: Callable[[T], Row]) -> None:
        self._first = first
        self._count = len(things)
        self._row = cache(lambda number: row(things[number]))

    def __len__(self) -> int:
        return len(self._first) + self._count

    @overload
    def __getitem__(self, number: int) -> Row: ...

    @overload
    def __getitem__(self, number: slice) -> list[Row]: ...

    def __getitem__(self, number: int | slice) -> Row | list[Row]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        return self._first[place] if place < len(self._first) else self._row(place - len(self._first))


class Place(NamedTuple):
    """Where a column is: its number among the cells, its width in this table."""

    cell: int
    width: int


def fitted(columns: Sequence[Column], width: int) -> list[Place]:
    """The columns that are shown in `width` beside the scrollbar, with the widths they get there."""
    shown = [number for number, column in enumerate(columns) if column.least <= width + SCROLLBAR]
    left = width - 2 - sum(columns[number].width + GAP for number in shown) + GAP
    growing = [number for number in shown if columns[number].grows]
    extra = {number: max(0, left) // len(growing) for number in growing}
    return [Place(number, columns[number].width + extra.get(number, 0)) for number in shown]


class Look(NamedTuple):
    """The styles of a table: of its ground, its head, the cursor's row, and of cells by the name of their style."""

    ground: Style
    head: Style
    cursor: Style
    cells: Mapping[str, Style]


class RowLines:
    """The lines of a table of these columns."""

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        self.columns = columns
        self.places = fitted(columns, width)
        self.width = width
        self._look: Look | None = None
        self._made: dict[Row, Strip] = {}

    def line(self, row: Row, look: Look) -> Strip:
        """A row without the cursor."""
        if look != self._look or len(self._made) >= KEPT:
            self._look, self._made = look, {}
        if row not in self._made:
            self._made[row] = self._strip(row, look.ground, look.cells, "  ")
        return self._made[row]

    def cursor(self, row: Row, look: Look) -> Strip:
        """The row that the cursor is on: one style for all its cells."""
        return self._strip(row, look.cursor, {}, f"{MARK} ")

    def head(self, sort: str, look: Look, *, down: bool) -> Strip:
        """The titles, an arrow at the one that is sorted by."""
        arrow = "↓" if down else "↑"
        titles = [one.title + (arrow if sort and one.sort == sort else "") for one in self.columns]
        return self._strip(Row("", tuple((title, "") for title in titles)), look.head, {}, "  ")

    def _strip(self, row: Row, ground: Style, styles: Mapping[str, Style], mark: str) -> Strip:
        segments = [Segment(mark, ground)]
        for place in self.places:
            text, style = row.cells[place.cell] if place.cell < len(row.cells) else ("", "")
            text = _cut(clean(text), place.width, right=self.columns[place.cell].right)
            segments.append(Segment(text, ground + styles[style] if style in styles else ground))
            segments.append(Segment(" " * GAP, ground))
        return Strip(segments).adjust_cell_length(self.width, ground)


def _cut(text: str, width: int, *, right: bool) -> str:
    """`text` in exactly `width` columns, what is cut off told by an ellipsis."""
    long = cell_len(text)
    if long > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width else ""
    return " " * (width - long) + text if right else text + " " * (width - long)
