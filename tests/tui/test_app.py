"""The app: verbs, help, palette, sizes, colours, what is said of a node that is gone."""

import os

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from p2pcap.errors import ConfigError
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap_tui import verbs
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.feed import Arrived, Gone
from p2pcap_tui.header import header_line
from p2pcap_tui.moment import STALE, Memory, Moment
from p2pcap_tui.state import STATES, state_of
from p2pcap_tui.words import STYLES, bar, number, share, sparkline
from tests.tui.canned import (
    HOSTILE,
    NOW,
    CannedClient,
    CannedFeed,
    canned_ui,
    client_of,
    history,
    piloted,
    settled,
    shown,
    snapshot,
)


def in_state(state: str, why: str = "", until: float | None = None) -> NodeSnapshot:
    made = snapshot()
    return replace(made, node=replace(made.node, state=state, state_why=why, paused_until=until))


def said(ui: TerminalUI) -> list[str]:
    return [note.message for note in ui._notifications]


def test_states_differ_by_glyph_and_word_and_not_by_colour_alone() -> None:
    found = [state_of(Moment(NOW, in_state(state))) for state in STATES]
    assert len({state.glyph for state in found}) == len(STATES) == len({state.word for state in found})
    assert {state.style for state in found} <= set(STYLES)
    paused = state_of(Moment(NOW, in_state("paused", "you paused it", NOW + 5_400)))
    assert paused.why == "you paused it; goes on in 1h 30m"
    assert state_of(Moment(NOW, replace(in_state("working"), connected=0))).word == "working, no peers"
    assert state_of(Moment(NOW, None, "gone")).word == "not connected"


@pytest.mark.parametrize("width", range(1, 160))
def test_the_header_fits(width: int) -> None:
    line = header_line(Moment(NOW, snapshot()), width)
    text = "".join(part for part, _ in line)
    assert "● working" in text
    assert len(text) <= max(width, len(" ● working"))


def test_numbers_are_written_for_people() -> None:
    assert number(1921004) == "1 921 004"
    assert share(1, 3) == "33.3 %"
    assert share(99_999, 100_000) == "99.9 %"
    assert share(5, 5) == "100.0 %"
    assert share(0, 0) == "0.0 %"
    assert bar(1, 2, 4) == "██░░"
    assert bar(5, 16, 4) == "█▎░░"
    assert bar(9, 3, 2) == "██"
    assert sparkline([0.0, 1.0, 2.0, 4.0], 3) == "▃▅█"
    assert sparkline([0.0, 0.0], 9) == "▁▁"
    assert sparkline([], 9) == sparkline([1.0], 0) == ""


def test_the_swarms_rate_is_how_its_rows_grow() -> None:
    memory = Memory()
    for one in history(snapshot(), 10):
        memory.add(one)
        memory.add(one)
    assert memory.rates_of()[1][-1] == pytest.approx(118, abs=5)


def test_p_pauses_and_goes_on_and_f_finishes() -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await settled(pilot)
        ui.on_arrived(Arrived(in_state("paused", "you paused it")))
        await pilot.press("p", "F")
        await settled(pilot)
        assert client_of(ui).told == ["pause None", "resume", "finish"]
        assert said(ui)[0] == "paused; p goes on"

    piloted(ui, use)


@pytest.mark.parametrize(("key", "told"), [("n", []), ("escape", []), ("enter", []), ("y", ["stop"])])
def test_stopping_is_asked_first(key: str, told: list[str]) -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("Q")
        await pilot.pause()
        await pilot.press(key)
        await settled(pilot)
        assert client_of(ui).told == told

    piloted(ui, use)


def test_what_the_node_refuses_is_said_in_its_words() -> None:
    class Observer(CannedClient):
        def pause(self, seconds: float | None = None) -> float | None:
            raise ConfigError(f"This node is no volunteer: {HOSTILE}")

    ui = canned_ui(client=Observer(snapshot()))

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await settled(pilot)
        assert said(ui) == ["This node is no volunteer: [2J]0;owned[bold red]mallory[/] $error yx"]
        assert "mallory[/]" in "".join(shown(ui))

    piloted(ui, use, (120, 30))


def test_the_palette_has_every_view_and_verb() -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        titles = [command.title for command in ui.get_system_commands(ui.screen)]
        assert {verb.title for verb in verbs.VERBS} < set(titles)
        assert {"Open overview", "Open peers"} < set(titles)
        await pilot.press("ctrl+p")
        await pilot.press(*"half an hour")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert client_of(ui).told == ["pause 1800.0"]

    piloted(ui, use)


def test_the_help_lists_the_keys_of_the_view_it_is_asked_on() -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("5", "question_mark")
        await settled(pilot)
        text = "\n".join(shown(ui))
        assert "Since ever, the last day, the last hour" in text
        await pilot.press("escape")
        assert ui.view.NAME == "contributors"

    piloted(ui, use, (100, 40))


def test_a_node_that_says_nothing_or_is_gone_comes_back() -> None:
    now = [NOW]
    ui = TerminalUI(CannedFeed(snapshot()), clock=lambda: now[0])

    async def use(pilot: Pilot[None]) -> None:
        now[0] += STALE + 0.1
        ui._look()
        await pilot.pause()
        assert "✗ no answer" in shown(ui)[0]
        ui.post_message(Gone("The node is not running."))
        await pilot.pause()
        assert "✗ not running" in shown(ui)[0]
        assert "1 921 004 / 5 000 000" in "\n".join(shown(ui))
        ui.on_arrived(Arrived(snapshot()))
        await pilot.pause()
        assert "● working" in shown(ui)[0]

    piloted(ui, use)


@pytest.mark.parametrize(("size", "too_small"), [((39, 24), True), ((80, 11), True), ((40, 12), False)])
def test_a_terminal_that_is_too_small_shows_one_line_of_status(size: tuple[int, int], too_small: bool) -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        text = "\n".join(shown(ui))
        assert "● working" in text
        assert ("too small" in text) == too_small

    piloted(ui, use, size)


def test_without_colour_everything_is_said_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        assert "● working" in shown(ui)[0]
        colours = {
            segment.style.color.triplet
            for strip in ui.screen._compositor.render_strips()
            for segment in strip.apply_filter(ui._filters[-1], ui.background_colors[1])
            if segment.style is not None and segment.style.color is not None and segment.style.color.triplet
        }
        assert colours
        assert all(triplet.red == triplet.green == triplet.blue for triplet in colours)

    piloted(ui, use)


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark", "nord"])
def test_other_themes_show_it_too(theme: str) -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        ui.theme = theme
        for key in ("2", "5", "1"):
            await pilot.press(key)
            await settled(pilot)
        assert "● working" in shown(ui)[0]

    piloted(ui, use)


def test_it_ends_quietly_when_the_terminal_is_another_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        found = []
        for other in (0, 1):
            monkeypatch.setattr(os, "tcgetpgrp", lambda fd, other=other: os.getpgrp() + other)
            ui._look()
            ui._exception = AssertionError("Driver must be in application mode")
            found.append((ui._exit, ui.defect is None))
            ui._exception = None
        assert found == [(False, False), (True, True)]

    piloted(ui, use)


def test_a_snapshot_that_comes_while_the_app_closes_is_not_drawn() -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        await ui.query("View").remove()
        ui.post_message(Arrived(snapshot()))
        await pilot.pause()

    piloted(ui, use)
