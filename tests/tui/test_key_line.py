"""The last line: keys that are worth knowing, and what a click on one does."""

from textual.binding import Binding
from textual.pilot import Pilot

from p2pcap_tui.key_line import KeyLine, key_at, key_line, worth_showing
from tests.tui.canned import canned_ui, client_of, piloted, settled, shown

KEYS = [Binding("slash", "filter", "Filter", key_display="/"), Binding("p,P", "pause", "Pause")]


def test_a_column_is_a_key() -> None:
    text = "".join(part for part, _ in key_line(KEYS))
    assert text == " / Filter  p,P Pause  "
    keys = [key_at(KEYS, column) for column in range(len(text))]
    assert keys == [None, *["slash"] * 8, None, None, *["p"] * 9, None, None]


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
