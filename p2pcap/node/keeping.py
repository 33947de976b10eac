"""Which bodies stay on this node: those of its own results, its share of the others', or all (p2pcap.node.shares).

Every body is fetched and checked once, whoever keeps it: so what counts here rests on nobody's word. After that a node
with a share drops what others keep; results whose bodies are gone count as before. When nodes come and go, it drops
more, or gets back what has become its own.

Always holds: a body is dropped only while enough better-placed nodes are connected, and not before the others had time
to fetch it; a node's own stay. What was dropped is on disk before this node tells anybody that it lacks it.
"""

from collections.abc import AsyncIterator, Callable, Sequence

import structlog
import trio

from p2pcap.identity import peer_id_of
from p2pcap.ledger.records import Result
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.seams import Clock, LedgerStore, Network
from p2pcap.node.shares import DISK_BYTES, SEEN_FOR, Ranks, Seen, StoreRole, may_drop, role_in_force, takes_back
from p2pcap.store.writes import DropBodies

LOOK_EVERY = 60.0
"""Seconds between two looks at who is connected."""

REVIEW_EVERY = 300.0
"""Seconds between two times that all bodies are gone through."""

SETTLE = 600
"""Seconds old a result is before its body is dropped: by then the others had time to fetch it."""

STEP = 256
"""Results that are gone through at one time, and then others have their turn: some milliseconds."""

DROP = 64
"""Results whose bodies are dropped in one transaction: some 50 ms of work for the database."""

ROOMY = 0.9
"""Part of the quota up to which a node gets back what has become its own."""

log = structlog.get_logger()


class Keeping:
    """Decides what stays. `role` is what the node was told to be, `cap` its quota in bytes on disk, `me` its key."""

    def __init__(
        self,
        me: bytes,
        ledger: Ledger,
        store: LedgerStore,
        network: Network,
        change: Change,
        clock: Clock,
        say: Callable[[str], None],
        role: StoreRole,
        cap: int,
    ) -> None:
        self._me = me
        self._ledger = ledger
        self._store = store
        self._network = network
        self._change = change
        self._clock = clock
        self._say = say
        self._told = role
        self._cap = cap
        self._seen = Seen()
        self._started = trio.current_time()
        self._dropped: set[bytes] = set()
        self._back: set[bytes] = set()
        self.role: StoreRole = role
        """What the node is now: `full` becomes `share` when what counts is more than its quota."""

    @property
    def keeps_all(self) -> bool:
        """Whether also bodies of results are kept that count for nothing."""
        return self.role == "archive"

    def needs_again(self, id_: bytes) -> bool:
        """Whether the body of a result that was checked here is gone and wanted again."""
        return id_ in self._back

    def returned(self, id_: bytes) -> bool:
        """The body of a result was committed; whether it was here before."""
        was_here = id_ in self._dropped
        self._dropped.discard(id_)
        self._back.discard(id_)
        return was_here

    async def run(self, want_back: Callable[[Sequence[bytes]], None]) -> None:
        """Drop what others keep as long as the node runs; `want_back` is told of what is to be fetched again."""
        self._dropped = await self._store.dropped()
        due = trio.current_time()
        while True:
            self._look()
            if trio.current_time() >= due:
                await self._review(want_back)
                due = trio.current_time() + REVIEW_EVERY
            await trio.sleep(LOOK_EVERY)

    def _look(self) -> None:
        connected = {peer.peer_id: peer.status.store for peer in self._network.peers() if peer.status is not None}
        self._seen.note(connected, trio.current_time())

    async def _review(self, want_back: Callable[[Sequence[bytes]], None]) -> None:
        """Go through everything that was checked here."""
        needed, held = await self._weigh()
        self._take_role(needed)
        if self.role == "share":
            drop, back = await self._share(held)
        else:
            drop, back = [], list(filter(self._is_checked, self._dropped))
        self._back = set(back)
        for start in range(0, len(drop), DROP):
            await self._drop(drop[start : start + DROP])
        if back:
            want_back(back)

    async def _weigh(self) -> tuple[int, int]:
        """Bytes that all bodies need that were checked here, and that those need that are here."""
        needed = held = 0
        async for id_, _, result in self._checked():
            needed += DISK_BYTES * result.raw
            held += DISK_BYTES * result.raw if id_ not in self._dropped else 0
        return needed, held

    def _take_role(self, needed: int) -> None:
        role = role_in_force(self._told, needed, self._cap)
        if role != self.role:
            self.role = role
            log.info("store", role=role, needed=needed, cap=self._cap)
            if role == "share":
                size = f"{self._cap / 1024**3:.1f} GiB"
                self._say(f"the captions need more than {size}: from now on this node keeps a share (--store-cap)")
            self._change.tell()

    async def _share(self, held: int) -> tuple[list[bytes], list[bytes]]:
        """What to drop, and what to get back."""
        ranks, now, drop, back = Ranks(peer_id_of(self._me), self._seen.nodes()), self._clock(), [], []
        settled = trio.current_time() >= self._started + SEEN_FOR  # before that it has not seen everybody
        async for id_, author, result in self._checked():
            size = DISK_BYTES * result.raw
            if id_ in self._dropped:
                if settled and takes_back(ranks.place(id_), held + size < ROOMY * self._cap):
                    back.append(id_)
                    held += size
            elif author != self._me and result.time <= now - SETTLE and may_drop(ranks.place(id_), held > self._cap):
                drop.append(id_)
                held -= size
        return drop, back

    async def _checked(self) -> AsyncIterator[tuple[bytes, bytes, Result]]:
        """Every result whose body was checked here: id, author, header."""
        ids = list(self._ledger.results)
        for start in range(0, len(ids), STEP):
            for id_ in ids[start : start + STEP]:
                if self._is_checked(id_):
                    yield id_, *self._ledger.results[id_]
            await trio.lowlevel.checkpoint()

    def _is_checked(self, id_: bytes) -> bool:
        """Whether the body was checked here, and nothing in it was redacted since."""
        return self._ledger.rows.chunk_of(id_) is not None

    async def _drop(self, ids: Sequence[bytes]) -> None:
        async with self._change.turn:
            await self._store.commit(DropBodies(ids))
            self._dropped.update(ids)
        log.info("bodies dropped", results=len(ids), dropped=len(self._dropped))
        self._change.tell()
