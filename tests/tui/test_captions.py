"""The screen of captions: the list, one in full, what is sought, the image."""

from collections.abc import Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from p2pcap.errors import NotRunningError, P2pcapError, QueryError, SourceError
from p2pcap.store.readers import Readers
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.caption_words import Caption, address, caption_page, caption_row, state
from p2pcap_tui.feed import GONE, Found
from p2pcap_tui.half_cells import UPPER
from p2pcap_tui.views.captions import Captions
from p2pcap_tui.words import painted
from tests.tui.canned import HOSTILE, NOW, CannedFeed, piloted, press, snapshot
from tests.tui.stored import StoredFeed, Twin, stored, stored_ui

CAPTION = Caption(
    "photos/1.png", 0, 1, "ab" * 32, "caption", ["describe", "objects"], ["a circle", "circle"], "", "", "Ada",
    "12D3KooWada", 1_790_000_000, None, False, False, False, None, None,
)  # fmt: skip


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    with stored(tmp_path_factory.mktemp("captions")) as found:
        yield found


def test_the_newest_and_one_of_them_in_full(readers: Readers) -> None:
    ui = stored_ui(readers, Twin())

    async def use(pilot: Pilot[None]) -> None:
        text = await press(pilot, "4")
        assert "› " in text
        assert "a red circle 0/63 / circle" in text
        assert "describe: a red circle 0/63" in text
        assert "objects: circle" in text
        assert "describe: a red circle 0/62" in await press(pilot, "n")
        assert "describe: a red circle 0/63" in await press(pilot, "N")
        text = await press(pilot, "end")
        assert "! undecodable: the bytes are no image" in text

    piloted(ui, use)


def test_a_text_is_sought_and_a_hostile_one_shown_as_text(readers: Readers) -> None:
    ui = stored_ui(readers, Twin())

    async def use(pilot: Pilot[None]) -> None:
        text = await press(pilot, "4", "slash", *"MALLORY", "enter")
        assert "a caption with [2J]0;owned[bold red]mallory[/]" in text
        assert "a red circle 0/" not in text
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        text = await press(pilot, "slash", "'", "%")
        assert "no caption, image or author with" in text
        await press(pilot, "escape")
        assert "a red circle 0/63" in await press(pilot)
        assert ui.view.NAME == "captions"

    piloted(ui, use)


def test_no_image_is_shown_before_somebody_asks(readers: Readers) -> None:
    twin = Twin()
    ui = stored_ui(readers, twin)

    async def use(pilot: Pilot[None]) -> None:
        assert UPPER not in await press(pilot, "4", "down", "down")
        assert twin.images == []
        assert UPPER * 20 in await press(pilot, "v")
        assert len(twin.images) == 1
        assert UPPER * 20 in await press(pilot, "down")
        assert len(twin.images) == 2
        assert UPPER not in await press(pilot, "escape")
        await press(pilot, "down")
        assert len(twin.images) == 2
        await press(pilot, "v")
        await press(pilot, "1")
        assert UPPER not in await press(pilot, "4")

    piloted(ui, use)


def test_an_image_that_is_not_there_is_said_to_be_so(readers: Readers) -> None:
    twin = Twin()
    twin.image_error = SourceError("The image is not on this machine, and no peer hands it over.")
    ui = stored_ui(readers, twin)

    async def use(pilot: Pilot[None]) -> None:
        assert "not on this machine" in await press(pilot, "4", "v")

    piloted(ui, use, (100, 30))


def test_a_caption_is_copied_without_what_a_shell_would_act_on(readers: Readers) -> None:
    ui = stored_ui(readers, Twin())

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "4", "slash", *"mallory", "enter", "y")
        assert ui.clipboard.startswith("a caption with [2J]0;owned[bold red]mallory[/]")

    piloted(ui, use)


class Refusing(CannedFeed):
    async def select(self, sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        raise QueryError("The query was broken off after 10 s.")


def test_a_search_that_takes_too_long_says_so() -> None:
    ui = TerminalUI(Refusing(snapshot()), clock=lambda: NOW)

    async def use(pilot: Pilot[None]) -> None:
        assert "broken off after 10 s" in await press(pilot, "4")

    piloted(ui, use)


def test_newer_captions_come_by_themselves_unless_something_is_sought(readers: Readers) -> None:
    ui = stored_ui(readers, Twin())

    async def use(pilot: Pilot[None]) -> None:
        feed = ui.feed
        assert isinstance(feed, StoredFeed)
        await press(pilot, "4")
        ui.query_one(Captions)._look_again()
        await press(pilot)
        asked = len(feed.asked)
        ui.query_one(Captions)._look_again()
        await press(pilot)
        assert len(feed.asked) == asked, "nothing is new"

    piloted(ui, use)


class Away(StoredFeed):
    """A feed whose node can be away."""

    error: P2pcapError | None = None

    async def select(self, sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        if self.error is not None:
            raise self.error
        return await super().select(sql, rows, seconds)


@pytest.mark.parametrize("sought", ["", "circle"])
def test_captions_stay_while_the_node_is_away_and_are_looked_for_when_it_is_back(readers: Readers, sought: str) -> None:
    feed = Away(readers)
    ui = TerminalUI(feed, clock=lambda: NOW)

    async def use(pilot: Pilot[None]) -> None:
        feed.error = NotRunningError(GONE)
        ui.query_one(Captions).sought = sought
        assert "The node is not running" in await press(pilot, "4")
        feed.error = None
        ui.query_one(Captions)._look_again()
        assert "a red circle 0/62" in await press(pilot)
        feed.error = NotRunningError(GONE)
        assert "a red circle 0/62" in await press(pilot, "r")

    piloted(ui, use)


def test_captions_whose_query_failed_are_looked_for_again(readers: Readers) -> None:
    feed = Away(readers)
    ui = TerminalUI(feed, clock=lambda: NOW)

    async def use(pilot: Pilot[None]) -> None:
        await press(pilot, "4")
        feed.error = QueryError("The query was broken off after 10 s.")
        ui.query_one(Captions)._look_again()
        assert "broken off after 10 s" in await press(pilot)
        feed.error = None
        ui.query_one(Captions)._look_again()
        assert "a red circle 0/62" in await press(pilot)

    piloted(ui, use)


@pytest.mark.parametrize("size", [(40, 12), (200, 60)])
def test_it_fits(readers: Readers, size: tuple[int, int]) -> None:
    ui = stored_ui(readers, Twin())

    async def use(pilot: Pilot[None]) -> None:
        text = await press(pilot, "4")
        assert "a red circle" in text
        assert UPPER in await press(pilot, "v")

    piloted(ui, use, size)


def test_what_came_of_a_caption_in_a_word() -> None:
    words = [state(CAPTION._replace(**what))[0] for what in (
        {}, {"sealed": 3}, {"right": True}, {"error": "empty"}, {"superseded": True}, {"wrong": True, "right": True},
    )]  # fmt: skip
    assert words == ["new", "sealed", "checked", "error", "not used", "wrong"]


def test_a_row_and_a_page_of_what_strangers_wrote() -> None:
    nasty = CAPTION._replace(
        key=HOSTILE, texts=[HOSTILE, "x\ny"], author_name=HOSTILE, reason=HOSTILE, url=HOSTILE, time=2**63
    )
    plain = painted(caption_page(nasty)).plain
    assert not {"\x1b", "\x07", "\u202e"} & set(plain)
    assert "?" in plain, "a time that no calendar has"
    assert len(caption_row(nasty).cells) == 5
    assert caption_row(CAPTION._replace(key=None)).cells[0][0] == "0/1"


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ({"url": "https://example.org/1.png"}, "https://example.org/1.png"),
        (
            {"file": "hf://datasets/me/cats@abc/data/1.tar"},
            "https://huggingface.co/datasets/me/cats/blob/abc/data/1.tar",
        ),
        ({"file": "file:photos/1.png"}, ""),
        ({"url": "file:///etc/passwd"}, ""),
        ({"url": "javascript:alert(1)"}, ""),
        ({"url": "https://example.org/\x1b[2J"}, ""),
        ({"url": "http://[::1"}, ""),
        ({}, ""),
    ],
)
def test_only_the_webs_addresses_are_given_to_a_browser(place: dict[str, Any], url: str) -> None:
    assert address(CAPTION._replace(**place)) == url
