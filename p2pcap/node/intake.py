"""Statements coming in: judged, made durable, then counted.

Gossip hands statements over one by one and must not wait; they queue here and are committed together. Sync hands over
pages and waits for the commit. What comes too early is kept for a while, and judged again when what it waits for is
there.

Always holds: a statement is in the ledger's set only after it is committed, and a ruling's effect on the table is
committed with it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import starmap

import structlog
import trio

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.checkpoint import Checkpoint, Stamp
from p2pcap.ledger.checks import UNRULED
from p2pcap.ledger.early import Early
from p2pcap.ledger.fork import fork_of
from p2pcap.ledger.judgement import Judgement, Statement, Verdict, Wait
from p2pcap.ledger.records import Claim, Grant, Result
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.ledger.standing import after_ruling
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.node.change import Change
from p2pcap.node.evidence import evidence_of
from p2pcap.node.seams import Clock, LedgerStore
from p2pcap.store.writes import DropBlobs, PutRedaction, PutStanding, PutStatement, Write

QUEUE = 4_096
"""Accepted statements that may wait for the disk; beyond that gossip is ignored, and sync brings it later."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Received:
    """What became of a page of statements: how many were new, and how many their sender should have refused."""

    new: int
    rejected: int


@dataclass
class _Page:
    """Statements that somebody waits for, and the event that says they are durable."""

    accepted: list[Judgement]
    done: trio.Event = field(default_factory=trio.Event)


class Intake:
    """The one way by which other nodes' statements enter the ledger and the store."""

    def __init__(
        self,
        identity: Identity,
        ledger: Ledger,
        store: LedgerStore,
        change: Change,
        wants_body: Callable[[Envelope, Result], None],
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._ledger = ledger
        self._store = store
        self._change = change
        self._wants_body = wants_body
        self._clock = clock
        self._gossip: list[Judgement] = []
        self._pages: list[_Page] = []
        self._work = trio.Event()
        self._early = Early()
        self._earlier = trio.Event()
        self.ruled = Change()
        """Told when something else may count now, or a checkpoint came."""
        self.found = Change()
        """Told at each finding, ban and void: other captions may have to be looked at."""

    @property
    def turn(self) -> trio.Lock:
        """Whoever holds it is alone in changing what counts."""
        return self._change.turn

    @property
    def waiting(self) -> int:
        """Accepted statements that are not on disk yet."""
        return len(self._gossip) + sum(len(page.accepted) for page in self._pages)

    # one by one, from gossip

    def judge(self, data: bytes) -> Judgement:
        """Judge a gossiped statement and, when it is accepted, take it in (in memory now, on disk soon)."""
        judgement = validate(self._ledger, data, self._clock())
        if judgement.verdict is not Verdict.ACCEPT:
            self._put_off(data, judgement)
            return judgement
        if not isinstance(judgement.record, Claim):
            if len(self._gossip) >= QUEUE:
                return Judgement(Verdict.IGNORE, "busy")
            self._gossip.append(judgement)
            self._work.set()
        self._hear(judgement)
        return judgement

    def _hear(self, judgement: Judgement) -> None:
        """What a valid statement means before it is durable: it steers, it does not count."""
        assert judgement.envelope is not None
        self._ledger.hear(judgement.envelope, judgement.record, self._clock())
        self._change.tell()

    def _put_off(self, data: bytes, judgement: Judgement) -> None:
        if judgement.wait is not None:
            self._early.hold(data, judgement.wait)
            self._earlier.set()
        if judgement.contradicts is not None and judgement.envelope is not None:
            held = judgement.contradicts
            number = next(number for number, one in self._ledger.checkpoints.items() if one.id == held.id)
            self.accuse(held, judgement.envelope, number)

    def accuse(self, one: Envelope, other: Envelope, number: int) -> None:
        """Two statements of one number that contradict each other: tell everybody, once."""
        if (one.kind, number) not in self._ledger.forks:
            log.error("fork", kind=one.kind, number=number, signer=one.author.hex())
            fork = fork_of(one, other, number, self._ledger.project.m, int(self._clock()))
            self.judge(seal(self._identity, "fork", fork).data)

    # commits

    async def run(self) -> None:
        """Commit what queues up, as much as there is at a time; judge again what came too early."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_times)
            while True:
                await self._work.wait()
                self._work = trio.Event()
                gossip, self._gossip = self._gossip, []
                pages, self._pages = self._pages, []
                await self._commit_all([*gossip, *(judgement for page in pages for judgement in page.accepted)])
                for page in pages:
                    page.done.set()

    async def _commit_all(self, accepted: Sequence[Judgement]) -> None:
        """Commit these, and whatever was waiting for them."""
        while released := await self._commit(accepted):
            accepted, _ = self._judge_all(released)

    async def _wait_for_times(self) -> None:
        """Judge statements from the future again when their time has come."""
        while True:
            next_time = self._early.next_time()
            with trio.move_on_after(max(0.0, next_time - self._clock()) if next_time is not None else math.inf):
                await self._earlier.wait()
            self._earlier = trio.Event()
            if due := self._early.due(self._clock()):
                await self.receive(due)

    async def manifest_changed(self) -> None:
        """What waited for the tasks and images of a newer manifest is judged again."""
        if known := self._early.known():
            await self.receive(known)

    async def receive(self, envelopes: Sequence[bytes]) -> Received:
        """Take in a page that sync brought. What was new is durable when this returns.

        The commit is `run`'s work, so it is made also when whoever waits for it here is cancelled: else a statement
        could be known as announced and never be in the set.
        """
        accepted, rejected = self._judge_all(envelopes)
        if accepted:
            page = _Page(accepted)
            self._pages.append(page)
            self._work.set()
            await page.done.wait()
        return Received(len(accepted), rejected)

    def _judge_all(self, envelopes: Sequence[bytes]) -> tuple[list[Judgement], int]:
        """Those that are accepted and are to be stored, and how many are wrong."""
        accepted: list[Judgement] = []
        rejected = 0
        for data in envelopes:
            judgement = validate(self._ledger, data, self._clock())
            if judgement.verdict is Verdict.ACCEPT:
                self._hear(judgement)
                if not isinstance(judgement.record, Claim):
                    accepted.append(judgement)
            else:
                rejected += judgement.verdict is Verdict.REJECT
                self._put_off(data, judgement)
        return accepted, rejected

    async def _commit(self, batch: Sequence[Judgement]) -> list[bytes]:
        """Grants together, then results, whatever else one by one: each such statement may change what the next means.

        Returns what was waiting for them, to be judged again.
        """
        known = [(j.envelope, j.record) for j in batch if j.envelope is not None and j.record is not None]
        grants = [(envelope, record) for envelope, record in known if isinstance(record, Grant)]
        results = [(envelope, record) for envelope, record in known if isinstance(record, Result)]
        async with self._change.turn:
            if grants:
                await self._admit(grants)
            if results:
                statements = (PutStatement(envelope, self._clock()) for envelope, _ in results)
                await self._store.commit(*statements, *put_standing(self._ledger, results))
            for envelope, result in results:
                self._ledger.add(envelope, result)
                self._wants_body(envelope, result)
        for envelope, record in known:
            if not isinstance(record, Grant | Result):
                await self.settle(envelope, record)
        if known:
            self._change.tell()
        waits = [record_wait(envelope, record) for envelope, record in known]
        return [data for wait in waits if wait is not None for data in self._early.release(wait)]

    async def _admit(self, grants: Sequence[tuple[Envelope, Grant]]) -> None:
        """Of each invitation only so many grants stay: those displaced go, and their authors' results count no more."""
        change = self._ledger.admit(grants)
        now = self._clock()
        gone = [*change.gone, *(None for _ in change.kept)]  # whatever goes makes room for one that stays
        writes: list[Write] = [
            PutStatement(envelope, now, out) for envelope, out in zip(change.kept, gone, strict=False)
        ]
        writes += list(starmap(PutStanding, change.standing.items()))
        await self._store.commit(*writes)
        for envelope, grant in grants:
            self._ledger.add(envelope, grant)
        if change.gone:
            self.ruled.tell()

    async def settle(self, envelope: Envelope, record: Statement) -> None:
        """Make a valid statement durable, with what it changes, and add it to the ledger."""
        async with self.turn:
            await self.settle_in_turn(envelope, record)

    async def settle_in_turn(self, envelope: Envelope, record: Statement) -> None:
        """As `settle`, for one who holds `turn`."""
        if not isinstance(record, Checkpoint) or self._still_follows(envelope):
            await self._settle(envelope, record)

    def _still_follows(self, envelope: Envelope) -> bool:
        """Another one of its number may have been added since it was judged."""
        judgement = validate(self._ledger, envelope.data, self._clock())
        self._put_off(envelope.data, judgement)
        return judgement.verdict is Verdict.ACCEPT

    async def _settle(self, envelope: Envelope, record: Statement) -> None:
        ledger, id_, author = self._ledger, envelope.id, envelope.author
        if ledger.holds(id_) or ledger.is_stale(record, id_, author):
            return
        moved = False
        writes: list[Write] = [PutStatement(envelope, self._clock(), ledger.replaced(record, id_, author))]
        if isinstance(record, Redact):
            condemned = ledger.condemned(record)
            writes.append(PutRedaction(record.chunk, record.items, condemned))
            writes.append(DropBlobs(evidence_of(self._identity.public, ledger, condemned)))
        if isinstance(record, Ban | Void | Finding):
            changes = after_ruling(ledger, id_, author, record)
            moved = any(ruled.counted != _counted(ledger, batch) for batch, ruled in changes.items())
            writes += list(starmap(PutStanding, changes.items()))
        await self._store.commit(*writes)
        ledger.add(envelope, record)
        self._change.tell()
        if isinstance(record, Finding):
            log.debug("finding", statement=id_.hex(), verdict=record.verdict)
        if isinstance(record, Ban | Void | Finding):
            self.found.tell()
        if moved or isinstance(record, Ban | Void | Redact | Checkpoint):
            log.info("ruling", kind=envelope.kind, statement=id_.hex())
            self.ruled.tell()


def _counted(ledger: Ledger, id_: bytes) -> int:
    return ledger.counted(id_, ledger.results.get(id_, (b"", None))[0])


def put_standing(ledger: Ledger, results: Iterable[tuple[Envelope, Result]]) -> list[PutStanding]:
    """What the store has to know of those of `results` that do not simply count, by what was there before."""
    ruled = ((envelope.id, ledger.ruled(envelope.id, envelope.author, result)) for envelope, result in results)
    return [PutStanding(id_, made) for id_, made in ruled if made != UNRULED]


def record_wait(envelope: Envelope, record: Statement) -> Wait | None:
    """What a statement that was just added may have been awaited as."""
    match record:
        case Grant():
            return Wait("author", record.key)
        case Result():
            return Wait("batch", envelope.id)
        case Checkpoint():
            return Wait("checkpoint", record.number)
        case Stamp():
            return Wait("stamp", 0)
    return None
