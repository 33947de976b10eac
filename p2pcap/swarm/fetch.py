"""Fetching many items by hash from several peers at once.

One worker for each peer takes a batch of what nobody else is fetching, asks, and asks for the next one while what came
is checked. An item that a peer does not hold, or served wrong, is left to the others. What is nowhere to be had is
simply not delivered.

No peer is waited for as long as others may have the same: what a peer has in hand is asked from others too once it is
silent for `SwarmSettings.take_over_after`, whoever is first has won, and nobody is asked any longer for what has
arrived. A peer silent for `stall_after` is given up. Who stalled is asked only for what nobody else can give, in this
fetch and for a while after it (`p2pcap.swarm.stalls`).

Always holds: a worker reads an answer to its end before it hands anything on, so a slow consumer never makes a peer
wait; at most two answers of a peer are in memory, the one that comes and the one that is checked; bytes are handed on
only when the caller's `verify` accepts them, and once; at most READY items wait for the consumer; no two peers write
into one Item; the time in which a peer waits for a cap of ours is not held against it; a peer may have one answer on
its way and no more, and only 256 KiB of it while a cap of ours holds it back.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import structlog
import trio

from p2pcap.errors import RequestFailed, Unreachable
from p2pcap.swarm import peers
from p2pcap.swarm.bandwidth import Line
from p2pcap.swarm.content import LONGEST_ANSWER, PIECE_BYTES, Item, read_answer
from p2pcap.swarm.messages import CONTENT_BATCH, ContentRequest
from p2pcap.swarm.requests import Blame, Requests
from p2pcap.swarm.service import Kind
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.stalls import Stalls

log = structlog.get_logger(__name__)

READY = 64
"""Fetched items that may wait for the consumer; whoever makes the channel for `Fetch.run` takes this size."""
LONE_PATIENCE = 4.0
"""Times as long as usual an only source may be silent: a crowded line leaves gaps of seconds."""
LITTLE = 4 * 1024
"""Bytes that are progress for an only source; for another one it takes a piece of PIECE_BYTES."""
FAILURES = 2
"""Requests in a row that may bring nothing before a peer is left alone for the rest of this fetch."""
ASK_SHARE = 0.8
"""The share of `SwarmSettings.request_timeout` after which an answer that is still coming is broken off and the rest
asked for anew. So a slow line, theirs or ours, never counts as an answer that does not end."""
THREAD_BYTES = 256 * 1024
"""From this size on hashing goes to a thread, so that it does not hold up the event loop."""

Verify = Callable[[bytes, bytes], bool]
"""Whether the second argument has the first as its hash."""


@dataclass(eq=False)
class Hand:
    """What one peer is being asked for, when it last sent a byte of it, and what stops the asking.

    `held_back`: it waits for a cap of ours, or for its turn under it.
    """

    items: list[Item]
    heard: float = field(default_factory=trio.current_time)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    end: float = math.inf
    held_back: bool = False

    def expect(self, patience: float) -> None:
        """The peer has just sent something, and has `patience` seconds for the next byte, but only until `end`."""
        self.held_back, self.heard = False, trio.current_time()
        self.scope.deadline = min(self.end, self.heard + patience)

    def hold_back(self) -> None:
        """We are not ready for the next byte."""
        self.held_back, self.scope.deadline = True, self.end

    def silent(self) -> float:
        """Seconds for which the peer has sent nothing although it could."""
        return 0.0 if self.held_back else trio.current_time() - self.heard


class Fetch:
    """One call of `Swarm.fetch`: which items are open, in whose hands they are, and who cannot give them."""

    def __init__(
        self,
        requests: Requests,
        settings: SwarmSettings,
        stalls: Stalls,
        blame: Blame,
        down: Line,
        kind: Kind,
        wanted: Iterable[bytes],
        verify: Verify,
        cap: int,
    ) -> None:
        self._requests = requests
        self._settings = settings
        self._stalls = stalls
        self._blame = blame
        self._down = down
        self._kind = kind
        self._open = {hash: Item(hash) for hash in wanted}
        self._verify = verify
        self._cap = cap
        self._hands: list[Hand] = []
        self._lacks: dict[str, set[bytes]] = {}
        self._first: set[str] = set()  # the peers that are asked before those that stalled
        self._alone: set[bytes] = set()  # served wrong in parts by several peers: next time from one peer only
        self._changed = trio.Condition()

    async def run(self, sources: Sequence[str], ready: trio.MemorySendChannel[tuple[bytes, bytes]]) -> None:
        """Fetch from `sources` into `ready` until everything is there or nobody can give more."""
        async with ready, trio.open_nursery() as nursery:
            self._lacks = {peer: set() for peer in sources}
            self._first = {peer for peer in sources if not self._stalls.passed_over(peer)}
            share = max(1, min(CONTENT_BATCH, -(-len(self._open) // max(1, len(self._first or sources)))))
            for peer in self._lacks:
                nursery.start_soon(self._work, peer, share, ready)

    async def _work(self, peer: str, share: int, ready: trio.MemorySendChannel[tuple[bytes, bytes]]) -> None:
        """Ask `peer` for one batch after the other; each is checked while the next one comes."""
        failures = 0
        checked = trio.Event()
        checked.set()
        async with trio.open_nursery() as nursery:
            while failures < FAILURES and (hand := await self._take(peer, share)):
                before = self._progress(peer, hand.items)
                await self._ask(peer, hand)
                useful = self._progress(peer, hand.items) - before
                enough = PIECE_BYTES if self._replaceable(peer, hand.items) else LITTLE
                failures = 0 if useful >= enough else failures + 1
                if useful > 0:
                    self._stalls.brought(peer)
                await self._give_back(hand)
                await checked.wait()
                checked = trio.Event()
                nursery.start_soon(self._check, peer, hand, ready, checked)
        await self._pass_over(peer)

    async def _check(
        self, peer: str, hand: Hand, ready: trio.MemorySendChannel[tuple[bytes, bytes]], checked: trio.Event
    ) -> None:
        whole = [(item.hash, bytes(item.data)) for item in hand.items]
        if sum(len(data) for _, data in whole) < THREAD_BYTES:
            good = self._verified(whole)
        else:
            good = await trio.to_thread.run_sync(self._verified, whole)
        for item in hand.items:
            if item.hash not in good:
                self._wrong(item, peer)
        for hash in await self._settle(hand, good.keys()):
            await ready.send((hash, good[hash]))
        checked.set()

    def _verified(self, whole: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
        return {hash: data for hash, data in whole if self._verify(hash, data)}

    def _progress(self, peer: str, batch: Sequence[Item]) -> int:
        """In bytes; an item finished, or known not to be had from `peer`, counts as a whole piece.

        A peer that breaks off again and again, or says nothing, must not keep a fetch alive with a byte now and then.
        """
        settled = sum(item.complete or item.hash in self._lacks[peer] for item in batch)
        return settled * PIECE_BYTES + sum(len(item.data) for item in batch)

    async def _take(self, peer: str, share: int) -> Hand | None:
        """The next batch for `peer`; waits while all that it may still have is in good hands. None: no more."""
        async with self._changed:
            while left := [item for item in self._open.values() if item.hash not in self._lacks[peer]]:
                held = self._held()
                free_at = {i.hash: held.get(i.hash, -math.inf) for i in left if self._may_ask(peer, i.hash)}
                now = trio.current_time()
                if free := sorted((hash for hash, at in free_at.items() if at <= now), key=free_at.__getitem__):
                    items = [self._hand_out(peer, hash) for hash in free[:share]]
                    hand = Hand(items)
                    self._hands.append(hand)
                    return hand
                with trio.move_on_at(min(free_at.values(), default=math.inf)):
                    await self._changed.wait()
        return None

    def _may_ask(self, peer: str, hash: bytes) -> bool:
        return peer in self._first or all(hash in self._lacks[other] for other in self._first)

    def _held(self) -> dict[bytes, float]:
        """For each item in hand, when the last peer that has it will have been silent for too long."""
        until: dict[bytes, float] = {}
        for hand in self._hands:
            for item in hand.items:
                patience = self._settings.take_over_after - hand.silent()
                until[item.hash] = max(until.get(item.hash, 0.0), trio.current_time() + patience)
        return until

    def _hand_out(self, peer: str, hash: bytes) -> Item:
        """What has arrived of an item, for `peer` to add to; a copy when another peer may add to it still."""
        item = self._open[hash]
        if any(item is other for hand in self._hands for other in hand.items):
            item = replace(item, data=bytearray(item.data), sources=set(item.sources))
        if hash in self._alone and item.sources != {peer}:
            item.restart()
        return item

    async def _ask(self, peer: str, hand: Hand) -> None:
        hand.hold_back()
        async with self._down.places:
            hand.end = trio.current_time() + ASK_SHARE * self._settings.request_timeout
            hand.expect(self._patience(peer, hand.items))
            with hand.scope:
                await self._read(peer, hand)
        if hand.scope.cancelled_caught and hand.silent() >= self._settings.take_over_after:
            log.info("fetch_stalled", peer=peer, kind=self._kind)
            if self._replaceable(peer, hand.items):  # else it may be that everybody asks the only one who has it
                self._stalls.stalled(peer)
            await self._pass_over(peer)
        hand.held_back, hand.heard = False, math.inf  # it has answered, and what came is only to be checked

    async def _read(self, peer: str, hand: Hand) -> None:
        batch, patience = hand.items, self._patience(peer, hand.items)

        async def pay(size: int) -> None:
            if self._down.capped:
                hand.hold_back()
            await self._down.take(peer, size)
            if hand.held_back:
                hand.expect(patience)

        request = ContentRequest([(item.hash, len(item.data)) for item in batch])
        try:
            async with self._requests.stream(peer, self._kind, request, lambda: hand.expect(patience)) as reader:
                async with nullcontext() if self._down.capped else reader.granted(LONGEST_ANSWER):
                    self._lacks[peer] |= await read_answer(reader, peer, batch, self._cap, pay)
        except Unreachable:
            self._lacks[peer] |= self._open.keys()
        except RequestFailed as error:
            log.debug("fetch_broke_off", peer=peer, kind=self._kind, error=str(error))
            self._lacks[peer] |= {item.hash for item in batch if item.hash in self._alone}

    def _patience(self, peer: str, batch: Sequence[Item]) -> float:
        """Seconds without a byte until `peer` is given up: little comes of it while nobody else may have the same."""
        return self._settings.stall_after * (1.0 if self._replaceable(peer, batch) else LONE_PATIENCE)

    def _replaceable(self, peer: str, batch: Sequence[Item]) -> bool:
        """Whether somebody else may have something of what `peer` is asked for."""
        others = [lacks for other, lacks in self._lacks.items() if other != peer]
        return any(item.hash not in lacks for lacks in others for item in batch)

    def _wrong(self, item: Item, peer: str) -> None:
        log.warning("wrong_content", peer=peer, kind=self._kind, hash=item.hash.hex())
        if item.sources == {peer}:
            self._blame(peer, peers.BAD_DATA)
            self._lacks[peer].add(item.hash)
        self._alone.add(item.hash)
        item.restart()

    async def _give_back(self, hand: Hand) -> None:
        """An answer has been read: what it ended stays in hand to be checked, the rest is for anybody to go on with."""
        async with self._changed:
            batch = [item for item in hand.items if item.hash in self._open]
            hand.items = [item for item in batch if item.complete]
            for item in batch:
                if not item.complete and len(item.data) > len(self._open[item.hash].data):
                    self._open[item.hash] = item
            self._changed.notify_all()

    async def _settle(self, hand: Hand, good: Collection[bytes]) -> list[bytes]:
        """What was in hand has been checked. Returns those of the `good` items that nobody else has brought."""
        async with self._changed:
            self._hands.remove(hand)
            won = [item.hash for item in hand.items if item.hash in good and item.hash in self._open]
            for hash in won:
                del self._open[hash]
            for other in self._hands:
                if not any(item.hash in self._open for item in other.items):
                    other.scope.cancel()
            self._changed.notify_all()
        return won

    async def _pass_over(self, peer: str) -> None:
        """Let those be asked that stalled before, for what `peer` was to give."""
        async with self._changed:
            self._first.discard(peer)
            self._changed.notify_all()
