"""Bodies of results: fetched from whoever has them, checked, committed, counted.

A header says that captions exist; only a body that is held and checked here makes its items done. A body that its
author signed but that does not fit the project voids that result on this node: it is not asked for again and counts for
nothing. Bodies that a ruling takes away (unless the node is an archive), or that cover what was redacted, are not
asked for. What was checked here and then dropped is asked for when p2pcap.node.keeping wants it back.

Always holds: authors take turns, and what was asked for in vain rests, each time longer. So a body that nobody has, or
whose item list nobody has, holds up none of another author.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

import structlog
import trio

from p2pcap.envelope import Envelope, open_envelope
from p2pcap.errors import Misdescribed, UntrustedError
from p2pcap.identity import peer_id_of
from p2pcap.ledger.body import Opened, check_rows, described, error_bits, open_rows
from p2pcap.ledger.records import MAX_RAW, Result, Row
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.fetching import BATCH, Fetching
from p2pcap.node.keeping import Keeping
from p2pcap.node.seams import Clock, LedgerStore, Network
from p2pcap.node.wishes import Wanted, Wishes
from p2pcap.project.items import Item
from p2pcap.store.writes import PutBatch

GREET_EVERY = 60.0
"""Seconds, at least, between two times that everything is asked for again because there are new peers."""

RELEASE_AFTER = 60.0
"""Seconds after which a header without a body, of an author who is not connected, keeps nobody off its items."""

PAGE = 1_000
"""Missing bodies looked up at a time, whenever fewer than that are left that were never asked for."""

BACK_PAGE = 256
"""Headers looked up at a time of bodies that are wanted back."""

LIST_DELAYS = 5.0
"""Seconds a round waits for an item list that is not here; then the bodies of that chunk are left for later."""

LIST_WITHIN = 60.0
"""Seconds after which an item list that did not come makes room for others."""

MAX_LISTS = 64
"""Item lists that are being fetched at one time."""

log = structlog.get_logger()


class Audited(Protocol):
    """Whoever looks at others' captions."""

    def needs_body(self, id_: bytes) -> bool:
        """Whether the body of a result that does not count is needed all the same."""

    def heard(self, id_: bytes, author: bytes, result: Result, rows: Sequence[Row], now: float) -> None:
        """A result's body was checked here at `now` (unix seconds)."""


class Bodies:
    """The bodies this node lacks, and the task that gets them."""

    def __init__(
        self,
        ledger: Ledger,
        store: LedgerStore,
        network: Network,
        fetching: Fetching,
        change: Change,
        clock: Clock,
        keeping: Keeping,
        audited: Audited | None = None,
    ) -> None:
        """`audited` hears of each body that came, and says which are needed though they count for nothing."""
        self._audited = audited
        self._ledger = ledger
        self._store = store
        self._network = network
        self._fetching = fetching
        self._change = change
        self._clock = clock
        self._keeping = keeping
        self._wishes = Wishes()
        self._more = trio.Event()
        self._after: int | None = None  # the last stored result that was looked at; None: all were
        self._back: list[bytes] = []
        self._paging = trio.Lock()
        self._peers: set[str] = set()
        self._greeted = -math.inf
        self._lists_coming: dict[int, trio.Event] = {}
        self.void: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._wishes)

    def want(self, envelope: Envelope, result: Result) -> None:
        """The body of this result is needed, unless a ruling says otherwise."""
        if self._is_needed(envelope, result):
            self._wishes.add(Wanted(envelope, result, self._clock()))
            self._more.set()

    def _is_needed(self, envelope: Envelope, result: Result) -> bool:
        ledger, keeping, id_ = self._ledger, self._keeping, envelope.id
        here = ledger.held(id_) is not None and not keeping.needs_again(id_)
        useless = id_ in self.void or here or not ledger.is_wanted(result)
        audited = self._audited is not None and self._audited.needs_body(id_)
        return not useless and (keeping.keeps_all or audited or ledger.counts(id_, envelope.author))

    async def want_stored(self) -> None:
        """Ask for the bodies that the store says are missing: at the start, and when a ruling may have changed that."""
        async with self._paging:
            self._after = -1
        await self._look_up()

    def want_back(self, ids: Sequence[bytes]) -> None:
        """The bodies of these results, which were dropped, are needed again; what was said before is forgotten."""
        self._back = list(ids)
        self._more.set()

    async def _look_up(self) -> None:
        """Want what else is missing, page by page, until there is enough to ask for."""
        async with self._paging:
            while self._back and self._wishes.fresh < PAGE:
                page, self._back = self._back[-BACK_PAGE:], self._back[:-BACK_PAGE]
                for envelope in map(open_envelope, await self._store.statements(page)):
                    self.want(envelope, self._ledger.results[envelope.id][1])
            while self._after is not None and self._wishes.fresh < PAGE:
                missing = await self._store.bodies_missing(self._after, PAGE)
                self._after = missing[-1].number if len(missing) == PAGE else None
                for one in missing:
                    self.want(one.envelope, one.result)

    async def run(self) -> None:
        """Get bodies as long as the node runs."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._look_up()
                self._greet()
                if chosen := self._choose():
                    await self._round(chosen, nursery)
                else:
                    with trio.move_on_after(self._wishes.pause()):
                        await self._more.wait()
                    self._more = trio.Event()

    def _greet(self) -> None:
        """A peer that was not there before may have what nobody had."""
        peers, now = {peer.peer_id for peer in self._network.peers()}, trio.current_time()
        if peers <= self._peers or now < self._greeted + GREET_EVERY:
            self._peers &= peers
        else:
            self._peers, self._greeted = peers, now
            self._wishes.wake()

    def _choose(self) -> list[Wanted]:
        """Up to BATCH wishes to ask for now; those that are not needed any more are dropped."""
        chosen: list[Wanted] = []
        while len(chosen) < BATCH and (wanted := self._wishes.next()) is not None:
            if self._is_needed(wanted.envelope, wanted.result):
                chosen.append(wanted)
            else:
                self._wishes.drop(wanted.envelope.id)
                self._ledger.forget(wanted.envelope.id, wanted.result)
        return chosen

    async def _round(self, chosen: Sequence[Wanted], nursery: trio.Nursery) -> None:
        """Ask once for the bodies of `chosen`, without those that could not be checked."""
        lists = await self._lists({wanted.result.chunk: None for wanted in chosen}, nursery)
        batch: dict[bytes, list[Wanted]] = {}
        for wanted in chosen:
            if wanted.result.chunk in lists:
                batch.setdefault(wanted.result.root, []).append(wanted)
        if batch:
            await self._keep(await self._fetch(batch, lists))
        self._release(chosen)
        for wanted in chosen:
            self._wishes.rest(wanted)

    async def _lists(self, chunks: Iterable[int], nursery: trio.Nursery) -> Mapping[int, Sequence[Item]]:
        """The item lists of `chunks` that are here within LIST_DELAYS seconds. What takes longer comes beside the
        rounds, so only the first round that needs a list ever waits for it."""
        found: dict[int, Sequence[Item]] = {}
        asked = [chunk for chunk in chunks if chunk not in self._lists_coming]
        asked = asked[: MAX_LISTS - len(self._lists_coming)]
        for chunk in asked:
            self._lists_coming[chunk] = trio.Event()
            nursery.start_soon(self._get_list, chunk, found)
        with trio.move_on_after(LIST_DELAYS):
            for event in [self._lists_coming[chunk] for chunk in asked]:
                await event.wait()
        return found

    async def _get_list(self, chunk: int, found: dict[int, Sequence[Item]]) -> None:
        with trio.move_on_after(LIST_WITHIN):
            found[chunk] = await self._fetching.items(chunk)
        self._lists_coming.pop(chunk).set()

    async def _fetch(
        self, batch: Mapping[bytes, Sequence[Wanted]], lists: Mapping[int, Sequence[Item]]
    ) -> list[PutBatch]:
        """Those bodies of `batch`, by root, that peers have now and that fit their headers."""
        opened: dict[bytes, Opened] = {}

        def verify(root: bytes, data: bytes) -> bool:
            """Whether these are rows of that root; what headers say of them beside that is no fault of the server."""
            try:
                opened[root] = open_rows(data)
            except UntrustedError as error:
                log.warning("body refused", reason=str(error))
                return False
            return opened[root].root == root

        arrived: list[PutBatch] = []
        async with aclosing(self._network.fetch("body", list(batch), None, verify, MAX_RAW)) as arriving:
            async for root, data in arriving:
                rows = opened.pop(root)
                for wanted in batch[root]:
                    arrived += self._checked(wanted, rows, data, lists[wanted.result.chunk])
        return arrived

    def _release(self, asked: Iterable[Wanted]) -> None:
        """A body that nobody has and whose author is gone holds its items off no longer; it stays wanted."""
        peers = {peer.peer_id for peer in self._network.peers()}
        for wanted in asked:
            late = self._clock() > wanted.since + RELEASE_AFTER
            if late and wanted.envelope.id in self._wishes and peer_id_of(wanted.envelope.author) not in peers:
                self._ledger.forget(wanted.envelope.id, wanted.result)

    def _checked(self, wanted: Wanted, opened: Opened, data: bytes, items: Sequence[Item]) -> list[PutBatch]:
        """What is to be stored of a body that has the right root; nothing when its header does not fit it."""
        try:
            rows = described(opened, wanted.result)
            check_rows(rows, wanted.result, items, self._ledger.works[wanted.result.tid].task)
        except Misdescribed as error:
            self._make_void(wanted, str(error))
            return []
        return [PutBatch(wanted.envelope, wanted.result, rows, data, self._clock())]

    def _make_void(self, wanted: Wanted, reason: str) -> None:
        log.warning(
            "result void", statement=wanted.envelope.id.hex(), author=wanted.envelope.author.hex(), reason=reason
        )
        self.void.add(wanted.envelope.id)
        self._wishes.drop(wanted.envelope.id)
        self._ledger.forget(wanted.envelope.id, wanted.result)

    async def _keep(self, batches: Sequence[PutBatch]) -> None:
        async with self._change.turn:
            wanted = [put for put in batches if self._ledger.is_wanted(put.result)]
            if wanted:
                await self._store.commit(*wanted)
            for put in batches:
                self._wishes.drop(put.envelope.id)
            for put in wanted:
                if not self._keeping.returned(put.envelope.id):
                    self._complete(put)
        self._change.tell()

    def _complete(self, put: PutBatch) -> None:
        id_, author, now = put.envelope.id, put.envelope.author, self._clock()
        self._ledger.complete(id_, author, put.result, error_bits(put.rows))
        self._ledger.claims.progress(author, now)
        if self._audited is not None:
            self._audited.heard(id_, author, put.result, put.rows, now)
