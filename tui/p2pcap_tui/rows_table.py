"""A table whose rows are drawn when they are looked at, so that ten thousand of them cost no more than twenty.

Always holds: cells are cleaned, and no markup is read in them; a new list of rows draws only those lines anew that
look different; the cursor stays on its row, whatever comes before it.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from p2pcap.cli.output import clean
from p2pcap_tui.words import Span

GAP = 2
"""Columns between two cells."""

SCROLLBAR = 2
"""Columns of the scrollbar, for which there is always room."""

MARK = "›"
"""Before the row that the cursor is on, where no colour tells it."""

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


class RowsTable(ScrollView, can_focus=True):
    """The table. Up and down move the cursor, Enter chooses, a click on a head asks to sort by its column."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--head",
        "rows--cursor",
        *(f"rows--{style}" for style in ROW_STYLES),
    }

    DEFAULT_CSS = """
    RowsTable { height: 1fr; background: $background; scrollbar-size-horizontal: 0; scrollbar-gutter: stable; }
    RowsTable > .rows--head { text-style: bold; background: $panel; color: $foreground-muted; }
    RowsTable > .rows--cursor { background: $surface-lighten-1; text-style: bold; }
    RowsTable:focus > .rows--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
    RowsTable > .rows--good { color: $text-success; }
    RowsTable > .rows--warn { color: $text-warning; }
    RowsTable > .rows--bad { color: $text-error; text-style: bold; }
    RowsTable > .rows--dim { color: $foreground-muted; }
    RowsTable > .rows--strong { text-style: bold; }
    RowsTable > .rows--accent { color: $text-accent; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Row above", show=False),
        Binding("down,j", "move(1)", "Row below", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First row", show=False),
        Binding("end,G", "edge(1)", "Last row", show=False),
        Binding("enter", "choose", "Details", show=False),
    ]

    class Chosen(Message):
        """Enter on a row, or a click on the one with the cursor."""

        def __init__(self, row: Row) -> None:
            self.row = row
            super().__init__()

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, row: Row) -> None:
            self.row = row
            super().__init__()

    class SortAsked(Message):
        """A click on the head of a column that can be sorted by."""

        def __init__(self, sort: str) -> None:
            self.sort = sort
            super().__init__()

    def __init__(self, columns: Sequence[Column], *, empty: str = "", id: str | None = None) -> None:
        """A table without rows, which says `empty` meanwhile."""
        super().__init__(id=id)
        self.rows: Sequence[Row] = ()
        self.cursor = 0
        self._columns = tuple(columns)
        self._empty = empty
        self._places = fitted(self._columns, 80)
        self._sorted = ("", False)

    @property
    def _room(self) -> int:
        """Columns beside the scrollbar."""
        return self.scrollable_content_region.width

    @property
    def row(self) -> Row | None:
        """The one that the cursor is on."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def show(self, rows: Sequence[Row], *, sort: str = "", down: bool = False, empty: str | None = None) -> None:
        """Show `rows` from now on; `sort` and `down` are what the head says of their order."""
        before, at, place = self.rows, self.row, self.cursor
        self.rows = rows
        if empty is not None:
            self._empty = empty
        if at is not None and self.row != at:
            self.cursor = next((n for n, row in enumerate(rows) if row.id == at.id), min(self.cursor, len(rows) - 1))
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        if self.cursor != place:
            self._follow()
        if len(before) != len(rows) or self._sorted != (sort, down):
            self._sorted = sort, down
            self._measure()
            self.refresh()
            return
        top = self.scroll_offset.y
        for line in range(self.size.height - 1):
            place = top + line
            if place < len(rows) and (rows[place] != before[place] or rows[place] is at):
                self.refresh(Region(0, line + 1, self.size.width, 1))

    def set_columns(self, columns: Sequence[Column], *, empty: str = "") -> None:
        """Show other columns, without rows yet."""
        self._columns, self._empty, self.rows, self.cursor = tuple(columns), empty, (), 0
        self._places = fitted(self._columns, self._room)
        self._measure()
        self.scroll_to(y=0, animate=False, immediate=True)
        self.refresh()

    def move_to(self, number: int) -> None:
        """Put the cursor on row `number`, or the nearest there is."""
        number = max(0, min(number, len(self.rows) - 1))
        if number == self.cursor or not self.rows:
            return
        self.cursor = number
        self._follow()
        self.call_after_refresh(self._follow)  # rows that came just now can be scrolled to only then
        self.refresh()
        self.post_message(self.Moved(self.rows[number]))

    def render_line(self, y: int) -> Strip:
        """The line at `y` of the window, the head above all."""
        width = self._room
        if y == 0:
            return self._head(width)
        number = self.scroll_offset.y + y - 1
        if number >= len(self.rows):
            text = f" {clean(self._empty)}" if not self.rows and y == 2 else ""
            return Strip([Segment(set_cell_size(text, width), self.rich_style + self._style("dim"))], width)
        return self._line(self.rows[number], width, self.rich_style, cursor=number == self.cursor)

    def action_move(self, by: int) -> None:
        """The cursor up or down."""
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        """The cursor by a page."""
        self.move_to(self.cursor + by * max(1, self.size.height - 2))

    def action_edge(self, which: int) -> None:
        """The cursor to the first or the last row."""
        self.move_to(0 if which < 0 else len(self.rows) - 1)

    def action_choose(self) -> None:
        """Choose the row."""
        if self.row is not None:
            self.post_message(self.Chosen(self.row))

    def on_resize(self) -> None:
        """Columns come and go with the room there is."""
        self._places = fitted(self._columns, self._room)
        self._measure()
        self._follow()

    def on_click(self, event: Click) -> None:
        """The head sorts, a row takes the cursor, and is chosen when it has it."""
        if event.y == 0:
            self._sort_at(event.x)
            return
        number = self.scroll_offset.y + event.y - 1
        if number == self.cursor:
            self.action_choose()
        elif number < len(self.rows):
            self.move_to(number)

    def _sort_at(self, x: int) -> None:
        start = 2
        for place in self._places:
            if start <= x < start + place.width and (sort := self._columns[place.cell].sort):
                self.post_message(self.SortAsked(sort))
            start += place.width + GAP

    def _measure(self) -> None:
        self.virtual_size = Size(self._room, len(self.rows) + 1)

    def _follow(self) -> None:
        """Scroll so that the cursor can be seen."""
        page, top = max(1, self.size.height - 1), self.scroll_offset.y
        if not top <= self.cursor < top + page:
            to = self.cursor if self.cursor < top else self.cursor - page + 1
            self.scroll_to(y=to, animate=False, immediate=True)

    def _head(self, width: int) -> Strip:
        sort, down = self._sorted
        cells = []
        for column in self._columns:
            arrow = ("↓" if down else "↑") if sort and column.sort == sort else ""
            cells.append((column.title + arrow, ""))
        return self._line(Row("", tuple(cells)), width, self.get_component_rich_style("rows--head"), cursor=False)

    def _line(self, row: Row, width: int, base: Style, *, cursor: bool) -> Strip:
        if cursor:
            base = base + self.get_component_rich_style("rows--cursor", partial=True)
        segments = [Segment(f"{MARK} " if cursor else "  ", base)]
        for place in self._places:
            text, style = row.cells[place.cell] if place.cell < len(row.cells) else ("", "")
            text = _cut(clean(text), place.width, right=self._columns[place.cell].right)
            segments.append(Segment(text, base if cursor or not style else base + self._style(style)))
            segments.append(Segment(" " * GAP, base))
        return Strip(segments).adjust_cell_length(width, base)

    def _style(self, name: str) -> Style:
        full = self.get_component_rich_style(f"rows--{name}")
        return Style(color=full.color, bold=full.bold or None)


def _cut(text: str, width: int, *, right: bool) -> str:
    """`text` in exactly `width` columns, what is cut off told by an ellipsis."""
    long = cell_len(text)
    if long > width:
        return set_cell_size(text, max(0, width - 1)) + "…" if width else ""
    return " " * (width - long) + text if right else text + " " * (width - long)
