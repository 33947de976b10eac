"""What the keys of peers, contributors and log do, on canned snapshots."""

import asyncio
import json
import threading
import time
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot

from p2pcap.errors import NotRunningError, QueryError
from p2pcap.node.snapshot import ContributorPage, PeerPage
from p2pcap.paths import NodePaths
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.feed import Found
from p2pcap_tui.log_file import MAX_TEXT, READ, LogFile, Record, parsed
from p2pcap_tui.views.base import View
from p2pcap_tui.views.contributors import contributor_rows, lately, lately_rows
from p2pcap_tui.views.log import Log, badge, log_rows
from p2pcap_tui.views.peers import Seen, last_captions, moved, peer_rows
from tests.tui.canned import (
    HOSTILE,
    NOW,
    CannedClient,
    canned_ui,
    client_of,
    contributor,
    feed_of,
    peer,
    peer_id,
    piloted,
    settled,
    shown,
    snapshot,
)


def text_of(ui: TerminalUI) -> str:
    return "\n".join(shown(ui))


def test_peers_are_rows_with_this_node_on_top() -> None:
    page = PeerPage(1, 1, (peer(3, name=HOSTILE),))
    own, row = peer_rows(page, snapshot(), {peer_id(3): (2_000.0, 500.0)}, NOW)
    assert (own.id, own.cells[4][0]) == (peer_id(0), "this node")
    assert [text for text, _ in row.cells[4:8]] == ["relayed in", "40 ms", "2.0 kB", "500 B"]


def test_what_a_peer_moved_is_known_from_two_pages() -> None:
    before = Seen(NOW, PeerPage(2, 2, (peer(1, sent=100, received=1_000),)))
    after = Seen(NOW + 2, PeerPage(2, 2, (peer(1, sent=300, received=5_000), peer(2))))
    assert moved(before, after) == {peer_id(1): (2_000.0, 100.0)}
    assert moved(None, after) == {}
    assert moved(after, after) == {}


def test_peers_are_filtered_and_sorted_by_the_node() -> None:
    ui = canned_ui(snapshot(peers=40))

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("2", "slash", *"peer 3", "enter")
        await settled(pilot)
        assert client_of(ui).pages[-1] == ("peers", "", False, "peer 3")
        assert "peer 33" in text_of(ui)
        assert "peer 2 " not in text_of(ui)
        await pilot.press("s")
        await settled(pilot)
        assert client_of(ui).pages[-1] == ("peers", "name", False, "peer 3")
        await pilot.press("S")
        await settled(pilot)
        assert client_of(ui).pages[-1] == ("peers", "name", True, "peer 3")
        assert "name↓" in text_of(ui)
        await pilot.press("escape")
        await settled(pilot)
        assert client_of(ui).pages[-1] == ("peers", "name", True, "")
        await pilot.press("escape")
        assert ui.view.NAME == "overview"

    piloted(ui, use)


def test_details_of_a_peer_have_his_last_captions_and_markup_is_text() -> None:
    rows = Found([], [["a.jpg", "[red]a cat[/]\x1b[2J", None], ["b.jpg", None, "empty"]], False)
    ui = canned_ui(msgspec.structs.replace(snapshot(), peers=(peer(1, name=HOSTILE),)), rows=rows)

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await settled(pilot)
        await pilot.press("down", "enter")
        await settled(pilot)
        assert "a.jpg  [red]a cat[/][2J" in text_of(ui)
        assert "b.jpg  error: empty" in text_of(ui)
        assert "[2J]0;owned[bold red]mallory[/] $error yx" in text_of(ui)
        assert "\x1b" not in text_of(ui)
        await pilot.press("escape")
        assert len(ui.screen_stack) == 1

    piloted(ui, use, (120, 30))


def test_a_peer_id_with_a_quote_stays_in_its_quotes() -> None:
    assert "author = 'a''; DROP'" in last_captions("a'; DROP")


def test_a_node_that_does_not_answer_is_said_in_the_table() -> None:
    class Silent(CannedClient):
        def page(self, of: str, *, sort: str = "", down: bool = False, sought: str = "", most: int = 500) -> bytes:
            raise NotRunningError("The node ended while it was being asked.")

    ui = canned_ui(client=Silent(snapshot()))

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await settled(pilot)
        assert "The node ended while it was being asked." in text_of(ui)

    piloted(ui, use)


def test_contributors_are_rows_with_what_verifiers_found() -> None:
    page = ContributorPage(1, 1, (contributor(1), contributor(4)))
    first, second = contributor_rows(page, 200_000)
    texts = ["person 1", "…00000001", "50 000", "25.0 %", "1", "4 999", "1", "99.9 %", "45 000", "tier 1"]
    assert [text for text, _ in first.cells] == texts
    assert second.cells[0] == ("-", "dim")


def test_a_period_is_a_select_with_the_filter_bound_safely() -> None:
    sql = lately(3_600, NOW, "last", down=True, sought="50%_'")
    assert "time >= TIMESTAMP '2026-09-21 13:13:20'" in sql
    assert "ILIKE '%50\\%\\_''%' ESCAPE '\\'" in sql
    assert "ORDER BY last DESC, author LIMIT 500" in sql
    (row,) = lately_rows(Found([], [["a" * 12, "", 120, 2, "2026-09-21T13:20:01"]], False), 3_600)
    assert [text for text, _ in row.cells] == ["-", "…aaaaaaaa", "120", "2.0", "2", "13:20:01"]


def test_t_goes_through_the_periods() -> None:
    ui = canned_ui(rows=Found([], [[peer_id(3), "Ada", 600, 1, "2026-09-21T13:20:01"]], False))

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("5")
        await settled(pilot)
        assert "person 1" in text_of(ui)
        await pilot.press("t")
        await settled(pilot)
        assert "Ada" in text_of(ui)
        assert "a minute" in text_of(ui)
        await pilot.press("t", "t")
        await settled(pilot)
        assert len(feed_of(ui).asked) == 2
        assert "person 1" in text_of(ui)

    piloted(ui, use)


def test_a_query_that_fails_is_told_in_the_table() -> None:
    ui = canned_ui()

    async def fails(sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        raise QueryError("The query took too long.")

    feed_of(ui).select = fails  # type: ignore[method-assign]

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("5", "t")
        await settled(pilot)
        assert "The query took too long." in text_of(ui)

    piloted(ui, use)


def record(event: str, level: str = "info", **fields: object) -> str:
    return json.dumps({"level": level, "event": event, "timestamp": "2026-11-23T12:00:00Z", **fields}) + "\n"


def test_a_line_of_the_log_is_a_record_whatever_is_in_it() -> None:
    one = parsed(1, record("claimed", chunk=3).strip())
    assert (one.clock, one.level, one.event, one.fields) == ("12:00:00", "info", "claimed", "chunk=3")
    assert parsed(2, "no json \x1b[2J").event == "no json \x1b[2J"
    assert parsed(3, "[1, 2]").event == "[1, 2]"
    assert parsed(4, '{"level": "CRITICAL", "event": 7}')[2:4] == ("error", "7")
    assert len(parsed(5, "x" * 10_000).event) == MAX_TEXT
    long = parsed(6, record("image not fetched", "error", key="x" * 2 * MAX_TEXT).strip())
    assert (long.clock, long.level, long.event, len(long.fields)) == (
        "12:00:00",
        "error",
        "image not fetched",
        MAX_TEXT,
    )
    assert parsed(7, "[" * 100_000).event == "[" * MAX_TEXT
    assert parsed(8, '{"timestamp": "some time", "event": "x"}').time == "some time"


def test_the_logs_times_are_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-05:45")
    time.tzset()
    assert parsed(1, record("claimed").strip()).time == "2026-11-23 17:45:00"


def test_a_log_is_read_as_it_grows_and_from_the_start_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    path.write_text(record("one") + record("two")[:10])
    log = LogFile(path)
    assert [one.event for one in log.read()] == ["one"]
    with path.open("a") as file:
        file.write(record("two")[10:])
    assert [one.event for one in log.read()] == ["two"]
    assert log.read() == []
    path.write_text(record("new"))
    assert [one.event for one in log.read()] == ["new"]


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    path.write_text("".join(record(f"event {n}") for n in range(20_000)))
    assert path.stat().st_size > 2 * READ
    events = [one.event for one in LogFile(path).read()]
    assert events[-1] == "event 19999"
    assert 1_000 < len(events) < 20_000
    assert all(event.startswith("event ") for event in events)


def test_records_are_shown_from_a_level_on_and_with_a_text() -> None:
    records = [parsed(n, record(f"event {n}", level).strip()) for n, level in enumerate(["debug", "info", "error"])]
    assert [row.cells[2][0] for row in log_rows(records, "info", "")] == ["event 1", "event 2"]
    assert [row.cells[1][0] for row in log_rows(records, "debug", "EVENT 2")] == ["✗ error"]
    marked = log_rows([*records, parsed(3, record("event 3", "warning"))], "info", "", marked=True)
    assert [row.cells[2][0] for row in marked] == ["event 1", "✗ event 2", "! event 3"]
    assert badge("info", 2, follows=False, missed=3)[0] == (" +3 new, f follows ", "warn")


def with_log(folder: Path, *lines: str) -> TerminalUI:
    NodePaths(folder).log.write_text("".join(lines))
    made = snapshot()
    return canned_ui(msgspec.structs.replace(made, node=msgspec.structs.replace(made.node, directory=str(folder))))


def test_the_log_follows_until_somebody_scrolls_up(tmp_path: Path) -> None:
    ui = with_log(tmp_path, *[record(f"event {n}") for n in range(60)])

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("6")
        await settled(pilot)
        assert "event 59" in text_of(ui)
        assert " TAIL " in text_of(ui)
        await pilot.press("home")
        await pilot.pause()
        with NodePaths(tmp_path).log.open("a") as file:
            file.write(record("the newest", peer=HOSTILE))
        ui.view.show(ui.moment)
        await settled(pilot)
        assert "+1 new, f follows" in text_of(ui)
        assert "the newest" not in text_of(ui)
        await pilot.press("f")
        await pilot.pause()
        assert "the newest" in text_of(ui)
        assert "\x1b" not in text_of(ui)
        await pilot.press("w")
        await pilot.pause()
        assert "nothing that serious" in text_of(ui)

    piloted(ui, use)


def test_a_read_that_nobody_waits_for_any_more_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ui, read, calls = with_log(tmp_path, record("only once")), LogFile.read, []
    begun, go = threading.Event(), threading.Event()

    def slow(file: LogFile) -> list[Record]:
        calls.append(file)
        begun.set()
        go.wait()
        return read(file)

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("6")
        await asyncio.to_thread(begun.wait)
        ui.view.show(ui.moment)
        await pilot.press("1")
        go.set()
        await settled(pilot)
        assert len(calls) == 1, "one thread at a time"
        await pilot.press("6")
        await settled(pilot)
        assert "only once" in text_of(ui)

    monkeypatch.setattr(LogFile, "read", slow)
    piloted(ui, use)


def test_on_a_narrow_screen_a_sign_tells_the_level(tmp_path: Path) -> None:
    ui = with_log(tmp_path, record("image not fetched", "error"))

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("6")
        await settled(pilot)
        assert "✗ image not fetched" in text_of(ui)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "✗ error  image not fetched" in text_of(ui)

    piloted(ui, use, (40, 12))


def test_a_log_that_is_not_here_is_said(tmp_path: Path) -> None:
    ui = with_log(tmp_path)
    NodePaths(tmp_path).log.unlink()

    async def use(pilot: Pilot[None]) -> None:
        await pilot.press("6")
        await settled(pilot)
        assert "The log cannot be read here: No such file" in text_of(ui)
        assert isinstance(ui.view, Log)

    piloted(ui, use)


@pytest.mark.parametrize("name", ["peers", "contributors", "log", "overview"])
def test_every_view_opens_before_the_first_snapshot(name: str) -> None:
    ui = canned_ui()
    feed_of(ui).snapshots = ()

    async def use(pilot: Pilot[None]) -> None:
        ui.action_open(name)
        await settled(pilot)
        assert shown(ui)[0] == " p2pcap · ◌ connecting"

    piloted(ui, use)


def test_a_screen_that_shows_nothing_is_none() -> None:
    class Blank(View):
        NAME = "blank"

    with pytest.raises(TypeError, match=r"abstract method '?show"):
        Blank()  # type: ignore[abstract]
