"""Item lists: got and decoded once, in a thread where that takes long, and as many in memory as have room."""

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from p2pcap.errors import UntrustedError
from p2pcap.node import fetching
from p2pcap.node.change import Change
from p2pcap.node.fetching import INLINE, Fetching
from p2pcap.project.chunks import Chunk, table_of
from p2pcap.project.items import Item, ItemList, encode_list
from p2pcap.project.records import MAX_CHUNK, PAGE
from p2pcap.store.writes import PutBlob, Write
from tests.twins import simulated


def items_of(count: int) -> tuple[Item, ...]:
    return tuple(Item(f"{index:08}", hashlib.sha256(b"%d" % index).digest(), 9) for index in range(count))


class TwinStore:
    """Blobs in memory. It counts how often each was asked for."""

    def __init__(self) -> None:
        self.blobs: dict[bytes, bytes] = {}
        self.reads: list[bytes] = []
        self.commits = 0

    async def blob(self, hash_: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        self.reads.append(hash_)
        return self.blobs.get(hash_)

    async def has_items(self, chunk: int) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def commit(self, *writes: Write) -> None:
        await trio.lowlevel.checkpoint()
        self.commits += 1
        self.blobs |= {write.hash: write.data for write in writes if isinstance(write, PutBlob)}


class TwinSwarm:
    """A peer that has all of `held`, a second away."""

    def __init__(self, held: dict[bytes, bytes]) -> None:
        self.held = held
        self.asked = 0

    async def fetch(
        self, kind: str, wanted: Sequence[bytes], peers: None, verify: Callable[[bytes, bytes], bool], cap: int
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        self.asked += 1
        await trio.sleep(1)
        for hash_ in wanted:
            if verify(hash_, self.held[hash_]):
                yield hash_, self.held[hash_]


class Node:
    """Fetching, with lists of these numbers of items at a peer, or in the store."""

    def __init__(self, *counts: int, stored: bool = False) -> None:
        lists = [encode_list(ItemList(items_of(count))) for count in counts]
        self.lengths = [len(data) for data in lists]
        hashes = [hashlib.sha256(data).digest() for data in lists]
        pages: list[bytes] = []
        chunks = table_of(map(Chunk, counts, hashes, self.lengths), pages.append)
        project = SimpleNamespace(plan=SimpleNamespace(chunks=chunks), counts=counts)
        ledger = SimpleNamespace(project=project)
        self.table, blobs = chunks, [*lists, *pages]
        self.store, self.swarm = TwinStore(), TwinSwarm({hashlib.sha256(data).digest(): data for data in blobs})
        self.store.blobs = dict(self.swarm.held) if stored else {}
        self.fetching = Fetching(cast(Any, ledger), cast(Any, self.store), cast(Any, self.swarm), Change())

    async def reads(self, chunk: int) -> int:
        """How often the store is asked for a blob when the list is wanted."""
        before = len(self.store.reads)
        await self.fetching.listing(chunk)
        return len(self.store.reads) - before


@simulated
async def test_a_list_that_many_ask_for_at_once_comes_once() -> None:
    node, found = Node(5, 6), []

    async def ask(chunk: int) -> None:
        found.append(await node.fetching.listing(chunk))

    async with trio.open_nursery() as nursery:
        for chunk in (0, 1, 0, 1, 0):
            nursery.start_soon(ask, chunk)
    assert trio.current_time() == 1
    assert sorted(len(listed.items) for listed in found) == [5, 5, 5, 6, 6]
    assert len(set(map(id, found))) == 2
    assert (node.swarm.asked, node.store.commits, len(node.store.reads)) == (2, 2, 2)


@simulated
async def test_a_list_comes_also_when_the_first_who_asked_gave_up() -> None:
    node = Node(5)

    async def give_up() -> None:
        with trio.move_on_after(0.5):
            await node.fetching.items(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        assert await node.fetching.items(0) == items_of(5)
    assert node.swarm.asked == 2


@simulated
async def test_lists_stay_in_memory_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = Node(10, 10, 20, 100).lengths
    monkeypatch.setattr(fetching, "KEPT", lengths[1] + lengths[2])
    node = Node(10, 10, 20, 100, stored=True)
    assert [await node.reads(chunk) for chunk in (0, 1, 0, 2)] == [1, 1, 0, 1]
    assert [await node.reads(chunk) for chunk in (2, 0, 1)] == [0, 0, 1], "the one that was asked for last has to go"
    assert [await node.reads(chunk) for chunk in (3, 3)] == [1, 0], "the last one is kept whatever its size"
    assert [await node.reads(chunk) for chunk in (0, 1, 0, 1, 3)] == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(("count", "meanwhile"), [(100, False), (MAX_CHUNK, True)])
def test_the_event_loop_goes_on_while_a_large_list_is_decoded(count: int, meanwhile: bool) -> None:
    """Simulated time runs on while the loop has nothing to do but to wait for a thread."""
    node = Node(count, stored=True)
    assert (node.lengths[0] > INLINE) is meanwhile

    async def check() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 10)
            assert await node.fetching.items(0) == items_of(count)
            assert (trio.current_time() >= 10) is meanwhile

    trio.run(check, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("count", [100, MAX_CHUNK])
def test_a_stored_list_that_was_changed_is_refused(count: int) -> None:
    node = Node(count, stored=True)
    node.store.blobs = {hash_: data[:-1] + b"\0" for hash_, data in node.store.blobs.items()}
    with pytest.raises(UntrustedError, match="not the one the plan names"):
        trio.run(node.fetching.items, 0)


PAGES = (*(1 + number % 3 for number in range(2 * PAGE)), 5, 6)
"""Items of chunks that make two pages and a little more."""


@simulated
async def test_the_page_that_names_a_list_comes_before_it_and_once_for_all_its_lists() -> None:
    node = Node(*PAGES)
    first, second = node.table.pages
    for chunk in (0, PAGE - 2):
        assert len(await node.fetching.items(chunk)) == PAGES[chunk]
    assert (node.swarm.asked, first in node.store.blobs, second in node.store.blobs) == (3, True, False)
    assert len(await node.fetching.items(2 * PAGE + 1)) == PAGES[2 * PAGE + 1]
    assert (node.swarm.asked, second in node.store.blobs) == (4, False), "the plan names the last ones itself"


@simulated
async def test_a_page_that_many_ask_for_at_once_comes_once() -> None:
    node = Node(*PAGES)
    async with trio.open_nursery() as nursery:
        for chunk in range(PAGE, PAGE + 8):
            nursery.start_soon(node.fetching.items, chunk)
    assert node.swarm.asked == 9


@simulated
async def test_a_page_on_disk_that_was_changed_is_refused() -> None:
    node = Node(*PAGES, stored=True)
    page = node.table.pages[0]
    node.store.blobs[page] = node.store.blobs[page][:-1] + b"\0"
    with pytest.raises(UntrustedError, match="page of the chunk table"):
        await node.fetching.items(0)
