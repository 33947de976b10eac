"""Fetching many items by hash from several peers at once.

One worker for each peer takes a batch of what nobody else is fetching, asks, checks what came, and goes on. An item
that a peer does not hold, or served wrong, is left to the others. What is nowhere to be had is simply not delivered.

Always holds: a worker reads an answer to its end before it hands anything on, so a slow consumer never makes a peer
wait; bytes are handed on only when the caller's `verify` accepts them; at most READY items wait for the consumer.
"""

from collections.abc import Callable, Iterable, Sequence

import structlog
import trio

from p2pcap.errors import RequestFailed, Unreachable
from p2pcap.swarm import peers
from p2pcap.swarm.content import PIECE_BYTES, Item, read_answer
from p2pcap.swarm.messages import CONTENT_BATCH, ContentRequest
from p2pcap.swarm.requests import Blame, Requests
from p2pcap.swarm.service import Kind

log = structlog.get_logger(__name__)

READY = 64
"""Fetched items that may wait for the consumer; whoever makes the channel for `Fetch.run` takes this size."""
FAILURES = 2
"""Requests in a row that may bring nothing before a peer is left alone for the rest of this fetch."""
THREAD_BYTES = 256 * 1024
"""From this size on hashing goes to a thread, so that it does not hold up the event loop."""

Verify = Callable[[bytes, bytes], bool]
"""Whether the second argument has the first as its hash."""


class Fetch:
    """One call of `Swarm.fetch`: which items are open, in whose hands they are, and who cannot give them."""

    def __init__(self, requests: Requests, kind: Kind, wanted: Iterable[bytes], verify: Verify, cap: int, blame: Blame):
        self._requests = requests
        self._kind = kind
        self._open = {hash: Item(hash) for hash in wanted}
        self._verify = verify
        self._cap = cap
        self._blame = blame
        self._taken: set[bytes] = set()
        self._lacks: dict[str, set[bytes]] = {}
        self._alone: set[bytes] = set()  # served wrong in parts by several peers: next time from one peer only
        self._changed = trio.Condition()

    async def run(self, sources: Sequence[str], ready: trio.MemorySendChannel[tuple[bytes, bytes]]) -> None:
        """Fetch from `sources` into `ready` until everything is there or nobody can give more."""
        async with ready, trio.open_nursery() as nursery:
            self._lacks = {peer: set() for peer in sources}
            share = max(1, min(CONTENT_BATCH, -(-len(self._open) // max(1, len(sources)))))
            for peer in sources:
                nursery.start_soon(self._work, peer, share, ready)

    async def _work(self, peer: str, share: int, ready: trio.MemorySendChannel[tuple[bytes, bytes]]) -> None:
        failures = 0
        while failures < FAILURES and (batch := await self._take(peer, share)):
            before = self._progress(peer, batch)
            await self._ask(peer, batch)
            useful = self._progress(peer, batch) - before
            good = [item for item in batch if item.complete and await self._holds(item, peer)]
            await self._give_back(batch, good)
            failures = 0 if useful >= PIECE_BYTES else failures + 1
            for item in good:
                await ready.send((item.hash, bytes(item.data)))

    def _progress(self, peer: str, batch: Sequence[Item]) -> int:
        """In bytes; an item finished, or known not to be had from `peer`, counts as a whole piece.

        A peer that breaks off again and again, or says nothing, must not keep a fetch alive with a byte now and then.
        """
        settled = sum(item.complete or item.hash in self._lacks[peer] for item in batch)
        return settled * PIECE_BYTES + sum(len(item.data) for item in batch)

    async def _take(self, peer: str, share: int) -> list[Item]:
        """The next batch for `peer`; waits while all that it may still have is in others' hands. Empty: no more."""
        async with self._changed:
            while True:
                possible = [i for i in self._open.values() if i.hash not in self._lacks[peer]]
                batch = [item for item in possible if item.hash not in self._taken][:share]
                if batch or not possible:
                    self._taken |= {item.hash for item in batch}
                    for item in batch:
                        if item.hash in self._alone and item.sources != {peer}:
                            item.restart()
                    return batch
                await self._changed.wait()

    async def _ask(self, peer: str, batch: Sequence[Item]) -> None:
        request = ContentRequest([(item.hash, len(item.data)) for item in batch])
        try:
            async with self._requests.stream(peer, self._kind, request) as reader:
                self._lacks[peer] |= await read_answer(reader, peer, batch, self._cap)
        except Unreachable:
            self._lacks[peer] |= self._open.keys()
        except RequestFailed as error:
            log.debug("fetch_broke_off", peer=peer, kind=self._kind, error=str(error))
            self._lacks[peer] |= {item.hash for item in batch if item.hash in self._alone}

    async def _holds(self, item: Item, peer: str) -> bool:
        data = bytes(item.data)
        if len(data) < THREAD_BYTES:
            good = self._verify(item.hash, data)
        else:
            good = await trio.to_thread.run_sync(self._verify, item.hash, data)
        if not good:
            log.warning("wrong_content", peer=peer, kind=self._kind, hash=item.hash.hex())
            if item.sources == {peer}:
                self._blame(peer, peers.BAD_DATA)
                self._lacks[peer].add(item.hash)
            self._alone.add(item.hash)
            item.restart()
        return good

    async def _give_back(self, batch: Sequence[Item], good: Sequence[Item]) -> None:
        async with self._changed:
            for item in good:
                del self._open[item.hash]
            self._taken -= {item.hash for item in batch}
            self._changed.notify_all()
