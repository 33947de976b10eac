"""The table: columns that fit, rows drawn when they are looked at, a cursor that stays."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from textual._compositor import Compositor, ReflowResult
from textual.app import App, ComposeResult
from textual.geometry import Size
from textual.pilot import Pilot
from textual.widget import Widget

from p2pcap_tui.row_lines import Column, Place, Row, Rows, fitted
from p2pcap_tui.rows_table import RowsTable
from tests.tui.canned import HOSTILE

COLUMNS = (Column("name", 6, grows=True, sort="name"), Column("n", 6, right=True, sort="n"), Column("far", 9, least=60))


def rows(numbers: list[int]) -> list[Row]:
    return [Row(f"id{n}", ((f"name {n}", ""), (str(n), "good"), ("x", "dim"))) for n in numbers]


class Tables(App[None]):
    """A table and what it said."""

    def __init__(self) -> None:
        super().__init__()
        self.table = RowsTable(COLUMNS, empty="nothing here")
        self.said: list[object] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        self.said.append(event.row.id)

    def on_rows_table_sort_asked(self, event: RowsTable.SortAsked) -> None:
        self.said.append(event.sort)

    def lines(self) -> list[str]:
        return [self.table.render_line(y).text.rstrip() for y in range(self.table.size.height)]


def on_table(use: Callable[[Tables, Pilot[None]], Awaitable[None]]) -> None:
    async def run() -> None:
        app = Tables()
        async with app.run_test(size=(40, 8)) as pilot:
            await use(app, pilot)

    asyncio.run(run())


@pytest.mark.parametrize("width", range(12, 200))
def test_columns_fit(width: int) -> None:
    places = fitted(COLUMNS, width)
    assert [place.cell for place in places] == ([0, 1, 2] if width >= 58 else [0, 1])
    if width >= 18:
        assert 2 + sum(place.width + 2 for place in places) - 2 == width


def test_only_what_grows_gets_the_room() -> None:
    assert fitted(COLUMNS, 40) == [Place(0, 30), Place(1, 6)]


def test_keys_move_and_choose_and_the_cursor_stays_on_its_row() -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        app.table.show(rows(list(range(100))))
        await pilot.press("end", "up", "enter")
        assert app.said == ["id98"]
        await pilot.press("home", "j", "j")
        app.table.show(rows([50, 7, 2, 1, 9]))
        assert (app.table.cursor, app.lines()[3][:8]) == (2, "› name 2")
        app.table.show(rows([7]))
        assert app.table.row == rows([7])[0]
        await pilot.press("pagedown", "enter")
        assert app.said == ["id98", "id7"]

    on_table(use)


def test_a_page_scrolls_so_that_the_cursor_is_seen() -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        app.table.show(rows(list(range(100))))
        await pilot.press("pagedown", "pagedown")
        assert any(line.startswith(f"› name {app.table.cursor}") for line in app.lines())
        assert app.lines()[0].split() == ["name", "n"]

    on_table(use)


def test_without_rows_it_says_so() -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        assert app.lines()[2] == " nothing here"
        await pilot.press("down", "enter", "end")
        assert app.said == []

    on_table(use)


def test_a_click_on_a_head_sorts_and_one_on_a_row_takes_the_cursor() -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        app.table.show(rows([3, 4, 5]))
        await pilot.click(RowsTable, offset=(4, 0))
        await pilot.click(RowsTable, offset=(4, 3))
        assert app.table.cursor == 2
        await pilot.click(RowsTable, offset=(4, 3))
        await pilot.click(RowsTable, offset=(4, 7))
        assert app.said == ["name", "id5"]

    on_table(use)


def test_only_lines_that_look_different_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        app.table.show(rows([3, 4, 5]))
        drawn: list[int] = []
        monkeypatch.setattr(Widget, "refresh", lambda self, *regions, **_: drawn.extend(one.y for one in regions))
        app.table.show(rows([3, 4, 5]))
        assert drawn == []
        app.table.show([*rows([3, 4]), Row("id5", (("other", ""), ("5", ""), ("", "")))])
        assert drawn == [3]

    on_table(use)


def test_hostile_cells_are_cleaned_and_cut() -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        app.table.show([Row("x", ((HOSTILE, "bad"), ("漢字漢字漢字", ""), ("", "")))])
        line = app.table.render_line(1)
        assert line.text.startswith("› [2J]0;owned[bold red]mallor…  漢字 …")
        assert "\x1b" not in line.text
        assert "\u202e" not in line.text
        assert line.cell_length == 38

    on_table(use)


def test_what_is_said_without_rows_is_folded_and_drawn_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        told = "The node is not running. Start it with p2pcap join; this window finds it again."
        drawn: list[object] = []
        monkeypatch.setattr(Widget, "refresh", lambda self, *regions, **_: drawn.append(self))
        app.table.show([], empty=told)
        assert drawn == [app.table]
        lines = app.lines()[2:]
        assert " ".join(line.strip() for line in lines).strip() == told
        assert all(line.startswith(" ") for line in lines if line)

    on_table(use)


def test_another_number_of_rows_lays_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        app.table.show(rows(list(range(100))))
        await pilot.pause()
        laid: list[object] = []
        real = Compositor.reflow

        def reflow(self: Compositor, parent: Widget, size: Size) -> ReflowResult:
            laid.append(parent)
            return real(self, parent, size)

        monkeypatch.setattr(Compositor, "reflow", reflow)
        app.table.show(rows(list(range(90))))
        await pilot.pause()
        assert laid == []
        await pilot.press("end")
        assert app.lines()[-1].startswith("› name 89")

    on_table(use)


def test_rows_are_made_when_they_are_looked_at() -> None:
    made: list[int] = []

    def row(number: int) -> Row:
        made.append(number)
        return rows([number])[0]

    lazy = Rows(rows([7]), range(500), row)
    assert len(lazy) == 501
    assert made == []
    assert [lazy[0], lazy[1], lazy[1], lazy[-1], *lazy[2:4]] == rows([7, 0, 0, 499, 1, 2])
    assert made == [0, 499, 1, 2]
    with pytest.raises(IndexError):
        lazy[501]


def test_a_line_is_made_once_until_it_looks_different(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(app: Tables, pilot: Pilot[None]) -> None:
        app.table.show(rows([3, 4, 5]))
        before = [app.table.render_line(y) for y in (2, 3)]
        app.table.show(rows([5, 4, 3]))
        assert app.table.render_line(2) is before[0]
        app.theme = "textual-light"
        await pilot.pause()
        after = app.table.render_line(2)
        assert after.text == before[0].text
        assert list(after) != list(before[0])
        await pilot.resize_terminal(30, 8)
        assert app.table.render_line(2).cell_length == 28

    on_table(use)
