"""An open project whose answers are checked, flooded by identities that cost nothing but a puzzle.

Each of them does what hurts most: it claims a chunk that others could take, and signs garbage for it, as much as those
on probation may. A verifier beside the volunteers looks at one result after the other, at the pace at which a node
checks, and finds what is wrong with the power that is given.

Always holds: the same seed gives the same figures; what counts is decided by the real ledger.
"""

import hashlib
import random
from itertools import count

from msgspec import structs

from benchmarks.sim_outcome import DELAY, Outcome
from benchmarks.sim_policy import Policy
from benchmarks.sim_project import OWNER, START
from p2pcap.codec import encode
from p2pcap.envelope import seal
from p2pcap.ledger.admission import Admitted, Way
from p2pcap.ledger.checks import bits
from p2pcap.ledger.drafting import unsigned
from p2pcap.ledger.records import Claim, ClaimedChunk, Result
from p2pcap.ledger.rulings import Finding
from p2pcap.ledger.state import Ledger
from p2pcap.project import records
from p2pcap.project.audit import Audit, Bound, Honest, Limits
from p2pcap.project.opened import Project, open_project
from p2pcap.project.records import SLICE
from p2pcap.worker.worker import RENEW_EVERY

LOOK_EVERY = 30.0
"""Seconds in which the verifier looks at one result: too few for all that they sign."""

LOOKED_AT = 4
"""Items of a result that it looks at."""

BOUND = Bound(1, 1, 0)
AUDIT = Audit("tokens", Honest(5_000, 0, 0), (), 4, (Limits(1, BOUND, BOUND, BOUND),))


def opened(project: Project) -> Project:
    """The same project, where anybody may join and answers are checked."""
    stages = tuple(structs.replace(stage, audit=AUDIT) for stage in project.stages)
    plan = structs.replace(project.plan, stages=stages, policy=records.Policy(admission="open"))
    data = encode(plan)
    named = structs.replace(project.manifest, plan=hashlib.sha256(data).digest(), length=len(data))
    return open_project(project.root_envelope, seal(OWNER, "manifest", named), data, project.hash)


class Flooded(Policy):
    """A run with so many `sybils`, and a verifier who finds a wrong item with the probability `power`."""

    def __init__(self, project: Project, speeds: list[float], sybils: int, power: float, seed: int) -> None:
        super().__init__(project, speeds, 0, seed)
        self._sybils = [Sybil(self, number, seed) for number in range(sybils)]
        self.verifier = Verifier(self, power, seed)

    def run(self) -> Outcome:
        """As without them, with them."""
        for sybil in self._sybils:
            self.at(0.0, sybil.turn)
        self.at(0.0, self.verifier.turn)
        return super().run()

    @property
    def fooled(self) -> int:
        """Rows of theirs that count in the end."""
        return sum(self.ledger.by_author_total(sybil.me) for sybil in self._sybils)

    @property
    def trusted(self) -> int:
        """How many of them the ledger would not hold back any more."""
        return sum(not self.ledger.counting.is_unproven(sybil.me) for sybil in self._sybils)


class Sybil:
    """One of them."""

    def __init__(self, policy: Flooded, number: int, seed: int) -> None:
        self.me = b"sybil" + number.to_bytes(27, "big")
        policy.ledger.members.kept.take(Admitted(self.me, START, self.me, Way("open")))
        self._policy = policy
        self._rng = random.Random(f"sybil {seed} {number}")
        self._numbers = count(1)

    def turn(self) -> None:
        """Claim a chunk, and sign a slice of it, as far as anybody listens."""
        policy = self._policy
        if policy.outcome.over:
            return
        chunk = self._rng.choice(policy.work.unfinished or [0])
        slices = policy.work.size(chunk) // SLICE
        whole = ClaimedChunk(chunk, ((1 << slices) - 1).to_bytes(-(-slices // 8), "little"))
        tid, number = policy.work.tid, next(self._numbers)
        policy.publish_claim(self.me, Claim(policy.work.m, tid, (whole,), number, int(policy.unix), 600))
        if (room := policy.ledger.members.room(self.me)) is None or room >= SLICE:
            offset, time = self._rng.randrange(slices) * SLICE, int(policy.unix)
            mask = b"\xff" * 8
            result = Result(policy.work.m, tid, chunk, offset, SLICE, mask, bytes(32), 1, 1, 0, bytes(8), time, number)
            policy.at(policy.now + DELAY, lambda: self._heard(result))
        policy.at(policy.now + RENEW_EVERY, self.turn)

    def _heard(self, result: Result) -> None:
        id_ = hashlib.sha256(self.me + result.nonce.to_bytes(8, "big")).digest()
        ledger = self._policy.ledger
        ledger.announce(id_, self.me, result, self._policy.unix)
        ledger.add_result(id_, self.me, result)
        ledger.complete(id_, self.me, result, 0)
        self._policy.verifier.waiting.append(id_)


class Verifier:
    """Looks at what waits for a check, in no order that anybody knows."""

    def __init__(self, policy: Flooded, power: float, seed: int) -> None:
        self._policy = policy
        self._power = power
        self._rng = random.Random(f"verifier {seed}")
        self.waiting: list[bytes] = []

    def turn(self) -> None:
        """Look at one result."""
        policy, ledger = self._policy, self._policy.ledger
        if policy.outcome.over:
            return
        if self.waiting:
            self._look(ledger, self.waiting.pop(self._rng.randrange(len(self.waiting))))
        if ledger.finished and not policy.outcome.over:  # what wrongly counts is nobody's work any more
            policy.outcome.left, policy.outcome.makespan = 0, policy.now
        policy.at(policy.now + LOOK_EVERY, self.turn)

    def _look(self, ledger: Ledger, id_: bytes) -> None:
        _, result = ledger.results[id_]
        for bit in self._rng.sample(list(bits(result.items >> result.offset)), LOOKED_AT):
            word = "bad" if self._rng.random() < self._power else "ok"
            said = Finding(
                ledger.project.m, id_, bit.to_bytes(8, "little"), word, "tokens", b"", int(self._policy.unix)
            )
            ledger.add(unsigned(OWNER.public, "verdict", encode(said)), said)
            if word == "ok":  # nobody does it any more
                self._policy.outcome.publish(result.chunk, bit << result.offset, self._policy.now)
