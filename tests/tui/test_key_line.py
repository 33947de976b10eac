"""The last line: keys that are worth knowing, and what a click on one does."""

from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import Input

from p2pcap_tui.key_line import KeyLine, key_at, key_line, places, worth_showing
from tests.tui.canned import canned_ui, client_of, piloted, settled, shown

KEYS = [Binding("slash", "filter", "Filter", key_display="/"), Binding("p,P", "pause", "Pause")]
OPENING = [Binding("1", "open('one')", "One", id="one"), Binding("2", "open('two')", "Two", id="two")]


def line(width: int) -> str:
    return "".join(part for part, _ in key_line(places(KEYS, OPENING, "two", width)))


def test_a_column_is_a_key() -> None:
    held = places(KEYS, OPENING, "two", 40)
    assert line(40) == " / Filter  p,P Pause      1 One [2 Two]"
    keys = [found.key if (found := key_at(held, column)) else None for column in range(40)]
    assert keys == [None, *["slash"] * 8, *[None] * 2, *["p,P"] * 9, *[None] * 6, *["1"] * 5, None, *["2"] * 7, None]


def test_of_the_screens_as_much_is_shown_as_there_is_room_for() -> None:
    """The open one is in brackets: no state is told by its colour alone."""
    keys = " / Filter  p,P Pause"
    assert line(36) == f"{keys}  1 One [2 Two]"
    assert line(35) == f"{keys}     1 [2 Two]"
    assert line(32) == f"{keys}  1 [2 Two]"
    assert line(31) == f"{keys}   [2 Two]"
    assert line(30) == f"{keys}  [2 Two]"
    assert line(29) == keys


def test_only_what_is_to_be_shown_is() -> None:
    hidden = Binding("x", "nothing", "Nothing", show=False)
    assert worth_showing([hidden, *KEYS], []) == KEYS


def test_a_click_is_as_good_as_the_key_and_each_view_has_its_own() -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        assert "Filter" not in shown(ui)[-1]
        await pilot.press("2")
        await settled(pilot)
        column = shown(ui)[-1].index("p Pause")
        await pilot.click(KeyLine, offset=(column, 0))
        await settled(pilot)
        assert client_of(ui).told == ["pause None"]
        await pilot.click(KeyLine, offset=(shown(ui)[-1].index("Filter"), 0))
        await pilot.pause()
        assert ui.focused is ui.query_one("#peers").query_one("FilterBar")

    piloted(ui, use)


def test_a_click_on_a_screen_opens_it_and_none_is_a_letter_of_what_is_being_typed() -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        assert shown(ui)[-1].endswith("[1 Overview] 2 3 4 5 6 7 8")
        await pilot.click(KeyLine, offset=(shown(ui)[-1].index(" 7 ") + 1, 0))
        await settled(pilot)
        assert "[7 Query]" in shown(ui)[-1]
        editor = ui.focused
        assert isinstance(editor, Input)
        before = editor.value
        await pilot.click(KeyLine, offset=(shown(ui)[-1].index("p Pause"), 0))
        await settled(pilot)
        assert client_of(ui).told == ["pause None"]
        await pilot.click(KeyLine, offset=(shown(ui)[-1].index("2"), 0))
        await settled(pilot)
        assert "[2 Peers]" in shown(ui)[-1]
        assert editor.value == before

    piloted(ui, use)
