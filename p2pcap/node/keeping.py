"""Which bodies stay on this node: those of its own results, its share of the others', or all (p2pcap.node.shares).

Every body is fetched and checked once, whoever keeps it: so what counts here rests on nobody's word. After that a node
with a share drops what others keep and have just shown (p2pcap.node.proofs); results whose bodies are gone count as
before. When nodes come and go, it drops more, or gets back what has become its own.

Always holds: a body is dropped only after SURE better-placed nodes handed it over to this one, while they are
connected, and not before the others had time to fetch it; what nobody shows stays, even beyond the quota; a node's own
stay. What was dropped is on disk before this node tells anybody that it lacks it. Nothing is remembered of a proof.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

import structlog
import trio

from p2pcap.identity import peer_id_of
from p2pcap.ledger.records import Result
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.proofs import Inquiry, Rests, inquire
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
"""Results whose bodies are asked about at one time, one request's worth for each peer that is asked, and dropped in one
transaction: some 50 ms of work for the database."""

PAUSE = 5.0
"""Seconds, at least, between two times that others are asked to show bodies; longer when they took longer to answer."""

MAX_SPARE = 4_096
"""Results that a review picks out to be dropped: no fewer than can be asked about until the next one."""

ROOMY = 0.9
"""Part of the quota up to which a node gets back what has become its own."""

log = structlog.get_logger()


class Spare(NamedTuple):
    """A body that may be dropped: its result, its root, what it takes on disk, and whether only for want of room."""

    id: bytes
    root: bytes
    size: int
    tight: bool


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
        self._rests = Rests()
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
                due = trio.current_time() + REVIEW_EVERY
                await self._review(want_back, due)
            await trio.sleep(LOOK_EVERY)

    def _look(self) -> None:
        connected = {peer.peer_id: peer.status.store for peer in self._network.peers() if peer.status is not None}
        self._seen.note(connected, trio.current_time())

    async def _review(self, want_back: Callable[[Sequence[bytes]], None], until: float) -> None:
        """Go through everything that was checked here, and ask about what may be dropped, `until` the next review."""
        needed, held = await self._weigh()
        self._take_role(needed)
        if self.role == "share":
            spare, back = await self._share(held)
        else:
            spare, back = [], list(filter(self._is_checked, self._dropped))
        self._back = set(back)
        if back:
            want_back(back)
        await self._thin_out(spare, held, until)

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

    async def _share(self, held: int) -> tuple[list[Spare], list[bytes]]:
        """What may be dropped, the last one first, and what to get back."""
        ranks, now = self._ranks(), trio.current_time()
        spare: tuple[list[Spare], list[Spare]] = [], []
        back: list[bytes] = []
        settled = now >= self._started + SEEN_FOR  # before that it has not seen everybody
        async for id_, author, result in self._checked():
            size, place = DISK_BYTES * result.raw, ranks.place(result.root)
            if id_ in self._dropped:
                if settled and takes_back(place, held + size < ROOMY * self._cap):
                    back.append(id_)
                    held += size
            elif author != self._me and result.time <= self._clock() - SETTLE and self._rests.over(id_, now):
                tight = not may_drop(place, crowded=False)
                if may_drop(place, crowded=True) and len(spare[tight]) < MAX_SPARE:
                    spare[tight].append(Spare(id_, result.root, size, tight))
        return [*spare[True], *spare[False]], back

    def _ranks(self) -> Ranks:
        return Ranks(peer_id_of(self._me), self._seen.nodes())

    async def _thin_out(self, spare: list[Spare], held: int, until: float) -> None:
        """Ask about `spare`, batch by batch, and drop what others show: all of it, or as much as there is no room for.

        Half of the time nobody is asked, so that who answers slowly is asked less.
        """
        began = trio.current_time()
        while began < until and (batch := self._batch(spare, held)):
            held -= await self._drop_shown(batch)
            await trio.sleep(max(PAUSE, trio.current_time() - began))
            self._look()
            began = trio.current_time()

    def _batch(self, spare: list[Spare], held: int) -> dict[Spare, list[str]]:
        """The next of `spare` that may still be dropped, each with the nodes that may show it."""
        ranks, batch = self._ranks(), dict[Spare, list[str]]()
        while spare and len(batch) < DROP and (held > self._cap or not spare[-1].tight):
            one = spare.pop()
            if may_drop(ranks.place(one.root), one.tight):
                batch[one] = ranks.better(one.root)
                held -= one.size
        return batch

    async def _drop_shown(self, batch: Mapping[Spare, Sequence[str]]) -> int:
        """Drop what of `batch` others show. Returns how many bytes."""
        inquiry = Inquiry({one.root: better for one, better in batch.items()})
        await inquire(self._network, inquiry)
        connected, now = {peer.peer_id for peer in self._network.peers()}, trio.current_time()
        for peer, asked, had in inquiry.tallies():
            if peer in connected:
                self._seen.asked(peer, asked, had, now)
        roots = inquiry.shown(connected)
        for one in batch:
            if one.root not in roots:
                self._rests.in_vain(one.id, now)
        return await self._drop([one for one in batch if one.root in roots])

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
        return self._ledger.held(id_) is not None

    async def _drop(self, shown: Sequence[Spare]) -> int:
        async with self._change.turn:
            drop = [one for one in shown if self._is_checked(one.id)]  # a redaction may have come meanwhile
            if drop:
                await self._store.commit(DropBodies([one.id for one in drop]))
            for one in drop:
                self._dropped.add(one.id)
                self._rests.forget(one.id)
        if drop:
            log.info("bodies dropped", results=len(drop), dropped=len(self._dropped))
            self._change.tell()
        return sum(one.size for one in drop)
