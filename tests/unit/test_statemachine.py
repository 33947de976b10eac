"""Several ledgers are told everything in any order, apart and together, and end up the same.

Real statements, real validation, real negentropy; only the network between is left out. What is early waits and is
tried again whenever something was taken in, as in a node.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.canonical import Batch, Entry, Place, canonical
from p2pcap.ledger.checkpoint import Checkpoint, Seal, Stamp, blob_of, segments, tiers_blob
from p2pcap.ledger.fork import fork_of
from p2pcap.ledger.negentropy import Reconciliation, respond
from p2pcap.ledger.records import Profile, Result, Row
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import Verdict, validate
from p2pcap.ledger.work import Work
from tests.makers import COORDINATOR, NOW, make_grant, make_project, make_result, work_of

MADE = make_project((70, 40))
PROJECT = MADE.project
AUTHORS = tuple(Identity.from_seed(bytes([number]) * 32) for number in range(101, 105))
VERIFIER = COORDINATOR
SLICES = ((0, 0, 64), (0, 64, 6), (1, 0, 40))
"""Chunk, first item and number of items of every slice."""

SCOPES = ("none", "unsealed", "all")
LIMIT = 4_096
ROUNDS = 12
"""Rounds of everybody with everybody after which nothing may be left to tell."""

number = st.integers(0, 10_000)


@dataclass(frozen=True)
class Sealed:
    """A checkpoint, its effect, and the statements that it seals."""

    checkpoint: Checkpoint
    seal: Seal
    envelopes: list[Envelope]


class Replica:
    """One node without its network: a ledger, the statements and bodies it keeps, and what came too early."""

    def __init__(self) -> None:
        self.ledger = Ledger(PROJECT)
        self.kept: dict[bytes, Envelope] = {}
        self.bodies: dict[bytes, tuple[bytes, Result, list[Row]]] = {}
        self.early: dict[bytes, None] = {}

    @property
    def work(self) -> Work:
        """The work on the only task."""
        return work_of(self.ledger)

    def deliver(self, data: bytes) -> None:
        """A statement by an honest signer comes in: it may be too early or of no use, but never wrong."""
        if self._take_in(data):
            while sum(self._retry(early) for early in list(self.early)):
                pass

    def _retry(self, data: bytes) -> bool:
        del self.early[data]
        return self._take_in(data)

    def _take_in(self, data: bytes) -> bool:
        judgement = validate(self.ledger, data, NOW)
        assert judgement.verdict is not Verdict.REJECT, judgement.reason
        if judgement.wait is not None:
            self.early[data] = None
        if judgement.verdict is not Verdict.ACCEPT or judgement.envelope is None:
            return False
        envelope = judgement.envelope
        self.ledger.hear(envelope, judgement.record, NOW)
        self.kept[envelope.id] = envelope
        self.ledger.add(envelope, judgement.record)
        self.bodies = {id_: body for id_, body in self.bodies.items() if self.ledger.held(id_) is not None}
        return True

    def give_body(self, id_: bytes, author: bytes, result: Result, rows: list[Row]) -> None:
        """The body of a result comes in, if it is wanted here."""
        if id_ in self.ledger.results and id_ not in self.bodies and self.ledger.is_wanted(result):
            self.bodies[id_] = author, result, rows
            errors = sum(1 << row.item for row in rows if row.error)
            self.ledger.complete(id_, author, result, errors)

    def take_seals(self, sealed: "Mapping[int, Sealed]") -> None:
        """Follow the chain of the checkpoints that are held; what they seal and is missing here is fetched."""
        while (number := self.ledger.seals.head + 1) in self.ledger.checkpoints:
            one = sealed[number]
            self.ledger.seal(one.checkpoint, one.seal, [envelope.id for envelope in one.envelopes])
            for envelope in one.envelopes:
                self.deliver(envelope.data)

    def table(self) -> Mapping[Place, Entry]:
        """The canonical table over the bodies held."""
        seals = self.ledger.seals
        batches = []
        for id_, (author, result, rows) in self.bodies.items():
            by = seals.of(id_)
            tier = by.tiers.get(author, 0) if by is not None else seals.tier(author)
            said = self.ledger.confirmed(id_), self.ledger.counted(id_, author)
            batches.append(Batch(id_, author, result, rows, by, tier, *said))
        authors = PROJECT.plan.policy.authors_for_error
        return canonical(batches, authors)


def compare(one: Replica, other: Replica) -> int:
    """One conversation between two replicas, with what each lacks handed over; how many statements that were."""
    talk = Reconciliation(one.ledger.index, LIMIT)
    frame: bytes | None = talk.first()
    handed = 0
    while frame is not None:
        step = talk.take(respond(other.ledger.index, frame, LIMIT))
        frame = step.next
        handed += len(step.have) + len(step.need)
        for source, target, ids in ((one, other, step.have), (other, one, step.need)):
            for id_ in ids:
                target.deliver(source.kept[id_].data)
    return handed


class Ledgers(RuleBasedStateMachine):
    """Everything that can be said about a small project, and who hears it when."""

    @initialize(count=st.integers(3, 5))
    def start(self, count: int) -> None:
        self.replicas = [Replica() for _ in range(count)]
        self.said: list[Envelope] = []
        self.results: list[tuple[Envelope, Result, list[Row]]] = []
        self.sealed: dict[int, Sealed] = {}
        for author in AUTHORS:
            self.say(make_grant(PROJECT, author), 0)

    def say(self, envelope: Envelope, at: int) -> None:
        """Somebody signs a statement, and one replica hears it first."""
        self.said.append(envelope)
        self.replicas[at % len(self.replicas)].deliver(envelope.data)

    # what is said

    @rule(by=st.integers(0, 3), where=st.sampled_from(SLICES), bits=number, faulty=st.booleans(), at=number)
    def result(self, by: int, where: tuple[int, int, int], bits: int, faulty: bool, at: int) -> None:
        chunk, offset, span = where
        chosen = [offset + i for i in range(span) if bits >> i % 13 & 1] or [offset]
        make = MADE.error if faulty else MADE.row
        rows = [make(chunk, index) for index in chosen]
        record, _ = make_result(PROJECT, chunk, rows, NOW - len(self.said), len(self.said))
        envelope = seal(AUTHORS[by], "result", record)
        self.results.append((envelope, record, rows))
        self.say(envelope, at)
        self.replicas[at % len(self.replicas)].give_body(envelope.id, envelope.author, record, rows)

    @precondition(lambda self: self.results)
    @rule(which=number, word=st.sampled_from(("ok", "bad", "differs")), at=number)
    def finding(self, which: int, word: str, at: int) -> None:
        envelope, record, _ = self.results[which % len(self.results)]
        said = Finding(PROJECT.m, envelope.id, record.mask, word, "scoring", b"", NOW)
        self.say(seal(VERIFIER, "verdict", said), at)

    @rule(
        by=st.integers(0, 3), version=st.integers(1, 3), scope=st.sampled_from(("none", "unsealed", "all")), at=number
    )
    def ban(self, by: int, version: int, scope: str, at: int) -> None:
        after = max(0, len(self.sealed) - version % 2)
        said = Ban(PROJECT.m, AUTHORS[by].public, version, after, scope, "", (), NOW)
        self.say(seal(COORDINATOR, "ban", said), at)

    @precondition(lambda self: self.results)
    @rule(which=number, at=number)
    def void(self, which: int, at: int) -> None:
        said = Void(PROJECT.m, (self.results[which % len(self.results)][0].id,), "", (), NOW)
        self.say(seal(COORDINATOR, "void", said), at)

    @rule(where=st.sampled_from(SLICES), bits=st.integers(1, 63), at=number)
    def redact(self, where: tuple[int, int, int], bits: int, at: int) -> None:
        chunk, offset, span = where
        said = Redact(PROJECT.m, chunk, offset, span, bits.to_bytes(8, "little"), "", NOW)
        self.say(seal(COORDINATOR, "redact", said), at)

    @rule(by=st.integers(0, 3), time=st.integers(NOW - 2, NOW), name=st.sampled_from(("a", "b")), at=number)
    def profile(self, by: int, time: int, name: str, at: int) -> None:
        self.say(seal(AUTHORS[by], "profile", Profile(PROJECT.m, name, "", time)), at)

    @rule(version=st.integers(1, 3), at=number)
    def stamp(self, version: int, at: int) -> None:
        said = Stamp(PROJECT.m, version, 1, 1, bytes(32), 0, bytes(32), NOW, NOW + 100)
        self.say(seal(COORDINATOR, "stamp", said), at)

    @precondition(lambda self: self.sealed)
    @rule(by=st.integers(0, 3), beacon=st.integers(0, 3), at=number)
    def fork(self, by: int, beacon: int, at: int) -> None:
        held = next(said for said in self.said if said.kind == "checkpoint")
        other = _checkpoint(1, bytes(32), [], {}, bytes([200 + beacon]) * 32)
        proof = fork_of(held, seal(COORDINATOR, "checkpoint", other), 1, PROJECT.m, NOW)
        self.say(seal(AUTHORS[by], "fork", proof), at)

    @rule(at=number, tier=st.integers(0, 2), keep=number)
    def checkpoint(self, at: int, tier: int, keep: int) -> None:
        """The coordinator lives at the first replica, whose chain is whole. It seals most of what it knows."""
        home = self.replicas[0]
        home.take_seals(self.sealed)
        if home.ledger.seals.head != len(self.sealed):
            return
        keys = [(time, id_) for time, id_ in home.ledger.unsealed() if (id_[0] + keep) % 4]
        tiers = {AUTHORS[tier].public: tier} if tier else {}
        beacon = hashlib.sha256(bytes([keep % 256])).digest()
        record = _checkpoint(len(self.sealed) + 1, home.ledger.seals.head_hash, keys, tiers, beacon)
        envelope = seal(COORDINATOR, "checkpoint", record)
        one = Seal(record.number, envelope.payload_hash, beacon, tiers)
        self.sealed[record.number] = Sealed(record, one, [home.kept[id_] for _, id_ in keys])
        self.say(envelope, 0)
        home.take_seals(self.sealed)

    # who hears it

    @precondition(lambda self: self.said)
    @rule(which=number, at=number)
    def hear(self, which: int, at: int) -> None:
        self.replicas[at % len(self.replicas)].deliver(self.said[which % len(self.said)].data)

    @precondition(lambda self: self.results)
    @rule(which=number, at=number)
    def body(self, which: int, at: int) -> None:
        envelope, record, rows = self.results[which % len(self.results)]
        self.replicas[at % len(self.replicas)].give_body(envelope.id, envelope.author, record, rows)

    @rule(at=number)
    def follow(self, at: int) -> None:
        self.replicas[at % len(self.replicas)].take_seals(self.sealed)

    @rule(one=number, other=number)
    def meet(self, one: int, other: int) -> None:
        a, b = self.replicas[one % len(self.replicas)], self.replicas[other % len(self.replicas)]
        if a is not b:
            compare(a, b)

    # what follows

    def teardown(self) -> None:
        if hasattr(self, "replicas"):
            self.heal()
            self.check()

    def heal(self) -> None:
        """Everybody meets everybody until nothing is new, follows the chain, and gets every body that somebody has."""
        for _ in range(ROUNDS):
            handed = 0
            for place, one in enumerate(self.replicas):
                one.take_seals(self.sealed)
                handed += sum(compare(one, other) for other in self.replicas[:place])
            if not handed and all(replica.ledger.seals.head == len(self.sealed) for replica in self.replicas):
                break
        for replica in self.replicas:
            for envelope, record, rows in self.results:
                replica.give_body(envelope.id, envelope.author, record, rows)

    def check(self) -> None:
        first = self.replicas[0]
        for other in [*self.replicas[1:], self.told_in_order()]:
            assert list(other.ledger.index) == list(first.ledger.index)
            assert other.ledger.index.digest == first.ledger.index.digest
            assert _counted(other.table()) == _counted(first.table())
            for chunk in range(len(PROJECT.counts)):
                assert other.work.missing(chunk) == first.work.missing(chunk)
                assert other.work.rows.unsettled(chunk) == first.work.rows.unsettled(chunk)
            assert other.work.unfinished == first.work.unfinished
            assert other.ledger.items_done == first.ledger.items_done
            assert dict(other.work.by_author) == dict(first.work.by_author)
            assert other.ledger.profiles == first.ledger.profiles
            assert other.ledger.forks == first.ledger.forks
        self.check_rows(first)

    def told_in_order(self) -> Replica:
        """A replica that starts again from what the first one holds, in the order of ids.

        A ban may come before the one that lifts it, so results are handed over again, as the next conversation would.
        """
        held, again = self.replicas[0], Replica()
        for kind in ("grant", "checkpoint", "", "result"):
            for _, envelope in sorted(held.kept.items()):
                if kind in ("", envelope.kind) and envelope.id in held.ledger.index:
                    again.deliver(envelope.data)
        again.take_seals(self.sealed)
        for id_, (author, result, rows) in held.bodies.items():
            again.give_body(id_, author, result, rows)
        return again

    def check_rows(self, replica: Replica) -> None:
        """What the bit sets say is what the table says, and nothing of what was redacted is left."""
        rows = replica.work.rows
        done: dict[int, int] = {}
        for _, chunk, item in replica.table():
            done[chunk] = done.get(chunk, 0) | 1 << item
        for chunk in range(len(PROJECT.counts)):
            assert rows.done.get(chunk, 0) == done.get(chunk, 0)
            assert not rows.redacted(chunk) & done.get(chunk, 0)
        self.check_errors(replica)

    def check_errors(self, replica: Replica) -> None:
        """An item is settled, and an error shown where there is an answer, only when enough authors say so."""
        answered, final = self.told_of_items(replica)
        for place, (_, row) in replica.table().items():
            assert not row.error or place not in answered or place in final
        for chunk in range(len(PROJECT.counts)):
            settled = {item for _, where, item in answered | final if where == chunk}
            settled |= {item for item in range(128) if replica.work.rows.redacted(chunk) >> item & 1}
            open_ = {item for item in range(128) if replica.work.rows.unsettled(chunk) >> item & 1}
            assert open_ == set(range(PROJECT.counts[chunk])) - settled

    def told_of_items(self, replica: Replica) -> tuple[set[Place], set[Place]]:
        """Places with an answer, and those with an error by two authors or confirmed, worked out the long way."""
        answered: set[Place] = set()
        errors: dict[Place, set[bytes]] = {}
        final: set[Place] = set()
        for id_, (author, result, rows) in replica.bodies.items():
            counted = replica.ledger.counted(id_, author)
            for row in (row for row in rows if counted >> (row.item - result.offset) & 1):
                place = (result.tid, result.chunk, row.item)
                if not row.error:
                    answered.add(place)
                elif replica.ledger.confirmed(id_) >> (row.item - result.offset) & 1:
                    final.add(place)
                else:
                    errors.setdefault(place, set()).add(author)
        return answered, final | {place for place, authors in errors.items() if len(authors) > 1}


def _checkpoint(
    number: int, prev: bytes, keys: list[tuple[int, bytes]], tiers: Mapping[bytes, int], beacon: bytes
) -> Checkpoint:
    return Checkpoint(
        m=PROJECT.m,
        number=number,
        prev=prev,
        segments=tuple(segment for segment, _ in segments(keys)),
        coverage=blob_of(b""),
        tiers=blob_of(tiers_blob(tiers)),
        beacon=beacon,
        statements=len(keys),
        captions=0,
        time=NOW,
    )


def _counted(table: Mapping[Place, Entry]) -> dict[Place, tuple[bytes, bytes]]:
    return {place: (batch.id, msgspec.json.encode(row)) for place, (batch, row) in table.items()}


Ledgers.TestCase.settings = settings(max_examples=250, stateful_step_count=40)
TestLedgers = Ledgers.TestCase
