"""The seventh screen: one SELECT over the node's tables, and its result.

 SQL ▸ SELECT author_name, rows FROM contributors ORDER BY rows DESC
 2 rows in 0.01 s; ctrl+e writes them to a file
  author_name   rows
› Ada             64
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from p2pcap.errors import P2pcapError
from p2pcap.node.client import Client
from p2pcap.paths import expanded
from p2pcap_tui.feed import Found
from p2pcap_tui.moment import Moment
from p2pcap_tui.query_words import SHOWN, History, columns_of, fault_lines, row_lines, rows_of, said_of
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.views.base import View
from p2pcap_tui.words import Line, painted

MAX_SQL = 65_536
"""Characters of a query (p2pcap.store.query)."""

SECONDS = 60.0
"""How long a query may take; Esc breaks it off before."""

HELP = " one SELECT; the tables are in docs/sql.md; ↑ ↓ go through what was asked; DESCRIBE captions tells the columns"


class SqlBox(Input):
    """Where SQL is typed. Up and down go through the history."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "history(-1)", "Query before", show=False),
        Binding("down", "history(1)", "Next query", show=False),
        Binding("ctrl+e", "export", "To a file"),  # an Input's own would go to the end of the line
    ]

    class ExportAsked(Message):
        """ctrl+e was pressed in the box."""

    def __init__(self, go: Callable[[int, str], str]) -> None:
        super().__init__(
            placeholder="SELECT …", max_length=MAX_SQL, compact=True, select_on_focus=False, id="query-sql"
        )
        self._go = go

    def action_history(self, by: int) -> None:
        """Another of the queries that were asked."""
        self.value = self._go(by, self.value)
        self.cursor_position = len(self.value)

    def action_export(self) -> None:
        """What the screen does with ctrl+e."""
        self.post_message(self.ExportAsked())


class Query(View):
    """The box, the result, and the name of a file for it."""

    NAME, DIGIT, TITLE = "query", "7", "Query"
    ABOUT = "SQL over the captions and all else that the node holds, read-only"

    DEFAULT_CSS = """
    Query #query-sql, Query #query-file { height: 1; border: none; padding: 0 1; }
    Query #query-file { display: none; background: $panel; }
    Query.-export #query-file { display: block; }
    Query #query-said { height: auto; max-height: 8; }
    Query #query-said Static { width: 1fr; }
    Query #query-rows { height: 1fr; }
    Query #query-row { height: 1fr; border-top: solid $panel; display: none; }
    Query.-row #query-row { display: block; }
    Query #query-row Static { width: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+e", "export", "To a file", tooltip="Write all rows to a .parquet, .csv or .jsonl", id="query-file"
        ),
        Binding("slash", "type", "Type", key_display="/", show=False, tooltip="Back to the SQL", id="query-type"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._history = History()
        self._sql = ""
        self._box = SqlBox(self._history.go)
        self._file = Input(
            placeholder="captions.parquet, .csv or .jsonl: Enter writes it", compact=True, id="query-file"
        )
        self._said = Static(painted([[(HELP, "dim")]]), markup=False)
        self._rows = RowsTable((), id="query-rows")
        self._row = Static(markup=False)
        self._found = Found([], [], False)

    def compose(self) -> ComposeResult:
        """The box, what is said of the result, and the result."""
        yield self._box
        yield self._file
        with VerticalScroll(id="query-said", can_focus=False):
            yield self._said
        yield self._rows
        with VerticalScroll(id="query-row", can_focus=False):
            yield self._row

    def show(self, moment: Moment) -> None:
        """Nothing of a moment is shown here."""

    def first_focus(self) -> Widget:
        """The box, until there are rows."""
        return self._rows if self._rows.rows else self._box

    def closed(self) -> None:
        """A running query is broken off; a file goes on being written."""
        self.workers.cancel_group(self, "query")

    def escape(self) -> bool:
        """Close the name of the file; break off the query; leave the box."""
        if self.has_class("-export"):
            self.remove_class("-export")
            self._box.focus()
            return True
        if self.has_class("-row"):
            self.remove_class("-row")
            return True
        if any(worker.group == "query" and worker.node is self for worker in self.workers if not worker.is_finished):
            self.workers.cancel_group(self, "query")
            self._say([[(" broken off", "warn")]])
            return True
        if self._box.has_focus:
            self._rows.focus()
            return True
        return False

    def action_type(self) -> None:
        """Back to the SQL."""
        self._box.focus()

    def action_export(self) -> None:
        """Ask for the name of a file."""
        if not self._sql and not self._box.value.strip():
            self.ui.say("run a query first", bad=True)
            return
        self.add_class("-export")
        self._file.focus()

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """A whole row, with the columns that have no room above."""
        event.stop()
        self.toggle_class("-row")
        self._row.update(painted(row_lines(self._found, int(event.row.id))))

    def on_rows_table_moved(self, event: RowsTable.Moved) -> None:
        """An open row follows the cursor."""
        event.stop()
        if self.has_class("-row"):
            self._row.update(painted(row_lines(self._found, int(event.row.id))))

    def on_sql_box_export_asked(self, event: SqlBox.ExportAsked) -> None:
        """As ctrl+e elsewhere."""
        event.stop()
        self.action_export()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter: run the query, or write the file."""
        event.stop()
        text = event.value.strip()
        if event.input is self._box and text:
            self._sql = text
            self._history.add(text)
            self._run(text)
        elif event.input is self._file and text:
            self.remove_class("-export")
            self._box.focus()
            self._write(self._sql or self._box.value.strip(), text)

    @work(exclusive=True, group="query")
    async def _run(self, sql: str) -> None:
        self._say([[(" running; Esc breaks it off", "dim")]])
        started = time.monotonic()
        try:
            found = await self.feed.select(sql, SHOWN, SECONDS)
        except P2pcapError as error:
            self._say(fault_lines(str(error)))
            return
        self._found = found
        self.remove_class("-row")
        self._rows.set_columns(columns_of(found), empty="no rows")
        self._rows.show(rows_of(found))
        self._say([said_of(found, time.monotonic() - started)])

    @work(group="file")
    async def _write(self, sql: str, name: str) -> None:
        self._say([[(f" writing {name} …", "dim")]])
        try:
            path = expanded(name)
            told = await self.feed.ask(lambda client: write(client, sql, path))
        except P2pcapError as error:
            self._say(fault_lines(str(error)))
            return
        self._say([[(f" {told}", "good")]])

    def _say(self, lines: list[Line]) -> None:
        self._said.update(painted(lines))


def write(client: Client, sql: str, path: Path) -> str:
    """Write a query's rows to a new file, as `p2pcap query --to` does; returns what to say of it. On a thread.

    Raises ConfigError when the file is there or its name says no format, QueryError.
    """
    from p2pcap.cli.query_files import check_name, write_rows
    from p2pcap.cli.rows import ALL_ROWS, ALL_SECONDS, Streamed

    check_name(path)
    rows = Streamed(client.query(sql, ALL_ROWS, ALL_SECONDS))
    count = write_rows(rows, path, force=False)
    return f"wrote {path}: {count} rows" + ("; there are more: ask for less at a time" if rows.truncated else "")
