"""The worker when things go wrong: the engine dies, an image is at fault, the disk is full, the user wants to leave."""

from collections import Counter
from collections.abc import Callable

import pytest
import trio

from p2pcap.engine.restarts import Restarts
from p2pcap.errors import EngineStartError, ImageError, ImageResting, ImageUnavailable, StoreError
from p2pcap.ledger.records import MAX_ANSWER
from p2pcap.project.records import Policy
from p2pcap.worker.captioning import LEAST_TRIES
from p2pcap.worker.missing import LONGER, PAUSE
from p2pcap.worker.worker import Worker
from tests.makers import image_bytes, make_project
from tests.twins import ME, TwinEngine, TwinSwarm, alone, each_once, now, places, simulated, uneven

# the engine dies


@pytest.mark.parametrize("attempts", [2, 3])
@simulated
async def test_an_engine_that_dies_now_and_then_costs_no_row(attempts: int) -> None:
    made = make_project((1_000,), policy=Policy(attempts=attempts))
    engine = TwinEngine(8, uneven)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        _, station = swarm.join(ME, engine)

        async def accidents() -> None:
            while True:
                await trio.sleep(60)
                engine.die()

        nursery.start_soon(accidents)
        await swarm.work()
        nursery.cancel_scope.cancel()
    assert engine.deaths >= 3
    assert places(station) == each_once(made)
    assert not any(row.error for _, row in station.rows)
    assert engine.most <= 8


POISONOUS = [{5}, {0}, {63, 64}, {1, 2, 3}, {0, 9, 70, 129}]


@pytest.mark.parametrize("attempts", [1, 2, 3, 4])
@pytest.mark.parametrize("items", POISONOUS, ids=str)
@simulated
async def test_an_image_that_kills_the_engine_is_found_and_no_other_blamed(items: set[int], attempts: int) -> None:
    made = make_project((130,), policy=Policy(attempts=attempts))
    engine = TwinEngine(8, uneven)
    engine.poison = {image_bytes(0, index) for index in items}
    _, station = await alone(made, engine)
    assert places(station) == each_once(made)
    assert {row.item for _, row in station.rows if row.error} == items
    tries = max(LEAST_TRIES, attempts)
    for _, row in station.rows:
        if row.error:
            assert row.error == "engine-died"
            assert str(tries) in row.reason
    asked = Counter(engine.asked)
    assert all(asked[image] == tries for image in engine.poison)
    assert max(asked.values()) <= tries
    assert engine.deaths <= tries * len(items)


@simulated
async def test_a_killer_among_eighty_is_found_without_trying_each_alone() -> None:
    """Three deaths; the 80 in hand at the first are tried nine at a time, and the nine at the second one by one."""
    made = make_project((320,))
    engine = TwinEngine(80)
    engine.poison = {image_bytes(0, 100)}
    _, station = await alone(made, engine)
    assert {row.item for _, row in station.rows if row.error} == {100}
    assert places(station) == each_once(made)
    assert engine.deaths == 3
    work = trio.current_time() - 3 * engine.restart_seconds
    assert work < 320 / 80 + 80 / 9 + 9 + 20


@pytest.mark.parametrize("attempts", [2, 3, 4])
@pytest.mark.parametrize("killers", [1, 2, 3])
@pytest.mark.parametrize("images", [3, 27, 130])
@simulated
async def test_a_few_killers_in_one_batch_do_not_end_the_engine(images: int, killers: int, attempts: int) -> None:
    """Also where they are all that is left, so that no caption comes between the deaths."""
    made = make_project((images,), policy=Policy(attempts=attempts))
    engine = TwinEngine(80, lambda image: 0.1 if image in engine.poison else uneven(image))
    engine.poison = {image_bytes(0, index * (images // 3)) for index in range(killers)}
    engine.restarts = Restarts()
    _, station = await alone(made, engine)
    assert len([row for _, row in station.rows if row.error == "engine-died"]) == killers
    assert places(station) == each_once(made)


@simulated
async def test_an_engine_that_dies_of_every_image_is_given_up_and_blames_none() -> None:
    engine = TwinEngine(80)
    made = make_project((320,))
    engine.poison = set(made.images.values())
    engine.restarts = Restarts()
    async with trio.open_nursery() as nursery:
        worker, station = TwinSwarm(made, nursery).join(ME, engine)
        with pytest.raises(BaseExceptionGroup) as caught:
            await worker.run()
        assert caught.value.split(EngineStartError)[1] is None
    assert station.rows == []


@simulated
async def test_the_engine_is_given_what_it_has_room_for_at_the_time() -> None:
    engine = TwinEngine(8)
    async with trio.open_nursery() as nursery:
        worker, _ = TwinSwarm(make_project((640,)), nursery).join(ME, engine)
        nursery.start_soon(worker.run)
        for capacity in (8, 40, 4, 16):
            engine.capacity = capacity
            await trio.sleep(3.3)  # an image takes a second: between two of them
            assert engine.levels[-1][1] == capacity
        worker.finish()


@simulated
async def test_one_death_costs_no_image_more_than_one_try() -> None:
    """While the engine is down nothing is asked of it: an image is not tried on an engine that is not there."""
    engine = TwinEngine(8, uneven)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(make_project((200,), policy=Policy(attempts=2)), nursery)
        worker, station = swarm.join(ME, engine)
        nursery.start_soon(worker.run)
        await trio.sleep(5)
        engine.die()
        while not station.ledger.finished:
            await station.changed()
        worker.finish()
    tries = Counter(engine.asked)
    assert sum(tries.values()) - len(tries) == 8
    assert not any(row.error for _, row in station.rows)


async def until_given_up(make: Callable[[TwinSwarm], Worker], error: type[Exception]) -> None:
    """The worker ends with that error and nothing else: it is never lost on the way, however the tasks end."""
    for _ in range(15):
        async with trio.open_nursery() as nursery:
            worker = make(TwinSwarm(make_project((200,)), nursery))
            with pytest.raises(BaseExceptionGroup) as caught:
                await worker.run()
            assert caught.value.split(error)[1] is None
            assert not worker.ended.is_set()


@simulated
async def test_an_engine_that_never_comes_back_ends_the_worker() -> None:
    def make(swarm: TwinSwarm) -> Worker:
        engine = TwinEngine(8, uneven)
        worker, _ = swarm.join(ME, engine)
        swarm.nursery.start_soon(end, engine)
        return worker

    async def end(engine: TwinEngine) -> None:
        await trio.sleep(5)
        engine.failed = True
        engine.die()

    await until_given_up(make, EngineStartError)


@pytest.mark.parametrize("where", ["items", "images", "publish_claim", "publish_result"])
@simulated
async def test_what_the_node_cannot_do_ends_the_worker(where: str) -> None:
    def make(swarm: TwinSwarm) -> Worker:
        worker, station = swarm.join(ME, TwinEngine(8, uneven))
        station.refuses.add(where)
        return worker

    await until_given_up(make, StoreError)


# images at fault


@simulated
async def test_a_faulty_image_gets_its_reason_at_once() -> None:
    engine = TwinEngine(8, uneven)
    engine.faulty = {image_bytes(0, 7): ImageError("truncated", "The file ends before the image does. " * 20)}
    made = make_project((70,))
    _, station = await alone(made, engine)
    (row,) = [row for _, row in station.rows if row.error]
    assert (row.item, row.error, row.answers) == (7, "truncated", ())
    assert row.reason.startswith("The file ends")
    assert len(row.reason) == 256
    assert Counter(engine.asked)[image_bytes(0, 7)] == 1
    assert places(station) == each_once(made)


@simulated
async def test_an_answer_beyond_the_limit_is_an_error_of_its_image() -> None:
    engine = TwinEngine()
    engine.texts = {image_bytes(0, 3): "x" * (MAX_ANSWER + 1), image_bytes(0, 4): "x" * MAX_ANSWER}
    _, station = await alone(make_project((10,)), engine)
    assert {row.item: row.error for _, row in station.rows if row.error} == {3: "too-long"}


@simulated
async def test_long_answers_are_split_into_bodies() -> None:
    made = make_project((64,))
    engine = TwinEngine()
    engine.texts = dict.fromkeys(made.images.values(), "é" * 60000)
    _, station = await alone(made, engine)
    assert places(station) == each_once(made)
    assert len(station.published) > 5


# the end


@simulated
async def test_finishing_publishes_what_is_in_hand_and_starts_nothing_more() -> None:
    engine = TwinEngine(8, lambda image: 10.0)
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(make_project([1_000]), nursery)
        worker, station = swarm.join(ME, engine)
        nursery.start_soon(worker.run)
        await trio.sleep(95)
        before, started = len(station.rows), len(engine.asked)
        assert (before, started) == (64, 80)
        worker.finish()
        await worker.ended.wait()
    assert len(engine.asked) == len(station.rows) == 128
    assert station.claims[-1][1].chunks == ()
    assert station.ledger.claims.chunks(now()) == {}
    assert worker.mine == []


@simulated
async def test_finishing_does_not_wait_for_images_that_never_come() -> None:
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(make_project([1_000]), nursery)
        worker, station = swarm.join(ME, TwinEngine())
        station.fetch_seconds = 1e9
        nursery.start_soon(worker.run)
        await trio.sleep(10)
        worker.finish()
        with trio.fail_after(5):
            await worker.ended.wait()
    assert station.claims[-1][1].chunks == ()


@pytest.mark.parametrize("released", [True, False])
@simulated
async def test_finishing_with_nothing_in_hand_is_quick(released: bool) -> None:
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(make_project([64]), nursery)
        worker, station = swarm.join(ME, TwinEngine())
        station.released = released
        nursery.start_soon(worker.run)
        await trio.sleep(100)
        worker.finish()
        with trio.fail_after(5):
            await worker.ended.wait()
    assert len(station.rows) == (64 if released else 0)


@simulated
async def test_an_image_that_is_gone_is_an_error_row_at_once() -> None:
    made = make_project((64, 70))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        _, station = swarm.join(ME, TwinEngine())
        faulty = {
            (0, 3): ImageError("gone", "The server has no such file."),
            (1, 69): ImageError("changed", "Another."),
        }
        station.errors = {made.items[chunk][index].hash: error for (chunk, index), error in faulty.items()}
        with trio.fail_after(120):
            await swarm.work()
    assert places(station) == each_once(made)
    said = {(chunk, row.item): row.error for chunk, row in station.rows if row.error}
    assert said == {place: error.code for place, error in faulty.items()}


@simulated
async def test_a_slice_without_any_image_is_published_too() -> None:
    made = make_project((64,))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        worker, station = swarm.join(ME, TwinEngine())
        gone = ImageError("gone", "The server has no such file.")
        station.errors = {item.hash: gone for item in made.items[0]}
        await swarm.work()
    assert [row.error for _, row in station.rows] == ["gone"] * 64
    assert worker.in_flight == 0


@simulated
async def test_a_passing_failure_is_tried_again_and_ends_as_an_error_row() -> None:
    made = make_project((64, 64))
    down = ImageUnavailable("timeout", "The server did not answer.")
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        _, station = swarm.join(ME, TwinEngine())
        back, never = made.items[0][5].hash, made.items[1][9].hash
        station.errors = {back: down, never: down}
        nursery.start_soon(swarm.work)
        await trio.sleep(30)
        assert not [row for _, row in station.rows if row.error], "it may pass"
        del station.errors[back]
        with trio.fail_after(PAUSE * (1 + LONGER) + 120):
            while not station.ledger.finished:
                await station.changed()
    assert places(station) == each_once(made)
    assert [(chunk, row.item, row.error) for chunk, row in station.rows if row.error] == [(1, 9, "timeout")]


@simulated
async def test_an_image_that_left_the_disk_meanwhile_is_got_again() -> None:
    made = make_project((64,))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        _, station = swarm.join(ME, TwinEngine())
        station.on_disk = True
        station.evicted = {made.items[0][7].hash, made.items[0][8].hash}
        await swarm.work()
    assert places(station) == each_once(made)
    assert not [row for _, row in station.rows if row.error]


@simulated
async def test_an_image_that_leaves_the_disk_each_time_ends_as_an_error_row() -> None:
    made = make_project((64,))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        _, station = swarm.join(ME, TwinEngine())
        station.on_disk, station.never = True, {made.items[0][7].hash}
        with trio.fail_after(4_000):
            await swarm.work()
    assert places(station) == each_once(made)
    assert [(row.item, row.error) for _, row in station.rows if row.error] == [(7, "unavailable")]


@simulated
async def test_a_host_that_is_left_alone_costs_no_try() -> None:
    made = make_project((64, 64))
    async with trio.open_nursery() as nursery:
        swarm = TwinSwarm(made, nursery)
        _, station = swarm.join(ME, TwinEngine())
        rests = made.items[0][5].hash
        station.errors = {rests: ImageResting("busy", "The host asked to be left alone.", 900.0)}
        nursery.start_soon(swarm.work)
        await trio.sleep(10_000)
        assert not [row for _, row in station.rows if row.error], "nobody was asked"
        looks = [time for time, claim in station.claims if any(chunk.chunk == 0 for chunk in claim.chunks)]
        assert len(looks) < 40, "it is left alone as long as was asked for"
        del station.errors[rests]
        while not station.ledger.finished:
            await station.changed()
    assert places(station) == each_once(made)
