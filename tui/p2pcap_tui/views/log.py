"""The node's log as it grows: from a level on, with a text in it, at its end unless somebody scrolls up."""

import asyncio
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from p2pcap.paths import NodePaths
from p2pcap_tui.dialogs import Details
from p2pcap_tui.log_file import LEVELS, LogFile, Record
from p2pcap_tui.moment import Moment
from p2pcap_tui.row_lines import Column, Row
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.views.base import FilteredView
from p2pcap_tui.words import Line, number, painted

KEPT = 5_000
"""Records that are kept to look at."""

LEVEL_LEAST = 50
"""Columns of a screen from which on there is one for the level."""

COLUMNS = (
    Column("time", 8, least=60),
    Column("level", 7, least=LEVEL_LEAST),
    Column("event", 10, grows=True),
    Column("", 10, grows=True, least=70),
)

STYLES = {"debug": "dim", "info": "", "warning": "warn", "error": "bad"}
MARKS = {"debug": "d", "info": "i", "warning": "! warn", "error": "✗ error"}


def log_rows(records: Iterable[Record], level: str, sought: str, *, marked: bool = False) -> list[Row]:
    """The records that are serious enough and contain the text. `marked`: the sign of a warning or an error stands
    before what happened, because there is no room for the level."""
    least = LEVELS.index(level)
    return [
        _row(record, marked)
        for record in records
        if LEVELS.index(record.level) >= least and (not sought or record.contains(sought))
    ]


def _row(record: Record, marked: bool) -> Row:
    style, mark = STYLES[record.level], MARKS[record.level]
    event = f"{mark[0]} {record.event}" if marked and record.level in ("warning", "error") else record.event
    cells = ((record.clock, "dim"), (mark, style), (event, style), (record.fields, "dim"))
    return Row(str(record.number), cells)


def badge(level: str, shown: int, *, follows: bool, missed: int) -> Line:
    """The line below the records: from which level on, and whether new ones are followed."""
    tail = (" TAIL ", "good") if follows else (f" +{missed} new, f follows ", "warn")
    return [tail, (f" from {level} on (d i w e), {number(shown)} shown", "dim")]


class Log(FilteredView):
    """The table."""

    NAME, DIGIT, TITLE = "log", "6", "Log"
    ABOUT = "what the node writes into its log"

    DEFAULT_CSS = "Log > #badge { height: 1; dock: bottom; background: $panel; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow", tooltip="To the end, and stay there", id="follow"),
        *[
            Binding(level[0], f"level('{level}')", level.capitalize(), show=False, tooltip=f"From {level} on")
            for level in LEVELS
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.table = RowsTable(COLUMNS, empty="reading the log …")
        self.level = "info"
        self.follows = True
        self._records: deque[Record] = deque(maxlen=KEPT)
        self._file: LogFile | None = None
        self._reading: LogFile | None = None
        self._directory = ""
        self._missed = 0
        self._badge = Static(id="badge", markup=False)
        self._told: Line = ()

    def body(self) -> ComposeResult:
        """The table and the badge."""
        yield self.table
        yield self._badge

    def show(self, moment: Moment) -> None:
        """Read on."""
        directory = moment.snapshot.node.directory if moment.snapshot is not None else ""
        if directory and directory != self._directory:
            self._directory = directory
            self._file = LogFile(NodePaths(Path(directory)).log)
            self._records.clear()
        self._read()

    def filtered(self, sought: str) -> None:
        """Show what contains it."""
        self._draw()

    def on_resize(self) -> None:
        """Other room, other columns."""
        if self._records:
            self._draw()

    def action_level(self, level: str) -> None:
        """Show what is as serious, and more."""
        self.level = level
        self._draw()

    def action_follow(self) -> None:
        """To the end, and stay there."""
        self.follows, self._missed = True, 0
        self._draw()

    @work(group="log")
    async def _read(self) -> None:
        """Read on, unless that is being done. It is never broken off: what has been read comes only once."""
        file = self._file
        if file is None or file is self._reading:
            return
        self._reading = file
        try:
            new = await asyncio.to_thread(file.read)
        except OSError as error:
            self.table.show([], empty=f"The log cannot be read here: {error.strerror}. It is {file.path}.")
            return
        finally:
            if self._reading is file:
                self._reading = None
        if file is not self._file:
            return
        if new or not self.table.rows:
            self._records += new
            self._missed += 0 if self.follows else len(new)
            self._draw()

    def _draw(self) -> None:
        rows = log_rows(self._records, self.level, self.sought, marked=0 < self.size.width < LEVEL_LEAST)
        self.table.show(rows, empty="nothing that serious" if not self.sought else "nothing with that in it")
        if self.follows:
            self.table.move_to(len(rows) - 1)
        self._tell()

    def _tell(self) -> None:
        line = badge(self.level, len(self.table.rows), follows=self.follows, missed=self._missed)
        if line != self._told:
            self._told = line
            self._badge.update(painted([line]), layout=False)

    def on_rows_table_moved(self, event: RowsTable.Moved) -> None:
        """Whoever moves up wants to read; at the end it follows again."""
        at_end = self.table.cursor == len(self.table.rows) - 1
        if at_end != self.follows:
            self.follows, self._missed = at_end, 0
            self._tell()

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """The whole record."""
        record = next((record for record in self._records if str(record.number) == event.row.id), None)
        if record is not None:
            fields: list[Line] = [[(text, "")] for text in record.fields.split("  ")]
            self.ui.push_screen(Details(f"{record.time} {record.level}", [[(record.event, "strong")], [], *fields]))
