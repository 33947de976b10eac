"""The worker, in simulated time: every image one row, whatever the engine does; the engine never waits for work."""

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable

import pytest
import trio
from msgspec import UNSET

from p2pcap.errors import ImageError
from p2pcap.ledger.evidence import Ids, open_evidence
from p2pcap.ledger.records import MAX_CLAIMED
from p2pcap.project.records import SLICE
from p2pcap.worker.agenda import LOOK_EVERY
from p2pcap.worker.captioning import SLICE_SECONDS
from p2pcap.worker.missing import LONGER, PAUSE
from p2pcap.worker.worker import CLAIM_EVERY, FETCHED, RENEW_EVERY
from tests.makers import claim_record, image_bytes, ledger_of, make_project, make_result, work_of
from tests.twins import AUTHORS, ME, OTHER, TwinEngine, TwinSwarm, alone, each_once, now, places, simulated, uneven


@pytest.mark.parametrize("counts", [(1,), (64,), (65,), (64, 64, 64), (200, 1, 130, 64)])
@simulated
async def test_every_image_gets_one_row(counts: tuple[int, ...]) -> None:
    made = make_project(counts)
    worker, station = await alone(made, TwinEngine(seconds=uneven))
    assert places(station) == each_once(made)
    for chunk, row in station.rows:
        assert [answer.text for answer in row.answers] == [f"caption of {image_bytes(chunk, row.item).decode()}"]
        assert row.image == made.items[chunk][row.item].hash
    assert worker.rate.total == made.project.images
    assert worker.mine == []
    assert worker.in_flight == 0


@simulated
async def test_images_that_nobody_hands_over_hold_up_no_others() -> None:
    made = make_project((130, 64, 64))
    engine = TwinEngine()
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        worker, station = swarm.join(ME, engine)
        gone = {(0, 3), (0, 129), *((1, index) for index in range(64))}
        station.lacks = {made.items[chunk][index].hash for chunk, index in gone}
        nursery.start_soon(worker.run)
        await trio.sleep(120)
        assert places(station) == {place: 1 for place in each_once(made) if place not in gone}
        tries = [time for time, claim in station.claims if claim.chunks]
        assert len(tries) < 30, "what is not to be had is asked for now and then, not without a pause"
        station.lacks = set()
        await trio.sleep(PAUSE * (1 + LONGER) + 60)
        assert places(station) == each_once(made)
        worker.finish()


@simulated
async def test_a_result_says_who_and_when() -> None:
    made = make_project((100,))
    _, station = await alone(made, TwinEngine())
    assert {one.envelope.author for one in station.published} == {ME.public}
    assert {one.result.engine for one in station.published} == {b"twintwin"}
    assert all(one.result.tokens == 4 * len(one.rows) for one in station.published)
    assert sorted((one.result.offset, one.result.n) for one in station.published) == [(0, 64), (64, 36)]
    assert all(0 <= one.time + 1_800_000_000 - one.result.time < 1 for one in station.published)


@simulated
async def test_a_result_names_the_token_ids_of_its_answers() -> None:
    made = make_project((130,))
    engine = TwinEngine()
    engine.ids = {image_bytes(0, index): (index, 7, 2) for index in range(70)}
    engine.faulty = {image_bytes(0, 3): ImageError("empty-output", "The model said nothing.")}
    _, station = await alone(made, engine)
    told: dict[int, Ids] = {}
    for one in station.published:
        if one.evidence is None:
            assert one.result.evidence is UNSET
        else:
            assert one.result.evidence == hashlib.sha256(one.evidence).digest()
            told |= open_evidence(one.evidence)
    assert told == {index: ((index, 7, 2),) for index in range(70) if index != 3}
    assert [one.evidence is None for one in sorted(station.published, key=lambda one: one.result.offset)][2]


@pytest.mark.parametrize("capacity", [1, 7, 64, 100])
@simulated
async def test_never_more_than_its_capacity_is_with_the_engine(capacity: int) -> None:
    engine = TwinEngine(capacity, uneven)
    await alone(make_project((200, 200)), engine)
    assert engine.most == capacity
    assert sorted(engine.asked) == sorted(image_bytes(chunk, index) for chunk in (0, 1) for index in range(200))


@pytest.mark.parametrize(
    ("capacity", "seconds"),
    [
        pytest.param(8, lambda image: 1.0, id="in step"),
        pytest.param(8, uneven, id="uneven"),
        pytest.param(24, lambda image: 12 * uneven(image), id="a slow engine"),
        pytest.param(100, lambda image: 2 * uneven(image), id="a wide engine"),
    ],
)
@pytest.mark.parametrize("count", [64, 130])
@simulated
async def test_the_engine_never_waits_for_work(capacity: int, seconds: Callable[[bytes], float], count: int) -> None:
    """Full across slices and chunks, from the start until the last image is with it."""
    engine = TwinEngine(capacity, seconds)
    await alone(make_project([count] * 10), engine)
    assert engine.starved == 0


def length(image: bytes) -> float:
    """10 to 200 tokens at 20 a second, by the image."""
    return random.Random(image).randint(10, 200) / 20


@pytest.mark.parametrize(("capacity", "count"), [(20, 64), (80, 64), (272, 256)])
@simulated
async def test_captions_of_very_different_lengths_lose_nothing_at_the_borders(capacity: int, count: int) -> None:
    """From its first image to its last the engine is as full as it can be. A claim names eight chunks: of a wide engine
    these must hold more images than are in slices of which one is still with the engine."""
    engine = TwinEngine(capacity, length)
    made = make_project([count] * (2_560 // count))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        _, station = swarm.join(ME, engine)
        station.fetch_seconds = 0.3
        await swarm.work()
    assert places(station) == each_once(made)
    full, last = engine.full_from_to
    assert full < 5, "it is full soon"
    assert engine.busy(full, last) >= 0.99
    ended = max(time for time, _ in engine.levels)
    assert ended - last <= 11, "after the last image has begun nothing is left but the longest caption"


@simulated
async def test_one_slow_image_holds_up_its_slice_and_nothing_else() -> None:
    made = make_project([64] * 12)
    slow = image_bytes(*next(iter(each_once(made))))
    engine = TwinEngine(8, lambda image: 55.0 if image == slow else uneven(image))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        _, station = swarm.join(ME, engine)
        await swarm.work()
    assert engine.starved == 0
    assert places(station) == each_once(made)
    assert len(station.published) == 12


@simulated
async def test_a_slice_that_takes_long_is_published_in_parts() -> None:
    """A crash loses at most 64 images or a minute of work."""
    made = make_project((64, 64))
    slow = {image_bytes(0, 3): 200.0, image_bytes(1, 5): 400.0}
    engine = TwinEngine(8, lambda image: slow.get(image, 10.0))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        worker, station = swarm.join(ME, engine)
        nursery.start_soon(worker.run)
        await trio.sleep(5)
        while not station.ledger.finished:
            done = len(engine.asked) - engine.levels[-1][1]
            late = done - len(station.rows)
            assert late <= 8 * (SLICE_SECONDS / 10 + 1), "what a crash would lose now"
            assert worker.mine, "what is in hand is claimed until it is done"
            await trio.sleep(10)
        worker.finish()
    assert places(station) == each_once(made)
    assert not any(one.rows == () for one in station.published)
    assert {(one.result.offset, one.result.n) for one in station.published} == {(0, 64)}
    assert worker.mine == []
    assert worker.rate.total == 128


@simulated
async def test_fetching_hides_behind_captioning() -> None:
    engine = TwinEngine(8, uneven)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(make_project([64] * 12), nursery)
        _, station = swarm.join(ME, engine)
        station.fetch_seconds = 5.0
        await swarm.work()
    assert engine.starved == 0


@simulated
async def test_few_images_wait_in_memory() -> None:
    engine = TwinEngine(8, uneven)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(make_project([1_000]), nursery)
        worker, station = swarm.join(ME, engine)
        nursery.start_soon(worker.run)
        while not station.ledger.finished:
            assert station.fetched - len(engine.asked) <= (FETCHED + 2) * SLICE
            await trio.sleep(0.5)
        worker.finish()


# claims


@simulated
async def test_claims_come_before_work_and_are_given_back() -> None:
    _, station = await alone(make_project([100] * 10), TwinEngine(8, uneven))
    named: set[int] = set()
    for time, claim in station.claims:
        named |= {claimed.chunk for claimed in claim.chunks}
        assert {one.result.chunk for one in station.published if one.time <= time} <= named
        assert len(claim.chunks) <= MAX_CLAIMED
    nonces = [claim.nonce for _, claim in station.claims]
    assert nonces == sorted(set(nonces))
    assert station.claims[-1][1].chunks == ()
    times = [time for time, _ in station.claims[:-1]]
    assert all(later - earlier >= CLAIM_EVERY for earlier, later in itertools.pairwise(times))


@simulated
async def test_a_fast_engine_claims_half_a_minute_ahead() -> None:
    """At 32 images a second that is 960, more than one claim may name; never later than when 30 s of work remain."""
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(make_project([64] * 40), nursery)
        worker, _ = swarm.join(ME, TwinEngine(8, lambda image: 0.25))
        nursery.start_soon(worker.run)
        await trio.sleep(10)
        assert len(worker.mine) >= MAX_CLAIMED - 1
        worker.finish()


@simulated
async def test_a_slow_slice_does_not_outlive_its_claim() -> None:
    """Four minutes for a slice, which a claim of 30 s a slice says again and again."""
    made = make_project((64,))
    ledger = ledger_of(made.project, *AUTHORS)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        worker, station = swarm.join(ME, TwinEngine(8, lambda image: 30.0), ledger)
        nursery.start_soon(worker.run)
        await trio.sleep(2)
        while not ledger.finished:
            assert ledger.claims.chunks(now()) == {0: [ME.public]}
            await trio.sleep(1)
        worker.finish()
    times = [time for time, claim in station.claims if claim.chunks]
    assert len(times) > 5
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= RENEW_EVERY + LOOK_EVERY


@simulated
async def test_a_chunk_is_left_to_whoever_publishes_in_it() -> None:
    """Another worker, whose claim crossed ours, has results in the chunk; only slices with the engine are finished."""
    made = make_project((1_024,))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        worker, station = swarm.join(ME, TwinEngine(8, uneven))
        nursery.start_soon(worker.run)
        await trio.sleep(1)
        station.ledger.claims.hold(OTHER.public, claim_record(made.project, {0: 2**16 - 1}, seconds=1), b"", now())
        station.ledger.complete(b"\1" * 32, OTHER.public, make_result(made.project, 0, [made.row(0, 1_023)])[0], 0)
        await trio.sleep(12)
        assert len(station.rows) == SLICE
        worker.finish()


@simulated
async def test_slices_that_are_taken_over_are_left_unless_begun() -> None:
    made = make_project((1_024,))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        worker, station = swarm.join(ME, TwinEngine(8, uneven))
        nursery.start_soon(worker.run)
        await trio.sleep(25)
        assert {row.item // SLICE for _, row in station.rows} == {0, 1}
        taken = claim_record(made.project, {0: 0xFF00 | 0b01100}, seconds=60)
        station.ledger.claims.hold(OTHER.public, taken, b"", now())
        await trio.sleep(50)
        done = {row.item // SLICE for _, row in station.rows}
        assert done - {2, 3} == {0, 1, 4, 5, 6, 7}
        assert len(done & {2, 3}) == 1, "of what was taken one was begun and one only fetched"
        worker.finish()


@simulated
async def test_a_slow_owner_is_helped_and_nothing_is_done_twice() -> None:
    """One chunk, one volunteer four times as fast as the other: they end together, and share by speed."""
    made = make_project((2_048,))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery, delay=1.0)
        slow, _ = swarm.join(OTHER, TwinEngine(8, lambda image: 4.0))
        fast, _ = swarm.join(ME, TwinEngine(8, lambda image: 1.0))
        nursery.start_soon(slow.run)
        await trio.sleep(70)
        nursery.start_soon(fast.run)
        for station in swarm.stations:
            while not station.ledger.finished:
                await station.changed()
        spent = trio.current_time()
        slow.finish()
        fast.finish()
    done = [places(station) for station in swarm.stations]
    assert sum(done, Counter()) == each_once(made)
    assert done[1].total() > 2 * done[0].total()
    assert spent < 1.25 * (70 + (2_048 - 140) / 10)


@simulated
async def test_what_others_did_meanwhile_is_not_done_again() -> None:
    made = make_project((640,))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        worker, station = swarm.join(ME, TwinEngine(8, uneven))
        nursery.start_soon(worker.run)
        await trio.sleep(1)
        theirs = make_result(made.project, 0, [made.row(0, index) for index in range(512, 576)])[0]
        station.ledger.complete(b"\1" * 32, OTHER.public, theirs, 0)
        while not station.ledger.finished:
            await station.changed()
        worker.finish()
    assert set(each_once(made)) - set(places(station)) == {(0, index) for index in range(512, 576)}


@simulated
async def test_nothing_starts_before_the_release() -> None:
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(make_project((64,)), nursery)
        worker, station = swarm.join(ME, engine := TwinEngine())
        station.released = False
        nursery.start_soon(worker.run)
        await trio.sleep(500)
        assert engine.asked == []
        assert station.claims == []
        station.released = True
        station.tell()
        await trio.sleep(3)
        assert engine.asked != []
        assert worker.rate.average() == worker.rate.current(now()) == 0.0
        worker.finish()


# several


@simulated
async def test_two_workers_with_one_ledger_share_the_work() -> None:
    made = make_project([64] * 20)
    ledger = ledger_of(made.project, *AUTHORS)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        for identity in AUTHORS[:2]:
            swarm.join(identity, TwinEngine(8, uneven), ledger)
        await swarm.work()
    one, other = (places(station) for station in swarm.stations)
    assert one + other == each_once(made)
    assert min(one.total(), other.total()) > made.project.images // 3


@pytest.mark.parametrize("delay", [0.05, 1.0])
@simulated
async def test_workers_that_hear_each_other_late_still_finish(delay: float) -> None:
    made = make_project([100] * 20)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery, delay)
        for identity in AUTHORS[:4]:
            swarm.join(identity, TwinEngine(8, uneven))
        await swarm.work()
    done = sum((places(station) for station in swarm.stations), Counter())
    assert set(done) == set(each_once(made))
    assert done.total() < 1.25 * made.project.images
    assert all(places(station).total() > made.project.images // 10 for station in swarm.stations)


@simulated
async def test_a_worker_that_vanishes_holds_nothing_up() -> None:
    """Cancelled, as when its node is killed: its claim runs out, and the other does its share."""
    made = make_project([64] * 16)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        gone, _ = swarm.join(OTHER, TwinEngine(8, uneven))
        stays, station = swarm.join(ME, TwinEngine(8, uneven))
        nursery.start_soon(stays.run)
        with trio.move_on_after(20):
            await gone.run()
        while not station.ledger.finished:
            await station.changed()
        stays.finish()
    assert all(missing == 0 for missing in map(work_of(station.ledger).missing, range(16)))
