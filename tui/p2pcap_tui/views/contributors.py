"""The leaderboard: who made how much, since ever or lately, and what verifiers found of it."""

import datetime
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from textual.binding import Binding, BindingType

from p2pcap.node.client import Client
from p2pcap.node.snapshot import ContributorInfo, ContributorPage
from p2pcap_tui.dialogs import Details
from p2pcap_tui.feed import Found
from p2pcap_tui.row_lines import Column, Row, Rows
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.views.paged import MOST, PagedView
from p2pcap_tui.words import Line, number, share, short

COLUMNS = (
    Column("name", 8, grows=True, sort="name"),
    Column("key", 9, least=60, sort="peer"),
    Column("rows", 10, right=True, sort="rows"),
    Column("share", 7, right=True, least=70),
    Column("errors", 7, right=True, least=90, sort="errors"),
    Column("right", 8, right=True, least=100, sort="right"),
    Column("wrong", 7, right=True, least=80, sort="wrong"),
    Column("verified", 8, right=True),
    Column("unchecked", 10, right=True, least=112, sort="unchecked"),
    Column("tier", 10, least=48, sort="tier"),
)

LATELY_COLUMNS = (
    Column("name", 8, grows=True, sort="name"),
    Column("key", 9, least=56, sort="peer"),
    Column("rows", 10, right=True, sort="rows"),
    Column("a minute", 9, right=True, least=50),
    Column("errors", 7, right=True, least=60, sort="errors"),
    Column("last", 9, right=True, least=40, sort="last"),
)

PERIODS = {"all": 0, "day": 86_400, "hour": 3_600}
"""What `t` goes through, in seconds; 0: since ever."""

ORDERS = {"name": "author_name", "peer": "author", "rows": "rows", "errors": "errors", "last": "last"}


def contributor_rows(page: ContributorPage, done: int) -> Rows:
    """The table's rows; `done` is what everybody made together."""
    return Rows((), page.rows, lambda one: _row(one, done))


def _row(one: ContributorInfo, done: int) -> Row:
    standing = one.standing
    checked = standing.passed + standing.failed
    return Row(
        one.peer_id,
        (
            (one.name or "-", "" if one.name else "dim"),
            (short(one.peer_id), "dim"),
            (number(one.rows), ""),
            (share(one.rows, done), "dim"),
            (number(one.errors), ""),
            (number(standing.passed), ""),
            (number(standing.failed), "bad" if standing.failed else ""),
            (share(standing.passed, checked) if checked else "", "warn" if standing.failed else "good"),
            (number(standing.unchecked), "dim"),
            tier(one),
        ),
    )


def tier(one: ContributorInfo) -> tuple[str, str]:
    """How far he is trusted, in a word."""
    return ("quarantine", "bad") if one.standing.quarantined else (f"tier {one.standing.tier}", "")


def lately(seconds: int, now: float, sort: str, *, down: bool, sought: str) -> str:
    """The SELECT for who made how much in the last `seconds` before `now`, by the authors' own clocks."""
    since = datetime.datetime.fromtimestamp(now - seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    text = sought.replace("'", "''").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    called = f" AND (author_name ILIKE '%{text}%' ESCAPE '\\' OR author ILIKE '%{text}%' ESCAPE '\\')" if text else ""
    return (
        "SELECT author, any_value(author_name) AS author_name, count(*) AS rows, count(error) AS errors, "
        f"max(time) AS last FROM captions WHERE time >= TIMESTAMP '{since}'{called} GROUP BY author "
        f"ORDER BY {ORDERS.get(sort, 'rows')} {'DESC' if down else 'ASC'}, author LIMIT {MOST}"
    )


def lately_rows(found: Found, seconds: int) -> list[Row]:
    """The table's rows for a period."""
    return [
        Row(
            str(author),
            (
                (str(name) or "-", "" if name else "dim"),
                (short(str(author)), "dim"),
                (number(_count(rows)), ""),
                (f"{60 * _count(rows) / seconds:.1f}", ""),
                (number(_count(errors)), ""),
                (str(last)[11:19], "dim"),
            ),
        )
        for author, name, rows, errors, last in found.rows
    ]


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def details(one: ContributorInfo) -> list[Line]:
    """Everything about one contributor."""
    standing = one.standing
    told = [
        ("name", one.name or "none chosen"),
        ("key", one.peer_id),
        ("rows", f"{number(one.rows)}, {number(one.errors)} of them errors"),
        ("captions", f"{number(standing.captions)} signed, {number(standing.checked)} checked"),
        ("found", f"{standing.passed} right, {standing.failed} wrong, {standing.unsure} unsure"),
        ("unchecked", number(standing.unchecked)),
        ("trust", tier(one)[0]),
        *([("why", standing.why)] if standing.why else []),
    ]
    return [[(f"{label:<12}", "dim"), (text, "")] for label, text in told]


class Contributors(PagedView):
    """The table."""

    NAME, DIGIT, TITLE = "contributors", "5", "Contributors"
    ABOUT = "who made how much, and what verifiers found of it"
    COLUMNS, EVERY = COLUMNS, 5.0
    DOWN = frozenset({"rows", "errors", "right", "wrong", "unchecked", "tier", "last"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "period", "Period", tooltip="Since ever, the last day, the last hour", id="period"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.sort, self.down = "rows", True
        self.period = "all"
        self._page = ContributorPage(0, 0, ())

    async def rows(self) -> Sequence[Row]:
        """A page of contributors, or what a SELECT finds of the period."""
        seconds = PERIODS[self.period]
        if seconds:
            sql = lately(seconds, self.moment.now, self.sort, down=self.down, sought=self.sought)
            return lately_rows(await self.feed.select(sql, MOST), seconds)
        sort, down, sought = self.sort, self.down, self.sought

        def question(client: Client) -> ContributorPage:
            page = client.page("contributors", sort=sort, down=down, sought=sought, most=MOST)
            return msgspec.json.decode(page, type=ContributorPage)

        self._page = await self.feed.ask(question)
        snapshot = self.moment.snapshot
        return contributor_rows(self._page, snapshot.project.captions + snapshot.project.errors if snapshot else 0)

    def action_period(self) -> None:
        """The next one."""
        names = list(PERIODS)
        self.period = names[(names.index(self.period) + 1) % len(names)]
        columns = LATELY_COLUMNS if PERIODS[self.period] else COLUMNS
        self.orders = [column.sort for column in columns if column.sort]
        self.sort, self.down = "rows", True
        self.table.set_columns(columns, empty=f"asking the node: {self.period} …")
        self.ui.say({"all": "since ever", "day": "the last 24 hours", "hour": "the last hour"}[self.period])
        self.action_ask_now()

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """Details of the contributor."""
        one = next((one for one in self._page.rows if one.peer_id == event.row.id), None)
        if one is not None:
            self.ui.push_screen(Details(one.name or one.peer_id, details(one)))
