"""Checking results with a twin of the engine and of the node around it: what is asked for, what is signed, and when."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import trio

from p2pcap.audit.auditing import AGAIN, Auditing
from p2pcap.audit.checking import MANY, Shown
from p2pcap.audit.pace import AT_ONCE, OWN_FOR_ONE, SAVED
from p2pcap.audit.sampling import FORCED
from p2pcap.audit.watching import Watch
from p2pcap.envelope import Envelope, seal
from p2pcap.errors import ImageError, ImageUnavailable
from p2pcap.identity import Identity
from p2pcap.ledger.body import error_bits
from p2pcap.ledger.evidence import Ids
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.records import Answer, Result, Row
from p2pcap.ledger.rulings import Ban, Finding
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.project.audit import Audit
from p2pcap.project.records import Policy
from tests.makers import (
    ADA,
    BOB,
    COORDINATOR,
    EVE,
    Made,
    image_bytes,
    ledger_of,
    make_project,
    make_result,
    signed,
    work_of,
)
from tests.twins import TwinEngine, now, simulated
from tests.unit.test_audit_checking import BY_TOKENS, CLASS

VERA = Identity.from_seed(b"v" * 32)
SECRET = b"s" * 32


def audited(made: Made, audit: Audit = BY_TOKENS, verifiers: Sequence[Identity] = (VERA,)) -> Made:
    """The project with a calibration, and these verifiers."""
    plan = made.project.plan
    stages = tuple(msgspec.structs.replace(stage, audit=audit) for stage in plan.stages)
    changed = msgspec.structs.replace(plan, stages=stages, verifiers=tuple(one.public for one in verifiers))
    return Made(signed(changed), made.items)


@dataclass
class Alone:
    engines: int = 1
    verifiers: int = 1


@dataclass
class TwinAuditStation:
    """The node around an audit. Bodies, evidence and images are those that `publish_as` was given; what is in `away`
    cannot be had now."""

    made: Made
    ledger: Ledger
    bodies: dict[bytes, Sequence[Row]] = field(default_factory=dict)
    told: dict[bytes, Mapping[int, Ids]] = field(default_factory=dict)
    away: set[object] = field(default_factory=set)
    asked: list[tuple[int, int]] = field(default_factory=list)
    published: list[tuple[float, Finding]] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    async def rows(self, id_: bytes, result: Result) -> Sequence[Row] | None:
        await trio.lowlevel.checkpoint()
        return None if id_ in self.away else self.bodies[id_]

    async def evidence(self, author: bytes, result: Result) -> Mapping[int, Ids] | None:
        await trio.lowlevel.checkpoint()
        return None if author in self.away else self.told.get(result.root, {})

    async def images(self, chunk: int, wanted: Sequence[int]) -> Mapping[int, Shown | ImageError]:
        await trio.lowlevel.checkpoint()
        self.asked += [(chunk, place) for place in wanted]
        return {place: self._image(chunk, place) for place in wanted if (chunk, place) not in self.away}

    def _image(self, chunk: int, place: int) -> Shown | ImageError:
        if (chunk, place, "gone") in self.away:
            return ImageUnavailable("timeout", "no")
        return Shown(self.made.items[chunk][place].hash, image_bytes(chunk, place))

    async def values(self, result: Result, rows: Sequence[Row]) -> Mapping[int, Mapping[str, str]]:
        await trio.lowlevel.checkpoint()
        return {row.item: {} for row in rows}

    async def publish(self, envelope: Envelope, finding: Finding) -> None:
        judgement = validate(self.ledger, envelope.data, now())
        assert judgement.verdict is Verdict.ACCEPT, judgement.reason
        self.ledger.add(envelope, finding)
        self.published.append((trio.current_time(), finding))
        self.tell()

    async def changed(self) -> None:
        await self.news.wait()

    def tell(self) -> None:
        news, self.news = self.news, trio.Event()
        news.set()


class Captioning:
    """A worker that makes as many images as it is told."""

    def __init__(self) -> None:
        self.busy = False
        self.made = 0
        self.inside = 0
        self.most = 0

    @asynccontextmanager
    async def entered(self, alone: bool) -> AsyncIterator[None]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            self.inside -= 1


class World:
    """One node that audits as `me`, in a project that Ada, Bob and Eve caption."""

    def __init__(self, made: Made, me: Identity = VERA) -> None:
        self.made = made
        self.ledger = ledger_of(made.project, ADA, BOB, EVE, VERA)
        self.company = Alone()
        self.watch = Watch(me.public, self.ledger, SECRET, self.company)
        self.station = TwinAuditStation(made, self.ledger)
        self.auditing = Auditing(me, self.ledger, self.watch, self.station, now)
        self.engine = TwinEngine(capacity=8)
        self.captioning = Captioning()

    def publish_as(
        self, author: Identity, chunk: int, rows: Sequence[Row], time: int | None = None, tells: bool = True
    ) -> bytes:
        """A result with its body, and with its tokens where it `tells`; its id."""
        result, _ = make_result(self.made.project, chunk, rows, int(now()) if time is None else time)
        result = msgspec.structs.replace(result, engine=CLASS)
        envelope = seal(author, "result", result)
        self.ledger.add(envelope, result)
        self.ledger.complete(envelope.id, author.public, result, error_bits(rows))
        self.station.bodies[envelope.id] = rows
        if tells:
            texts = {row.item: tuple(tuple(map(ord, answer.text)) for answer in row.answers) for row in rows}
            self.station.told[result.root] = texts
        self.watch.heard(envelope.id, author.public, result, rows, now())
        self.station.tell()
        return envelope.id

    def honest(self, chunk: int, items: Sequence[int]) -> list[Row]:
        return [self.row(chunk, item, f"caption of {image_bytes(chunk, item).decode()}") for item in items]

    def lazy(self, chunk: int, items: Sequence[int]) -> list[Row]:
        return [self.row(chunk, item, "a nice picture") for item in items]

    def failed(self, chunk: int, items: Sequence[int], code: str = "gone") -> list[Row]:
        return [Row(item, self.made.items[chunk][item].hash, (), code, "no") for item in items]

    def row(self, chunk: int, item: int, text: str) -> Row:
        return Row(item, self.made.items[chunk][item].hash, (Answer(text, len(text), "stop"),))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.auditing.run, work_of(self.ledger), self.engine, self.captioning)
            yield
            nursery.cancel_scope.cancel()

    async def run(self, seconds: float = 30.0) -> None:
        async with self.running():
            await trio.sleep(seconds)

    @property
    def found(self) -> dict[tuple[bytes, str, str], int]:
        """Items by result, verdict and method."""
        said: dict[tuple[bytes, str, str], int] = {}
        for _, one in self.station.published:
            key = one.batch, one.verdict, one.method
            said[key] = said.get(key, 0) | int.from_bytes(one.items, "little")
        return said


PROJECT = audited(make_project((128, 128, 128)))
SLICE = range(64)


@simulated
async def test_an_authors_first_result_is_looked_at_and_found_right() -> None:
    world = World(PROJECT)
    id_ = world.publish_as(ADA, 0, world.honest(0, SLICE))
    await world.run()
    ((key, items),) = world.found.items()
    assert key == (id_, "ok", "tokens")
    assert 4 <= items.bit_count() < 20
    assert len(world.station.asked) == items.bit_count()
    assert world.auditing.counts == {"ok": items.bit_count()}


@simulated
async def test_a_lazy_author_is_found_and_then_everything_of_his_is_looked_at() -> None:
    world = World(PROJECT)
    first = world.publish_as(BOB, 0, world.honest(0, SLICE))
    second = world.publish_as(BOB, 0, world.lazy(0, range(64, 128)))
    third = world.publish_as(BOB, 1, world.honest(1, SLICE))
    async with world.running():
        await trio.sleep(30)
        assert world.ledger.trust.standing(BOB.public).quarantined
        world.watch.look_again(now())
        world.station.tell()
        await trio.sleep(60)
    assert all(batch == second for batch, verdict, _ in world.found if verdict == "bad")
    assert world.found[first, "ok", "tokens"].bit_count() >= 8
    assert world.found[third, "ok", "tokens"].bit_count() >= 8


@simulated
async def test_what_was_done_again_is_not_held_against_each_item_of_a_cheats() -> None:
    world = World(PROJECT)
    world.publish_as(BOB, 0, world.lazy(0, SLICE))
    await world.run()
    assert world.ledger.trust.standing(BOB.public).quarantined
    world.publish_as(ADA, 1, world.honest(1, SLICE))
    late = world.publish_as(BOB, 1, world.lazy(1, SLICE))
    pick = world.watch.agenda(work_of(world.ledger).tid).next(now() + 1e9)
    while pick is not None and pick.id != late:
        pick = world.watch.agenda(work_of(world.ledger).tid).next(now() + 1e9)
    assert pick is not None
    assert pick.shared == 0
    assert pick.items.bit_count() <= 2 * FORCED


@simulated
async def test_one_error_that_has_an_answer_here_has_the_others_looked_at() -> None:
    world = World(PROJECT)
    spoilt = range(0, 64, 5)
    rows = [*world.failed(0, spoilt), *world.honest(0, [item for item in SLICE if item not in spoilt])]
    id_ = world.publish_as(ADA, 0, sorted(rows, key=lambda row: row.item))
    pick = world.watch.agenda(work_of(world.ledger).tid).next(0.0)
    assert pick is not None
    drawn = sum(pick.items >> item & 1 for item in spoilt)
    assert 0 < drawn < MANY, "which say little by themselves"
    world.watch.agenda(work_of(world.ledger).tid).done(pick)
    world.watch.look(id_, now())
    await world.run()
    assert world.found[id_, "bad", "retry"].bit_count() >= MANY


@simulated
async def test_another_volunteer_signs_only_what_is_bad() -> None:
    made = audited(make_project((128, 128, 128), policy=Policy(peer_audits=1)))
    world = World(made, me=EVE)
    world.publish_as(ADA, 0, world.honest(0, SLICE))
    bad = world.publish_as(BOB, 1, world.lazy(1, SLICE))
    await world.run(300)
    assert {(batch, verdict) for batch, verdict, _ in world.found} == {(bad, "bad")}
    assert world.auditing.counts == {"ok": 64, "bad": 64}


@simulated
async def test_a_volunteer_checks_nothing_where_the_policy_says_so() -> None:
    world = World(audited(make_project((128,), policy=Policy(peer_audits=0))), me=EVE)
    world.publish_as(BOB, 0, world.lazy(0, SLICE))
    await world.run(300)
    assert world.station.asked == []


@simulated
async def test_nothing_is_checked_without_a_calibration() -> None:
    plain = make_project((128,))
    plan = msgspec.structs.replace(plain.project.plan, verifiers=(VERA.public,))
    world = World(Made(signed(plan), plain.items))
    world.publish_as(BOB, 0, world.lazy(0, SLICE))
    await world.run()
    assert world.station.asked == []


@simulated
async def test_nobody_checks_own_results() -> None:
    world = World(PROJECT)
    id_ = world.publish_as(VERA, 0, world.lazy(0, SLICE))
    finding = Finding(PROJECT.project.m, id_, b"\1" + bytes(7), "bad", "tokens", b"", int(now()))
    world.ledger.add(seal(ADA, "verdict", finding), finding)
    assert world.ledger.trust.accused
    world.watch.look_again(now())
    await world.run()
    assert world.station.asked == []


@simulated
async def test_many_errors_that_have_answers_here_are_bad_and_real_ones_are_confirmed() -> None:
    world = World(PROJECT)
    lies = world.publish_as(ADA, 0, world.failed(0, SLICE))
    world.engine.faulty |= {image_bytes(1, item): ImageError("truncated", "no") for item in SLICE}
    true = world.publish_as(BOB, 1, world.failed(1, SLICE, "undecodable"))
    await world.run()
    assert set(world.found) == {(lies, "bad", "retry"), (true, "ok", "retry")}


@simulated
async def test_what_cannot_be_had_now_is_asked_for_again_later() -> None:
    world = World(PROJECT)
    id_ = world.publish_as(ADA, 0, world.honest(0, SLICE))
    world.station.away |= {(0, item) for item in SLICE}
    async with world.running():
        await trio.sleep(AGAIN - 1)
        asked = len(world.station.asked)
        assert world.found == {}
        world.station.away.clear()
        await trio.sleep(30)
    assert world.found[id_, "ok", "tokens"].bit_count() == asked


@simulated
async def test_an_author_who_is_away_is_waited_for_once() -> None:
    world = World(PROJECT)
    id_ = world.publish_as(ADA, 0, world.honest(0, SLICE))
    world.station.away.add(ADA.public)
    async with world.running():
        await trio.sleep(AGAIN - 1)
        assert world.found == {}
        await trio.sleep(30)
    assert set(world.found) == {(id_, "ok", "text")}


@simulated
async def test_a_claim_under_which_the_engine_dies_is_tried_once_more_and_left_alone() -> None:
    world = World(PROJECT)
    world.engine.poison |= {image_bytes(0, item) for item in SLICE}
    id_ = world.publish_as(ADA, 0, world.honest(0, SLICE))
    await world.run(3_000)
    assert set(world.found) == {(id_, "unsure", "image")}
    assert max(Counter(world.engine.asked).values()) == 2


@simulated
async def test_a_check_that_is_broken_off_is_made_later() -> None:
    world = World(PROJECT)
    world.engine.seconds = lambda image: 100.0
    id_ = world.publish_as(ADA, 0, world.honest(0, SLICE))
    await world.run(10)
    assert world.found == {}
    await world.run(1_000)
    assert set(world.found) == {(id_, "ok", "tokens")}


@simulated
async def test_own_work_goes_first() -> None:
    world = World(PROJECT)
    world.captioning.busy = True
    for chunk in range(3):
        for start in (0, 64):
            world.publish_as(BOB, chunk, world.lazy(chunk, range(start, start + 64)))
    for made in range(0, 41, 10):
        world.captioning.made = made
        world.station.tell()
        await world.run(100)
    assert len(world.station.published) > 0
    assert world.captioning.most <= AT_ONCE
    assert sum(world.auditing.counts.values()) <= SAVED + 40 // OWN_FOR_ONE + AT_ONCE


@simulated
async def test_without_own_work_as_many_are_checked_at_a_time_as_fill_the_engine() -> None:
    world = World(PROJECT)
    for chunk in range(3):
        world.publish_as(ADA, chunk, world.lazy(chunk, SLICE))
    await world.run(100)
    assert world.captioning.most > AT_ONCE


@simulated
async def test_of_two_results_for_an_item_that_differ_both_are_looked_at() -> None:
    made = audited(make_project((64,)))
    world = World(made)
    world.watch = Watch(VERA.public, world.ledger, SECRET, Alone(verifiers=10**9))  # it draws nothing by chance
    world.auditing = Auditing(VERA, world.ledger, world.watch, world.station, now)
    for time, author in enumerate((ADA, BOB)):  # their first results are looked at for that reason
        world.publish_as(author, 0, world.honest(0, [time]), time=1)
    await world.run()
    world.station.asked.clear()
    world.publish_as(ADA, 0, world.honest(0, range(10, 20)))
    rows = world.honest(0, range(10, 20))
    rows[3] = world.row(0, 13, "a nice picture")
    bad = world.publish_as(BOB, 0, rows)
    await world.run()
    assert set(world.station.asked) == {(0, 13)}
    assert world.found[bad, "bad", "tokens"] == 1 << 13


@simulated
async def test_the_same_items_are_drawn_after_a_restart_and_none_is_checked_twice() -> None:
    world = World(PROJECT)
    for chunk in range(3):
        world.publish_as(ADA, chunk, world.honest(chunk, SLICE))
    await world.run()
    asked = list(world.station.asked)
    again = Watch(VERA.public, world.ledger, SECRET, Alone())
    for id_ in world.ledger.results:
        again.look(id_, now())
    assert asked
    assert not again.is_due(work_of(world.ledger).tid)


@simulated
async def test_what_a_volunteer_accuses_is_what_a_verifier_looks_at_first() -> None:
    world = World(PROJECT)
    id_ = world.publish_as(BOB, 0, world.lazy(0, SLICE))
    finding = Finding(PROJECT.project.m, id_, (1 << 63).to_bytes(8, "little"), "bad", "tokens", b"", int(now()))
    envelope = seal(ADA, "verdict", finding)
    world.ledger.add(envelope, finding)
    world.watch.look_again(now())
    pick = world.watch.agenda(work_of(world.ledger).tid).next(0.0)
    assert pick is not None
    assert (pick.why, pick.items >> 63 & 1) == ("accused", 1)


@simulated
async def test_what_another_verifier_alone_found_bad_is_looked_at_and_contradicted() -> None:
    world = World(audited(make_project((128, 128)), verifiers=(VERA, EVE)))
    id_ = world.publish_as(BOB, 0, world.honest(0, SLICE))
    await world.run()
    seen = world.ledger.trust.found(VERA.public, id_)
    lie = 2**64 - 1 & ~seen
    finding = Finding(world.made.project.m, id_, lie.to_bytes(8, "little"), "bad", "tokens", b"", int(now()))
    world.ledger.add(seal(EVE, "verdict", finding), finding)
    assert world.ledger.trust.standing(BOB.public).failed == lie.bit_count()
    world.watch.look_again(now())
    world.station.tell()
    await world.run(60)
    assert world.ledger.trust.standing(BOB.public).failed == 0
    assert [one.bad for one in world.ledger.trust.contradictions] == [(EVE.public,)]


@simulated
async def test_what_another_verifier_said_before_the_result_came_is_looked_at() -> None:
    world = World(audited(make_project((128, 128)), verifiers=(VERA, EVE)))
    there = World(audited(make_project((128, 128)), verifiers=(VERA, EVE)))
    id_ = there.publish_as(BOB, 0, there.honest(0, SLICE))
    finding = Finding(world.made.project.m, id_, (2**64 - 1).to_bytes(8, "little"), "bad", "tokens", b"", int(now()))
    world.ledger.add(seal(EVE, "verdict", finding), finding)
    world.watch.look_again(now())
    assert world.publish_as(BOB, 0, world.honest(0, SLICE)) == id_
    await world.run(60)
    assert world.ledger.trust.standing(BOB.public).failed == 0


@simulated
async def test_a_ban_keeps_nobody_from_looking_at_what_another_verifier_found_bad() -> None:
    world = World(audited(make_project((128, 128)), verifiers=(VERA, EVE)))
    id_ = world.publish_as(BOB, 0, world.honest(0, SLICE))
    await world.run()
    unseen = 2**64 - 1 & ~world.ledger.trust.found(VERA.public, id_)
    for lie, time in ((unseen & -unseen, now()), (unseen & ~(unseen & -unseen), now() - 500)):
        finding = Finding(world.made.project.m, id_, lie.to_bytes(8, "little"), "bad", "tokens", b"", int(time))
        world.ledger.add(seal(EVE, "verdict", finding), finding)
        ban = Ban(world.made.project.m, BOB.public, 1, 0, "all", "", (), int(now()))
        world.ledger.add(seal(COORDINATOR, "ban", ban), ban)
        world.watch.look_again(now())
        world.station.tell()
        await world.run(60)
    assert world.ledger.trust.standing(BOB.public).failed == 0
    assert [one.items for one in world.ledger.trust.contradictions] == [unseen]


@simulated
async def test_a_review_begins_anew_after_each_bad_item_and_each_time_later() -> None:
    world = World(PROJECT)
    for chunk in range(3):
        world.publish_as(BOB, chunk, world.lazy(chunk, SLICE))
    begun: list[float] = []
    async with world.running():
        for _ in range(40):
            await trio.sleep(100)
            world.watch.look_again(now())
            world.station.tell()
            begun.append(sum(world.auditing.counts.values()))
    looked = [place for place, (one, other) in enumerate(itertools.pairwise(begun)) if one != other]
    assert len(looked) <= 4
    assert world.ledger.trust.standing(BOB.public).quarantined


@simulated
async def test_a_banned_author_is_not_reviewed() -> None:
    world = World(PROJECT)
    world.publish_as(BOB, 0, world.lazy(0, SLICE))
    ban = Ban(world.made.project.m, BOB.public, 1, 0, "all", "", (), int(now()))
    world.ledger.add(seal(COORDINATOR, "ban", ban), ban)
    await world.run()
    counted = dict(world.auditing.counts)
    world.watch.look_again(now())
    world.station.tell()
    await world.run()
    assert world.auditing.counts == counted
