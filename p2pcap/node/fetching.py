"""What a node gets from others by hash, besides images: item lists, the pages that name them, files of a model.

Whoever serves it need not be trusted: what arrives is checked against the hash that was asked for. What no connected
peer has is asked for again when a peer comes or after RETRY seconds; nothing gives up while the node runs.

Always holds: a list is fetched and decoded by one task at a time, and the lists in memory are those last asked for.
What was fetched is on disk before it is used, so that others can have it from here.
"""

import hashlib
from collections.abc import Callable
from contextlib import aclosing

import trio

from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.shelf import Shelf
from p2pcap.project.chunks import PAGE_BYTES, Chunk, open_page, row_in
from p2pcap.project.items import Item, ItemList
from p2pcap.project.opened import open_list
from p2pcap.project.records import PAGE
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob, PutItems
from p2pcap.swarm.swarm import Swarm

RETRY = 2.0
"""Seconds until peers are asked again for what nobody had."""

KEPT = 32 * 1024 * 1024
"""Bytes of the item lists kept in memory, as blobs. Decoded, they take two to five times as many, and nine times where
an image has 32 short fields (measured)."""

KEPT_PAGES = 256 * 1024
"""Bytes of the pages kept in memory: a node works through one after the other, and others are asked for at random."""

INLINE = 64 * 1024
"""Bytes of an item list that is decoded where it is asked for: some 10 ms, and simulated time, which would run on while
a thread works, stands still. A large list takes up to two seconds, and so a thread."""

BATCH = 64
"""Hashes asked for at a time (the protocol's limit)."""


def hash_holds(hash_: bytes, data: bytes) -> bool:
    """Whether `data` has the SHA-256 `hash_`."""
    return hashlib.sha256(data).digest() == hash_


async def fetch_one(swarm: Swarm, hash_: bytes, verify: Callable[[bytes, bytes], bool], cap: int) -> bytes | None:
    """The blob that `verify` accepts for `hash_`, from any connected peer; None when nobody has it now."""
    async with aclosing(swarm.fetch("blob", [hash_], None, verify, cap)) as arriving:
        async for _, data in arriving:
            return data
    return None


class Fetching:
    """Item lists and blobs of one project, from the store or the swarm."""

    def __init__(self, ledger: Ledger, store: Store, swarm: Swarm, peers_changed: Change) -> None:
        self._ledger = ledger
        self._store = store
        self._swarm = swarm
        self._peers_changed = peers_changed
        self._lists = Shelf(self._list, KEPT)
        self._pages = Shelf(self._page, KEPT_PAGES)
        # One list at a time: more threads would not be faster, as Python runs one of them, and hold more memory.
        self._decoding = trio.CapacityLimiter(1)

    async def items(self, chunk: int) -> tuple[Item, ...]:
        """The verified items of `chunk`."""
        return (await self.listing(chunk)).items

    async def listing(self, chunk: int) -> ItemList:
        """The verified item list of `chunk`; waits until some peer hands it over, and before it the page that names
        it."""
        return await self._lists.of(chunk)

    async def _list(self, chunk: int) -> tuple[ItemList, int]:
        row = await self._row(chunk)
        data = await self._store.blob(row.items)
        if data is not None and await self._store.has_items(chunk):
            return await self._open(data, row), row.length
        data = data or await self.blob(row.items, row.length)
        found = await self._open(data, row)
        await self._store.commit(PutBlob(row.items, data), PutItems.of(chunk, found))
        return found, row.length

    async def _row(self, chunk: int) -> Chunk:
        """The chunk by the chunk table."""
        project, (page, place) = self._ledger.project, divmod(chunk, PAGE)
        table = project.plan.chunks
        rows = table.rows if page == len(table.pages) else await self._pages.of(page)
        return row_in(rows, place, project.counts[chunk])

    async def _page(self, page: int) -> tuple[bytes, int]:
        """A page of the chunk table, checked."""
        hash_ = self._ledger.project.plan.chunks.pages[page]
        held = await self._store.blob(hash_)
        rows = open_page(held or await self.blob(hash_, PAGE_BYTES), hash_)
        if held is None:
            await self._store.commit(PutBlob(hash_, rows))
        return rows, PAGE_BYTES

    async def _open(self, data: bytes, row: Chunk) -> ItemList:
        if len(data) <= INLINE:
            return open_list(data, row)
        return await trio.to_thread.run_sync(open_list, data, row, abandon_on_cancel=True, limiter=self._decoding)

    async def blob(self, hash_: bytes, length: int) -> bytes:
        """The blob with this hash and at most this many bytes; waits until a peer hands it over."""
        while True:
            data = await fetch_one(self._swarm, hash_, hash_holds, length)
            if data is not None:
                return data
            await self._pause()

    async def now(self, hash_: bytes, length: int) -> bytes | None:
        """The blob with this hash, of at most this many bytes, if it is here or some connected peer has it now."""
        held = await self._store.blob(hash_)
        return held if held is not None else await fetch_one(self._swarm, hash_, hash_holds, length)

    async def _pause(self) -> None:
        with trio.move_on_after(RETRY):
            await self._peers_changed.wait()
