"""A screen that shows a page of a long list: the node sorts and filters it, this asks for it now and then.

Always holds: one question at a time; a key asks at once and breaks off an older question.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.worker import Worker

from p2pcap.errors import P2pcapError
from p2pcap_tui.moment import Moment
from p2pcap_tui.row_lines import Column, Row
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.views.base import FilteredView

MOST = 500
"""Rows that are shown; the filter finds the others."""


class PagedView(FilteredView):
    """A table of such a page. `EVERY` is how many seconds a page is shown before it is asked for anew, `DOWN` what is
    sorted with the greatest first."""

    COLUMNS: ClassVar[tuple[Column, ...]]
    EVERY: ClassVar[float]
    DOWN: ClassVar[frozenset[str]] = frozenset()

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "Sort", tooltip="Sort by the next column"),
        Binding("S", "reverse", "Reverse", show=False, tooltip="Sort the other way round"),
        Binding("r", "ask_now", "Refresh", show=False, tooltip="Ask the node now"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.table = RowsTable(self.COLUMNS, empty="asking the node …")
        self.orders = [column.sort for column in self.COLUMNS if column.sort]
        self.sort = ""
        self.down = False
        self._asked_at = 0.0
        self._question: Worker[None] | None = None

    def body(self) -> ComposeResult:
        """The table."""
        yield self.table

    @abstractmethod
    async def rows(self) -> Sequence[Row]:
        """Ask for the page as `sort`, `down` and `sought` want it. Raises P2pcapError."""

    def show(self, moment: Moment) -> None:
        """Ask anew when it is time."""
        busy = self._question is not None and self._question.is_running
        if moment.trouble:
            self.table.show(self.table.rows, sort=self.sort, down=self.down, empty=moment.trouble)
        elif not busy and not 0 <= moment.now - self._asked_at < self.EVERY:
            self.action_ask_now()

    def opened(self) -> None:
        """What was shown before is too old."""
        self._asked_at = 0.0

    def closed(self) -> None:
        """Nobody waits for the answer."""
        if self._question is not None:
            self._question.cancel()

    def filtered(self, sought: str) -> None:
        """Ask for what contains it."""
        self.action_ask_now()

    def action_ask_now(self) -> None:
        """Ask, whatever is asked already."""
        self._asked_at = self.moment.now
        self._question = self._ask()

    def action_sort(self) -> None:
        """By the next column."""
        place = self.orders.index(self.sort) + 1 if self.sort in self.orders else 0
        self.sort_by(self.orders[place % len(self.orders)])

    def action_reverse(self) -> None:
        """The other way round."""
        self.down = not self.down
        self.action_ask_now()

    def sort_by(self, sort: str) -> None:
        """By that column; the same again turns it round."""
        self.down = not self.down if sort == self.sort else sort in self.DOWN
        self.sort = sort
        self.action_ask_now()

    def on_rows_table_sort_asked(self, event: RowsTable.SortAsked) -> None:
        """A click on a head."""
        self.sort_by(event.sort)

    @work(exclusive=True, group="page", exit_on_error=True)
    async def _ask(self) -> None:
        try:
            rows = await self.rows()
        except P2pcapError as error:
            self.table.show(self.table.rows, sort=self.sort, down=self.down, empty=str(error))
            return
        none = "nobody is called so" if self.sought else "nobody yet"
        self.table.show(rows, sort=self.sort, down=self.down, empty=none)
