"""A joiner of a project of ten million images, in a real swarm: what it gets, and from whom the others get it then."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pcap.node.member import Member
from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions, Role, Seed
from p2pcap.project.chunks import table_of
from p2pcap.project.items import ItemList, encode_list
from p2pcap.project.records import PAGE, Plan, Stage
from tests.makers import TASK, chunk_of, item, make_ticket, signed
from tests.swarm.twin import ANY, within

CHUNKS = 10 * PAGE - 1
ITEMS = tuple(item(0, number) for number in range(1_024))
MOST = 100_000
"""Bytes that a joiner may receive before it can claim."""

PAGES: list[bytes] = []
PROJECT = signed(Plan("Many", (Stage("caption", TASK),), table_of([chunk_of(ITEMS)] * CHUNKS, PAGES.append)))
LISTED = encode_list(ItemList(ITEMS))
SEED = Seed(PROJECT, {hashlib.sha256(data).digest(): data for data in (*PAGES, LISTED)}, {})


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A short place for control sockets. `tmp_path` is made before."""
    with tempfile.TemporaryDirectory(prefix="p2p") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield


@asynccontextmanager
async def running(folder: Path, known: tuple[str, ...], seed: Seed | None = None) -> AsyncIterator[tuple[Node, Member]]:
    """A coordinator that brings `seed`, or an observer, once it has its project."""
    role: Role = "observer" if seed is None else "coordinator"
    node = Node(NodeOptions(folder, role, make_ticket(PROJECT, known), ANY, seed=seed), lambda line: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        while node.member is None:
            await trio.lowlevel.checkpoint()
        yield node, node.member
        node.stop()


@within(120)
async def test_a_joiner_gets_a_page_when_it_needs_one_and_has_it_for_the_next(tmp_path: Path) -> None:
    async with running(tmp_path / "a", (), SEED) as (first, _):
        assert first.swarm is not None
        async with running(tmp_path / "b", first.swarm.addresses) as (second, member):
            assert second.swarm is not None
            received = second.snapshot().network.received
            assert len(PROJECT.plan_data) < received < MOST / 2
            assert PROJECT.images == 1_024 * CHUNKS > 10_000_000
            assert await member.fetching.items(3 * PAGE) == ITEMS
            assert second.snapshot().network.received < MOST + len(LISTED)
            first.stop()
            await first.ended.wait()
            async with running(tmp_path / "c", second.swarm.addresses) as (_, last):
                assert await last.fetching.items(3 * PAGE + 1) == ITEMS, "the second had only that page"
