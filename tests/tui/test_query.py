"""The screen for SQL: what is typed, what comes, what goes into a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from p2pcap.store.readers import Readers
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.feed import Found, SocketFeed
from p2pcap_tui.query_words import CELL, SHOWN, STARTS, History, columns_of, fault_lines, rows_of, said_of, text_of
from tests.tui.canned import HOSTILE, NOW, piloted, press
from tests.tui.stored import stored, stored_ui, written
from tests.unit.control_node import path_of, running, runtime

__all__ = ["runtime"]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    with stored(tmp_path_factory.mktemp("query")) as found:
        yield found


async def type_in(pilot: Pilot[None], id: str, text: str) -> str:
    """Put `text` into a box at once, and press Enter."""
    pilot.app.query_one(f"#{id}", Input).value = text
    return await press(pilot, "enter")


def test_a_query_and_its_rows(readers: Readers) -> None:
    ui = stored_ui(readers)

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "7")
        text = await type_in(pilot, "query-sql", "SELECT author_name, rows FROM contributors ORDER BY rows DESC")
        assert "2 rows" in text
        assert "author_name" in text
        assert "› Ada" in text
        assert "mallory" in text
        assert not {"\x1b", "\x07", "\u202e"} & set(text)

    piloted(ui, use)


def test_a_whole_row_has_the_columns_that_found_no_room(readers: Readers) -> None:
    ui = stored_ui(readers)

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "7")
        text = await type_in(pilot, "query-sql", "SELECT * FROM captions ORDER BY chunk, item")
        assert "author_name" not in text
        text = await press(pilot, "escape", "enter")
        assert "finish" in text
        await press(pilot, "down")
        assert "photos/000/00001.png" in text_of_row(ui)
        assert "author_name" in text_of_row(ui)
        assert "file" in text_of_row(ui)
        assert "NULL" in text_of_row(ui)
        assert ui.view.has_class("-row")
        await press(pilot, "escape")
        assert not ui.view.has_class("-row")

    piloted(ui, use)


def text_of_row(ui: TerminalUI) -> str:
    return str(ui.query_one("#query-row Static", Static).content)


def test_errors_are_shown_as_told_and_the_rows_before_stay(readers: Readers) -> None:
    ui = stored_ui(readers)

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "7")
        await type_in(pilot, "query-sql", "SELECT 4711 AS number")
        text = await type_in(pilot, "query-sql", "SELECT nope FROM captions")
        assert "does not run" in text
        assert "nope" in text
        assert "Candidate bindings" in text
        assert "4711" in text
        assert "Only one SELECT" in await type_in(pilot, "query-sql", "DELETE FROM statement")

    piloted(ui, use)


def test_at_most_so_many_rows_are_shown_and_it_says_so(readers: Readers) -> None:
    ui = stored_ui(readers)

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "7")
        text = await type_in(pilot, "query-sql", "SELECT range AS n FROM range(501)")
        assert "500 rows" in text
        assert "there are more than 500: ctrl+e" in text

    piloted(ui, use)


def test_up_and_down_go_through_what_was_asked(readers: Readers) -> None:
    ui = stored_ui(readers)

    async def use(pilot: Pilot[None]) -> None:
        box = ui.query_one("#query-sql", Input)
        await press(pilot, "7", *"SE", "up")
        assert box.value == STARTS[-1]
        await press(pilot, "up", "down", "down")
        assert box.value == "SE"
        await press(pilot, "escape", "slash", *"x")
        assert box.value == "SEx"
        await press(pilot, "escape", "escape")
        assert ui.view.NAME == "overview"

    piloted(ui, use)


@pytest.mark.usefixtures("runtime")
def test_a_result_goes_into_a_file_through_a_real_node(tmp_path: Path) -> None:
    with running(tmp_path / "node", written()):
        ui = TerminalUI(SocketFeed(lambda: path_of(tmp_path / "node")), clock=lambda: NOW)

        async def use(pilot: Pilot[None]) -> None:
            await press(pilot, "7")
            await press(pilot, "ctrl+e")
            assert [one.message for one in ui._notifications] == ["run a query first"]
            assert "64 rows" in await type_in(pilot, "query-sql", "SELECT key FROM captions WHERE chunk = 0")
            await press(pilot, "ctrl+e")
            for name, told in (("keys.csv", "wrote"), ("keys.csv", "exists already"), ("keys.exe", "should end in")):
                await press(pilot, "ctrl+e")
                text = await type_in(pilot, "query-file", str(tmp_path / name))
                assert told in " ".join(text.split())
            await press(pilot, "ctrl+e")
            assert "there is no such user" in await type_in(pilot, "query-file", "~nosuchuser/keys.csv")

        piloted(ui, use)
    assert len((tmp_path / "keys.csv").read_text().splitlines()) == 65


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    found = Found(["n", "text", "empty"], [[1, "x" * 90, None], [None, "y", None]], False)
    assert [(column.title, column.width, column.right, column.grows) for column in columns_of(found)] == [
        ("n", 4, True, False), ("text", 40, False, False), ("empty", 5, True, False),
    ]  # fmt: skip
    assert columns_of(Found([], [], False)) == []


def test_values_as_cells() -> None:
    values = [None, True, 1.5, HOSTILE, ["a", 1], {"k": "v"}, "x" * 2 * CELL]
    assert [text_of(value)[:12] for value in values] == [
        "", "True", "1.5", HOSTILE[:12], '["a", 1]', '{"k": "v"}', "x" * 12,
    ]  # fmt: skip
    assert len(text_of(values[-1])) == CELL
    assert len(rows_of(Found(["n"], [[n] for n in range(SHOWN + 9)], False))) == SHOWN
    assert "more than" in said_of(Found(["n"], [[1]], True), 0.1)[1][0]
    assert said_of(Found(["n"], [[1]], False), 0.1)[0][0] == " 1 row"
    assert said_of(Found(["n"], [[1]], False), 2.0)[0][0] == " 1 row in 2.0 s"
    assert [line[0][0] for line in fault_lines("no\nLINE 1: x\n        ^")] == [" no", " LINE 1: x", "         ^"]
    assert len(fault_lines("")) == 1


def test_the_history_is_bounded_and_keeps_what_was_being_typed() -> None:
    history = History((), keep=3)
    assert history.go(-1, "typed") == "typed"
    for sql in ("1", "2", "2", "3", "4"):
        history.add(sql)
    assert [history.go(-1, "t") for _ in range(4)] == ["4", "3", "2", "2"]
    assert [history.go(1, "t") for _ in range(4)] == ["3", "4", "t", "t"]
