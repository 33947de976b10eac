"""The first screen, as values and on the screen."""

from textual.pilot import Pilot

from p2pcap.node.snapshot import ProjectInfo
from p2pcap_tui.feed import GONE, Arrived, Gone
from p2pcap_tui.moment import Moment
from p2pcap_tui.views.overview import overview
from p2pcap_tui.words import Line, painted
from tests.tui.canned import HOSTILE, NOW, canned_ui, piloted, shown, snapshot


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


def test_the_page_has_what_status_says() -> None:
    text = text_of(overview(Moment(NOW, snapshot(), swarm=(118.0,)), 80))
    assert "1 921 004 / 5 000 000" in text
    assert "38.4 %" in text
    assert "ETA 7h 14m" in text
    assert "612 / 1 000   ETA 2m 1s   lease 18m 5s" in text
    assert "41 engines ready  118.0 img/s" in text
    assert "tier 2; 3 990 found right, 4 wrong" in text


def test_before_the_project_is_here_only_its_name_is_shown() -> None:
    text = text_of(overview(Moment(NOW, snapshot(project=ProjectInfo("Shapes", "ab" * 32))), 80))
    assert "Shapes  not received yet" in text
    assert "Done" not in text


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    content = painted([[(HOSTILE, "strong")]])
    assert content.plain == "[2J]0;owned[bold red]mallory[/] $error yx"
    assert [str(span.style) for span in content.spans] == ["bold"]


def test_the_app_shows_it_and_says_when_the_node_is_gone() -> None:
    ui = canned_ui()

    async def use(pilot: Pilot[None]) -> None:
        assert shown(ui)[0] == " p2pcap · Shapes · manifest v7 ✓signed · ● working · 14 peers · 3.2 img/s"
        assert any("1 921 004 / 5 000 000" in line for line in shown(ui))
        ui.post_message(Gone("The node is not running."))
        await pilot.pause()
        assert "✗ not running" in shown(ui)[0]
        ui.post_message(Arrived(snapshot()))
        await pilot.pause()
        assert "● working" in shown(ui)[0]

    piloted(ui, use)


def test_why_the_node_is_silent_is_told_in_full_on_a_narrow_screen() -> None:
    for before in (None, snapshot()):
        lines = overview(Moment(NOW, before, GONE), 40)
        told = [line for line in lines if line and (part := line[-1][0].strip()) and part in GONE]
        assert " ".join(line[-1][0].strip() for line in told) == GONE
        assert all(sum(len(text) for text, _ in line) <= 40 for line in told)
