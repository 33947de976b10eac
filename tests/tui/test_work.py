"""The screen of the work: the map, the claims, who did a chunk."""

from collections.abc import Iterator

import pytest
from textual.pilot import Pilot

from p2pcap.errors import ConfigError
from p2pcap.store.readers import Readers
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.chunk_grid import ChunkGrid
from p2pcap_tui.feed import Arrived
from p2pcap_tui.rows_table import RowsTable
from tests.tui.canned import canned_ui, piloted, press, snapshot
from tests.tui.stored import Twin, stored, stored_ui


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    with stored(tmp_path_factory.mktemp("work")) as found:
        yield found


def grid(ui: TerminalUI) -> ChunkGrid:
    return ui.query_one(ChunkGrid)


def test_the_map_the_claims_and_their_leases() -> None:
    ui = canned_ui(client=Twin())

    async def use(pilot: Pilot[None]) -> None:
        lines = (await press(pilot, "3")).splitlines()
        text = "\n".join(lines)
        for part in (
            "caption (1 of 2): chunk 0 of 10 500",
            "· free 1 500",
            "c claimed 3 000",
            "v checked 1 500",
            "x failed 1 500",
        ):
            assert part in text
        assert any(line.startswith("vcd·cx-vcd·cx-") for line in lines)
        assert "attic (this node)" in text
        assert "12/64" in text
        assert "at work" in text
        assert "[2J]0;owned[bold…" in text, "a stranger's name is text"
        assert "\x1b" not in text
        assert "late" in text

    piloted(ui, use)


def test_arrows_move_and_enter_says_who_did_it(readers: Readers) -> None:
    ui = stored_ui(readers, Twin())

    async def use(pilot: Pilot[None]) -> None:
        text = await press(pilot, "3", "enter")
        assert "Chunk 0  caption  checked" in text
        assert "0–63" in text
        assert "Ada" in text
        text = await press(pilot, "right")
        assert "Chunk 1  caption  claimed" in text
        assert "claimed by attic" in text
        assert "[bold red]mallory[/]" in text
        assert "2 images" in text
        await press(pilot, "end")
        assert grid(ui).chunk == 10_499
        await press(pilot, "down", "right")
        assert grid(ui).chunk == 10_499
        await press(pilot, "home", "up", "left")
        assert grid(ui).chunk == 0
        text = await press(pilot, "escape")
        assert ui.view.NAME == "work"
        assert "attic (this node)" in text
        await press(pilot, "escape")
        assert ui.view.NAME == "overview"

    piloted(ui, use)


def test_enter_on_a_claim_opens_its_chunk(readers: Readers) -> None:
    ui = stored_ui(readers, Twin())

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "3", "m", "m")
        assert isinstance(ui.focused, RowsTable)
        text = await press(pilot, "down", "enter")
        assert "Chunk 4  caption  claimed" in text
        assert grid(ui).chunk == 4

    piloted(ui, use, (80, 30))


@pytest.mark.parametrize(
    ("size", "shows"), [((80, 30), ["both", "map", "table", "both"]), ((80, 18), ["map", "table", "map"])]
)
def test_m_goes_through_what_there_is_room_for(size: tuple[int, int], shows: list[str]) -> None:
    ui = canned_ui(client=Twin())

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "3")
        seen = []
        for _ in shows:
            table, cells = ui.query_one("#work-claims").size.height, grid(ui).size.height
            seen.append("both" if table and cells else "map" if cells else "table")
            await press(pilot, "m")
        assert seen == shows

    piloted(ui, use, size)


def test_all_chunks_at_once_and_another_stage() -> None:
    ui = canned_ui(client=Twin())

    async def use(pilot: Pilot[None]) -> None:
        text = await press(pilot, "3", "z")
        assert " a cell" in text
        assert grid(ui).cells.height <= grid(ui).size.height
        assert grid(ui).cells.total == 10_500
        text = await press(pilot, "right_square_bracket")
        assert "tags (2 of 2)" in text
        assert "··········" in text
        assert "claims, none on this stage" in text

    piloted(ui, use)


def test_a_node_that_cannot_answer_says_why_and_is_asked_again() -> None:
    twin = Twin()
    twin.map_error = ConfigError("The node has not got its project yet.")
    ui = canned_ui(client=twin)

    async def use(pilot: Pilot[None]) -> None:
        text = await press(pilot, "3")
        assert "has not got its project yet" in text
        twin.map_error = None
        ui.post_message(Arrived(snapshot()))
        await pilot.pause()
        text = await press(pilot)
        assert "free 1 500" in text

    piloted(ui, use)


def test_a_closed_screen_asks_nothing() -> None:
    twin = Twin()
    ui = canned_ui(client=twin)

    async def use(pilot: Pilot[None]) -> None:
        assert twin.maps == 0
        await press(pilot, "3")
        assert twin.maps == 1
        await press(pilot, "1")
        assert not ui.query_one("Work").workers._workers or all(worker.is_finished for worker in ui.workers)

    piloted(ui, use)


@pytest.mark.parametrize("size", [(40, 12), (200, 60)])
def test_it_fits(size: tuple[int, int]) -> None:
    ui = canned_ui(client=Twin())

    async def use(pilot: Pilot[None]) -> None:
        lines = (await press(pilot, "3")).splitlines()
        assert len(lines) == size[1]
        assert any("vcd·cx-" in line for line in lines)

    piloted(ui, use, size)
