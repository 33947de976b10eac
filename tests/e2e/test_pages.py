"""A joiner of a project of ten million images, in a real swarm: what it gets, and from whom the others get it then."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from p2pcap.node.options import NodeOptions, Seed
from p2pcap.project.chunks import table_of
from p2pcap.project.items import ItemList, encode_list
from p2pcap.project.records import PAGE, Plan, Stage
from tests.e2e.living import living, observer, runtime
from tests.makers import TASK, chunk_of, item, make_ticket, signed
from tests.swarm.twin import ANY, within

__all__ = ["runtime"]

CHUNKS = 10 * PAGE - 1
ITEMS = tuple(item(0, number) for number in range(1_024))
MOST = 100_000
"""Bytes that a joiner may receive before it can claim."""

PAGES: list[bytes] = []
PROJECT = signed(Plan("Many", (Stage("caption", TASK),), table_of([chunk_of(ITEMS)] * CHUNKS, PAGES.append)))
LISTED = encode_list(ItemList(ITEMS))
SEED = Seed(PROJECT, {hashlib.sha256(data).digest(): data for data in (*PAGES, LISTED)}, {})


def coordinator(folder: Path) -> NodeOptions:
    """A coordinator that brings the project."""
    return NodeOptions(folder, "coordinator", make_ticket(PROJECT), ANY, seed=SEED)


def joiner(folder: Path, known: Sequence[str]) -> NodeOptions:
    """An observer that knows these peers."""
    return observer(folder, str(make_ticket(PROJECT, tuple(known))))


@within(120)
async def test_a_joiner_gets_a_page_when_it_needs_one_and_has_it_for_the_next(tmp_path: Path) -> None:
    async with living(coordinator(tmp_path / "a")) as first:
        assert first.swarm is not None
        async with living(joiner(tmp_path / "b", first.swarm.addresses)) as second:
            assert second.swarm is not None
            assert second.member is not None
            received = second.snapshot().network.received
            assert len(PROJECT.plan_data) < received < MOST / 2
            assert PROJECT.images == 1_024 * CHUNKS > 10_000_000
            assert await second.member.fetching.items(3 * PAGE) == ITEMS
            assert second.snapshot().network.received < MOST + len(LISTED)
            first.stop()
            await first.ended.wait()
            async with living(joiner(tmp_path / "c", second.swarm.addresses)) as last:
                assert last.member is not None
                assert await last.member.fetching.items(3 * PAGE + 1) == ITEMS, "the second had only that page"
