"""One image for somebody who wants to look at it: from here, from a peer, or not at all."""

import hashlib
from typing import cast

import pytest
import trio
import trio.testing

from p2pcap.envelope import seal
from p2pcap.errors import SourceError
from p2pcap.ledger.rulings import Redact
from p2pcap.node.images import Images
from p2pcap.node.showing import WITHIN, show_image
from tests.makers import COORDINATOR, NOW, Made, image_bytes, ledger_of, make_project

DATA = image_bytes(0, 3)
HASH = hashlib.sha256(DATA).digest()


class Held:
    """The images of a node: `here` on its disk, `with_peers` elsewhere; peers take `seconds` to answer."""

    def __init__(self, here: bytes | None = None, with_peers: bytes | None = None, seconds: float = 0.0) -> None:
        self.here = here
        self.with_peers = with_peers
        self.seconds = seconds
        self.asked = 0

    async def load(self, hash_: bytes) -> bytes | None:
        return self.here

    async def again(self, hash_: bytes) -> bytes | None:
        self.asked += 1
        await trio.sleep(self.seconds)
        return self.with_peers


@pytest.fixture
def made() -> Made:
    return make_project((64, 10))


def shown(made: Made, held: Held, chunk: int = 0, item: int = 3, closed: bool = False) -> bytes:
    ledger = ledger_of(made.project)
    if closed:
        record = Redact(made.project.m, 0, 0, 64, (1 << 3).to_bytes(8, "little"), "no", NOW)
        ledger.add(seal(COORDINATOR, "redact", record), record)

    async def run() -> bytes:
        return await show_image(ledger, cast(Images, held), chunk, item, HASH)

    return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_an_image_that_is_here_is_asked_of_nobody(made: Made) -> None:
    held = Held(here=DATA)
    assert shown(made, held) == DATA
    assert held.asked == 0


def test_one_that_is_not_comes_from_a_peer_soon_or_not_at_all(made: Made) -> None:
    assert shown(made, Held(with_peers=DATA, seconds=WITHIN / 2)) == DATA
    for held in (Held(), Held(with_peers=DATA, seconds=2 * WITHIN)):
        with pytest.raises(SourceError, match="no peer hands it over"):
            shown(made, held)


def test_an_image_that_the_maintainer_has_closed_is_not_shown(made: Made) -> None:
    held = Held(here=DATA)
    with pytest.raises(SourceError, match="closed this image"):
        shown(made, held, closed=True)
    assert shown(made, Held(here=DATA), closed=False) == DATA


@pytest.mark.parametrize("place", [(2, 0), (1, 10), (0, 64)])
def test_a_place_that_there_is_not_is_refused(made: Made, place: tuple[int, int]) -> None:
    with pytest.raises(SourceError, match="has no image"):
        shown(made, Held(here=DATA), *place)


def test_other_bytes_than_those_of_the_hash_are_not_handed_out(made: Made) -> None:
    with pytest.raises(SourceError, match="not the one"):
        shown(made, Held(here=b"another"))
