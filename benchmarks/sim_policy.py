"""A thousand volunteers with the real choice of work over one shared view.

What is real: `p2pcap.worker.agenda`, `p2pcap.ledger.choose`, `p2pcap.ledger.claims`, `p2pcap.ledger.state`,
`p2pcap.ledger.work` and the pace of a worker. What is not: engines (a slice takes a drawn time), networks, signatures,
validation, tasks.

How the views are shared: every statement reaches everybody but its author DELAY seconds after it was made. So all
volunteers have the same view but for what they said themselves in the last DELAY seconds. There is one ledger, which
takes every statement in DELAY seconds late; an author's own results of the last DELAY seconds are taken off what is
open to it, and its own claims are on its agenda. What this cannot show: statements that are lost, or come to one
earlier than to another, and bodies that come later than their headers.

Always holds: the same seed gives the same figures; the clock is the simulation's.
"""

import heapq
import random
from collections.abc import Callable

from benchmarks.sim_outcome import DELAY, NOISE, Outcome
from benchmarks.sim_project import START, admitted_by_owner, work_of
from benchmarks.sim_squatters import Squat
from p2pcap.ledger.records import Claim, Result
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.project.opened import Project
from p2pcap.project.records import SLICE
from p2pcap.worker.agenda import AHEAD_SECONDS, Agenda
from p2pcap.worker.rate import Pace
from p2pcap.worker.slices import Slice
from p2pcap.worker.worker import FIRST_SLICE_SECONDS, RENEW_EVERY


def run(project: Project, speeds: list[float], squatters: int, seed: int) -> Outcome:
    """A whole job; `speeds` are the seconds that a slice takes each volunteer."""
    return Policy(project, speeds, squatters, seed).run()


class SharedWork(Work):
    """The view that all have, and what each author did since."""

    recent: dict[tuple[bytes, int], int]

    def open_items(self, chunk: int, now: float, me: bytes = b"") -> int:
        """As the work in the ledger of `me` would say."""
        return super().open_items(chunk, now, me) & ~self.recent.get((me, chunk), 0)


class Policy:
    """One run: an event loop, the shared ledger, and the truth about what is done."""

    def __init__(self, project: Project, speeds: list[float], squatters: int, seed: int) -> None:
        self.ledger = Ledger(project)
        held = work_of(self.ledger)
        self.work = SharedWork(held.task, held.m, held.rows, held.claims, self.ledger.members, self.ledger.counting)
        self.work.recent = {}
        self.ledger.works[held.tid] = self.work
        self.now = 0.0
        self.outcome = Outcome(project.images)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._volunteers = [Volunteer(self, number, seconds, seed) for number, seconds in enumerate(speeds)]
        self._squatters = [Squatter(self, number, seed) for number in range(squatters)]

    @property
    def unix(self) -> float:
        """The simulated unix time."""
        return START + self.now

    @property
    def workers(self) -> int:
        """Engines that share the project, as their status says."""
        return len(self._volunteers)

    def at(self, time: float, what: Callable[[], None]) -> None:
        """Do it then."""
        self._number += 1
        heapq.heappush(self._events, (time, self._number, what))

    def run(self) -> Outcome:
        """Until everything is done and everybody has ended what was in hand."""
        for squatter in self._squatters:
            squatter.start()
        for volunteer in self._volunteers:
            volunteer.start()
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()
        return self.outcome

    def publish_claim(self, author: bytes, claim: Claim) -> None:
        """Everybody hears of it later."""
        self.at(self.now + DELAY, lambda: self.ledger.claims.hold(author, claim, b"", self.unix))

    def publish(self, author: bytes, piece: Slice) -> None:
        """A slice is done: it counts, and everybody hears of it later."""
        self.outcome.publish(piece.chunk, piece.items, self.now)
        key = (author, piece.chunk)
        self.work.recent[key] = self.work.recent.get(key, 0) | piece.items
        self.at(self.now + DELAY, lambda: self._hear(author, piece))

    def _hear(self, author: bytes, piece: Slice) -> None:
        key = (author, piece.chunk)
        self.work.recent[key] &= ~piece.items
        if not self.work.recent[key]:
            del self.work.recent[key]
        self._number += 1
        id_ = self._number.to_bytes(32, "big")
        result = _result(self.work, piece)
        self.ledger.claims.progress(author, self.unix)
        self.ledger.complete(id_, author, result, 0)


def _result(work: Work, piece: Slice) -> Result:
    mask = (piece.items >> piece.offset).to_bytes(8, "little")
    return Result(work.m, work.tid, piece.chunk, piece.offset, piece.span, mask, bytes(32), 1, 1, 0, bytes(8), 0, 0)


class Volunteer:
    """Works as a worker does: a slice in hand, more claimed when little remains, claims renewed."""

    def __init__(self, policy: Policy, number: int, seconds: float, seed: int) -> None:
        self._policy = policy
        self._me = b"volunteer" + number.to_bytes(23, "big")
        policy.ledger.members.kept.take(admitted_by_owner(self._me))
        self._rng = random.Random(f"volunteer {seed} {number}")
        self._agenda = Agenda(policy.work, self._me, self._rng)
        self._pace = Pace(FIRST_SLICE_SECONDS)
        self._seconds = seconds
        self._hand: Slice | None = None
        self._begun = self._ends = 0.0
        self._counted = 0
        self._nonce = 0
        self._claimed_at = -1.0
        self._wake_at = 0.0

    def start(self) -> None:
        """Begin at the start, like everybody."""
        self._wake(0.0)

    def _wake(self, time: float) -> None:
        self._wake_at = time
        self._policy.at(time, lambda: self._turn(time))

    def _turn(self, planned: float) -> None:
        policy = self._policy
        if planned != self._wake_at or (policy.outcome.over and self._hand is None):
            return
        self._end()
        if not policy.outcome.over:
            self._begin()
            self._look()
            self._begin()
        if self._hand is not None or not policy.outcome.over:
            self._wake(max(policy.now + 1e-3, self._next()))

    def _end(self) -> None:
        piece, policy = self._hand, self._policy
        if piece is None:
            return
        count = piece.items.bit_count()
        part = 1.0 if policy.now >= self._ends else (policy.now - self._begun) / (self._ends - self._begun)
        self._agenda.ahead -= int(count * part) - self._counted
        self._counted = int(count * part)
        if policy.now >= self._ends:
            self._hand = None
            policy.publish(self._me, piece)
            self._pace.add(count, self._begun, policy.now)
            self._agenda.done(piece)

    def _begin(self) -> None:
        if self._hand is not None:
            return
        self._hand = self._agenda.begin(self._policy.unix)
        if self._hand is not None:
            share = self._hand.items.bit_count() / SLICE
            self._counted, self._begun = 0, self._policy.now
            self._ends = self._begun + share * self._seconds * self._rng.lognormvariate(0.0, NOISE)

    @property
    def _wanted(self) -> int:
        return int(SLICE * AHEAD_SECONDS / self._pace.seconds) + 1 - self._agenda.ahead

    def _look(self) -> None:
        policy = self._policy
        picked = self._agenda.look(policy.unix, self._wanted, policy.workers, self._pace.seconds)
        if picked or (self._agenda.mine and policy.now >= self._claimed_at + RENEW_EVERY):
            self._nonce += 1
            self._claimed_at = policy.now
            policy.publish_claim(self._me, self._agenda.claim(policy.unix, self._pace.seconds, self._nonce))

    def _next(self) -> float:
        """When there may be something to do: a slice ends or may begin, little work remains, a claim is due again."""
        now = self._policy.now
        times = [max(now + 1.0, self._claimed_at + RENEW_EVERY if self._agenda.mine else now + 1e9)]
        if self._hand is not None:
            times.append(self._ends)
        elif (ready := self._agenda.ready_at()) is not None:
            times.append(ready - START)
        if self._wanted > 0:
            times.append(max(now + 1.0, self._agenda.look_at - START))
        elif self._hand is not None:
            times.append(now + max(1.0, (1 - self._wanted) * self._pace.seconds / SLICE))
        return min(times)


class Squatter:
    """Says what a squatter would."""

    def __init__(self, policy: Policy, number: int, seed: int) -> None:
        self._policy = policy
        self._me = b"squatter" + number.to_bytes(24, "big")
        self._squat = Squat(policy.ledger, self._me, random.Random(f"squatter {seed} {number}"))

    def start(self) -> None:
        """Claim before the volunteers do."""
        self._policy.at(0.0, self._turn)

    def _turn(self) -> None:
        policy = self._policy
        if policy.outcome.over:
            return
        claim = self._squat.claim(policy.unix)
        if claim is not None:
            policy.publish_claim(self._me, claim)
        policy.at(policy.now + RENEW_EVERY, self._turn)
