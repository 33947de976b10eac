"""A table whose rows are drawn when they are looked at, so that ten thousand of them cost no more than twenty.

Always holds: a new list of rows draws only those lines anew that look different; the cursor stays on its row, whatever
comes before it.
"""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from p2pcap_tui.row_lines import GAP, ROW_STYLES, Column, Look, Row, RowLines
from p2pcap_tui.words import wrapped


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
        self._empty = empty
        self._lines = RowLines(tuple(columns), 80)
        self._look_now: Look | None = None
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
        if empty is not None and empty != self._empty:
            self._empty = empty
            self.refresh()
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
        self._empty, self.rows, self.cursor = empty, (), 0
        self._lines = RowLines(tuple(columns), self._room)
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
        look, width = self._look, self._room
        if self._lines.width != width:
            self._lines = RowLines(self._lines.columns, width)
        if y == 0:
            return self._lines.head(self._sorted[0], look, down=self._sorted[1])
        number = self.scroll_offset.y + y - 1
        if number >= len(self.rows):
            told = [] if self.rows else wrapped(self._empty, width)
            text = told[y - 2][0][0] if 2 <= y < 2 + len(told) else ""
            return Strip([Segment(set_cell_size(text, width), look.ground + look.cells["dim"])], width)
        return (self._lines.cursor if number == self.cursor else self._lines.line)(self.rows[number], look)

    def notify_style_update(self) -> None:
        """Another theme, or the focus came or went."""
        super().notify_style_update()
        self._look_now = None

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
        for place in self._lines.places:
            if start <= x < start + place.width and (sort := self._lines.columns[place.cell].sort):
                self.post_message(self.SortAsked(sort))
            start += place.width + GAP

    def _measure(self) -> None:
        """How far it scrolls. To lay out the whole screen for that, as Textual would, costs more than to draw it."""
        size = Size(self._room, len(self.rows) + 1)
        if size != self.virtual_size:
            self.set_reactive(RowsTable.virtual_size, size)
            self._scroll_update(size)

    def _follow(self) -> None:
        """Scroll so that the cursor can be seen."""
        page, top = max(1, self.size.height - 1), self.scroll_offset.y
        if not top <= self.cursor < top + page:
            to = self.cursor if self.cursor < top else self.cursor - page + 1
            self.scroll_to(y=to, animate=False, immediate=True)

    @property
    def _look(self) -> Look:
        """The styles as they are now. Textual works them out anew for each line that asks for them."""
        if self._look_now is None:
            ground, part = self.rich_style, self.get_component_rich_style
            cursor = ground + part("rows--cursor", partial=True)
            cells = {name: _colour(part(f"rows--{name}")) for name in ROW_STYLES}
            self._look_now = Look(ground, part("rows--head"), cursor, cells)
        return self._look_now


def _colour(full: Style) -> Style:
    """What a style is on whatever ground."""
    return Style(color=full.color, bold=full.bold or None)
