"""Several engines as one: with twins in simulated time, and two real ones on a CPU of which one is killed."""

import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from models.shapes.pictures import DESCRIBE, draw, encode
from p2pcap.engine.base import EngineLoad, EngineSettings, EngineState
from p2pcap.engine.pool import EnginePool
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError
from p2pcap.node.engine_plan import for_cpu
from p2pcap.node.engines import Engines
from p2pcap.node.options import EngineOptions
from tests.engine.hosted import MODEL, TASK
from tests.engine.pooled import Member
from tests.twins import simulated

IMAGES = 300


def pool_of(*engines: Member) -> EnginePool:
    return EnginePool([(f"twin {number}", engine) for number, engine in enumerate(engines)])


async def ask(pool: EnginePool, count: int) -> list[str]:
    """Images captioned as a worker does: so many at once as the pool takes, again when an engine dies."""
    done: list[str] = []
    places = trio.CapacityLimiter(pool.capacity)

    async def one(number: int) -> None:
        async with places:
            while True:
                await pool.wait_ready()
                try:
                    (output,) = await pool.caption(b"%d" % number, bytes(32))
                except EngineDied:
                    continue
                done.append(output.text)
                return

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return done


def captions(count: int) -> list[str]:
    return sorted(f"caption of {number}" for number in range(count))


@simulated
async def test_each_engine_is_filled_relative_to_its_capacity() -> None:
    small, large = Member(2), Member(6)
    pool = pool_of(small, large)
    assert pool.capacity == 8
    assert sorted(await ask(pool, 80)) == captions(80)
    assert (small.most, large.most) == (2, 6)
    assert (len(small.asked), len(large.asked)) == (20, 60)
    assert [place.answered for place in pool.places] == [20, 60]


@simulated
async def test_a_fast_engine_gets_more() -> None:
    fast, slow = Member(4), Member(4)
    fast.seconds, slow.seconds = lambda image: 1.0, lambda image: 3.0
    await ask(pool_of(fast, slow), 80)
    assert len(fast.asked) == 3 * len(slow.asked)


@simulated
async def test_one_that_dies_takes_only_its_own_images_with_it_and_is_used_again() -> None:
    first, second = Member(), Member()
    pool = pool_of(first, second)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_die_at, first, 2.5)
        assert sorted(await ask(pool, 400)) == captions(400)
        nursery.cancel_scope.cancel()
    assert sum(place.answered for place in pool.places) == 400
    assert len(first.asked) + len(second.asked) == 404, "only the four in hand were asked again"
    assert len(first.asked) > 16, "it captions again once it is back"


async def _die_at(engine: Member, seconds: float) -> None:
    await trio.sleep(seconds)
    engine.die()


@simulated
async def test_one_that_fails_for_good_leaves_the_others_working_and_the_last_ends_the_pool() -> None:
    engines = Member(), Member()
    heard: list[bool] = []
    pool = EnginePool([("a", engines[0]), ("b", engines[1])], lambda: heard.append(True))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_after, engines[0], 2.5)
        nursery.start_soon(pool.run)
        assert sorted(await ask(pool, 80)) == captions(80)
        assert pool.capacity == 4
        assert (pool.state.phase, pool.state.detail) == ("ready", "1 of 2 engines ready; a: failed")
        assert heard == [True]
        nursery.cancel_scope.cancel()
    for engine in engines:
        engine.ending.set()
    with pytest.raises(EngineStartError, match="does not start"):
        await pool.run()
    with pytest.raises(EngineStartError, match="does not start"):
        await pool.wait_ready()
    with pytest.raises(EngineStartError, match="does not start"):
        await pool.caption(b"1", bytes(32))
    assert {state.phase for state in (pool.state, *pool.states)} == {"failed"}
    assert pool.capacity == 1


async def _end_after(engine: Member, seconds: float) -> None:
    await trio.sleep(seconds)
    engine.ending.set()


@simulated
async def test_images_that_wait_for_a_hot_engine_go_to_one_that_becomes_ready() -> None:
    hot, away = Member(), Member()
    pool = pool_of(hot, away)
    away.die()
    pool.rest(0, True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, pool, 3)
        await away.wait_ready()
        pool.look_again()
    assert (len(hot.asked), len(away.asked)) == (0, 3)


@simulated
async def test_an_image_that_no_engine_had_dies_of_none() -> None:
    """The only engine dies while the image waits for it to cool."""
    engine = Member()
    pool = pool_of(engine)
    pool.rest(0, True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.caption, b"1", bytes(32))
        await trio.sleep(1)
        engine.die()
        pool.rest(0, False)
    assert engine.asked == [b"1"]


@simulated
async def test_an_image_s_own_fault_is_passed_on() -> None:
    engine = Member()
    engine.faulty[b"1"] = ImageError("undecodable", "no image")
    pool = pool_of(engine, Member())
    with pytest.raises(ImageError, match="undecodable"):
        await pool.caption(b"1", bytes(32))
    assert [place.in_hand for place in pool.places] == [0, 0]


@simulated
async def test_a_resting_engine_gets_nothing_new_and_with_all_at_rest_images_wait() -> None:
    hot, cool = Member(), Member()
    pool = pool_of(hot, cool)
    pool.rest(0, True)
    assert pool.capacity == 4
    await ask(pool, 8)
    assert (len(hot.asked), len(cool.asked)) == (0, 8)
    pool.rest(1, True)
    assert pool.capacity == 8, "there is always something to wait for"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, pool, 3)
        await trio.sleep(100)
        assert len(cool.asked) == 8
        pool.rest(1, False)
    assert (len(hot.asked), len(cool.asked)) == (0, 11)
    assert trio.current_time() < 110


@simulated
async def test_waiting_ends_with_the_first_engine_that_is_ready() -> None:
    late, never = Member(), Member()
    late.die()
    never.die()
    never.restart_seconds = 1e9
    never.die()
    pool = pool_of(never, late)
    assert pool.capacity == 8, "what is coming is counted while nothing is there"
    await pool.wait_ready()
    assert trio.current_time() == 20.0
    assert pool.capacity == 4


@simulated
async def test_one_that_never_will_be_ready_ends_no_waiting_for_another() -> None:
    gone, late = Member(), Member()
    gone.fail()
    late.die()
    await pool_of(gone, late).wait_ready()
    assert trio.current_time() == 20.0


@simulated
async def test_scores_come_from_one() -> None:
    engines = Member(), Member()
    await pool_of(*engines).score(b"", bytes(32), 0, (1,))
    assert sum(engine.scored for engine in engines) == 1


@asynccontextmanager
async def running(pool: EnginePool) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run)
        yield
        nursery.cancel_scope.cancel()


@simulated
async def test_a_new_task_reaches_all_and_none_answers_for_the_one_before_any_more() -> None:
    engines = Member(), Member()
    pool = pool_of(*engines)
    async with running(pool):
        await ask(pool, 40)
        await pool.use(TASK)
        first = [len(engine.served) for engine in engines]
        assert sorted(await ask(pool, 80)) == captions(80)
        assert [engine.uses for engine in engines] == [[TASK], [TASK]]
    for engine, before in zip(engines, first, strict=True):
        assert set(engine.served[:before]) == {None}
        assert set(engine.served[before:]) == {TASK}


@simulated
async def test_images_asked_while_a_task_is_told_never_get_answers_of_two() -> None:
    """In the order in which they were asked, all of the task before come first."""
    engines = Member(), Member()
    pool = pool_of(*engines)
    served = engines[0].served = engines[1].served = []
    async with running(pool), trio.open_nursery() as nursery:
        nursery.start_soon(ask, pool, 400)
        await trio.sleep(10.45)  # images are asked at 11, when the first engine has the task already
        await pool.use(TASK)
    change = served.index(TASK)
    assert 0 < change < 400
    assert set(served[:change]) == {None}
    assert set(served[change:]) == {TASK}


@simulated
async def test_an_engine_that_dies_of_the_change_gets_nothing_until_it_was_told() -> None:
    first, second = Member(), Member()
    pool = pool_of(first, second)
    second.dies_of_tasks = True
    async with running(pool):
        await pool.use(TASK)
        assert sorted(await ask(pool, 40)) == captions(40)
        assert second.served == []
        assert pool.capacity == 4
        second.dies_of_tasks = False
        await trio.sleep(second.restart_seconds + 1)
        assert second.uses == [TASK]
        await ask(pool, 40)
    assert set(first.served) == set(second.served) == {TASK}


@simulated
async def test_an_engine_gets_no_image_before_it_was_told() -> None:
    first, second = Member(), Member()
    pool = pool_of(first, second)
    await pool.use(TASK)
    assert sorted(await ask(pool, 40)) == captions(40)
    assert (set(first.served), second.served, pool.capacity) == ({TASK}, [], 4), (
        "nobody runs the pool, who would tell it"
    )


@simulated
async def test_an_engine_that_fails_meanwhile_says_nothing_against_a_task() -> None:
    gone, late = Member(), Member()
    gone.fail()
    late.die()
    await pool_of(gone, late).use(TASK)
    assert (gone.uses, late.uses) == ([], [TASK])


@simulated
async def test_when_all_die_of_a_task_the_one_before_stays() -> None:
    engines = Member(), Member()
    pool = pool_of(*engines)
    for engine in engines:
        engine.dies_of_tasks = True
    async with running(pool):
        with pytest.raises(EngineDied, match="Ask again"):
            await pool.use(TASK)
        await trio.sleep(100)
        assert sorted(await ask(pool, 40)) == captions(40)
    assert all(set(engine.served) == {None} for engine in engines)


@simulated
async def test_one_that_is_away_is_not_waited_for_with_a_new_task() -> None:
    away, there = Member(), Member()
    away.die()
    pool = pool_of(away, there)
    async with running(pool):
        await pool.use(TASK)
        assert trio.current_time() < 1
        await trio.sleep(away.restart_seconds + 1)
        assert away.uses == there.uses == [TASK]


@simulated
async def test_a_refused_task_leaves_all_as_they_are() -> None:
    engines = Member(), Member()
    pool = pool_of(*engines)
    engines[0].refusal = "Its template is broken."
    async with running(pool):
        with pytest.raises(ModelError, match="template"):
            await pool.use(TASK)
        assert sorted(await ask(pool, 40)) == captions(40)
    assert all(engine.served and engine.uses == [] for engine in engines)


@simulated
async def test_an_engine_that_refuses_what_another_took_is_ended() -> None:
    first, second = Member(), Member()
    pool = pool_of(first, second)
    second.refusal = "Its template is broken."
    async with running(pool):
        await pool.use(TASK)
        assert sorted(await ask(pool, 40)) == captions(40)
        assert second.served == []
        assert isinstance(pool.places[1].failure, ModelError)
        assert (first.ended, second.ended) == (False, True)
        first.die()
        await pool.wait_ready()
        assert trio.current_time() >= 20.0, "the other one takes none"
    first.fail()
    with pytest.raises((EngineStartError, ModelError)):
        await pool.wait_ready()


@simulated
async def test_the_state_of_all_is_the_sum_of_each() -> None:
    load = EngineLoad(running=3, waiting=1, kv=0.5, decoding=2, read=100, made=10)
    first = EngineState(
        restarts=1, running=4, version="1", device="cuda X", engine_class=b"a" * 8, load=load, notice="less memory"
    )
    second = msgspec.structs.replace(first, notice="", load=msgspec.structs.replace(load, kv=0.0))
    pool = pool_of(Member(fields=first), Member(fields=second))
    state = pool.state
    assert state == EngineState(
        phase="ready",
        restarts=2,
        running=8,
        version="1",
        device="2 x cuda X",
        engine_class=b"a" * 8,
        load=EngineLoad(running=6, waiting=2, kv=0.25, decoding=4, read=200, made=20),
        notice="twin 0: less memory",
    )
    assert pool_of(Member(fields=first)).state == msgspec.structs.replace(first, phase="ready"), "one stays as it is"


@simulated
async def test_unlike_engines_have_a_class_of_their_own() -> None:
    def kind(*classes: bytes) -> bytes:
        return pool_of(*(Member(fields=EngineState(engine_class=one)) for one in classes)).state.engine_class

    a, b = b"a" * 8, b"b" * 8
    assert kind(a, a) == kind(a, b"") == a
    assert kind(a, b) == kind(b, a, a)
    assert kind(a, b) not in (a, b)
    assert len(kind(a, b)) == 8
    assert kind(b"", b"") == b""


@pytest.mark.slow
@pytest.mark.skipif(not for_cpu(), reason="vLLM is installed for GPUs here, where one engine runs on each")
def test_two_real_engines_share_a_cpu_and_one_of_them_is_killed(tmp_path: Path) -> None:
    """Every image is captioned once, by whichever is left."""
    pictures = [draw("held-out", 31, number) for number in range(IMAGES)]
    answers: dict[int, str] = {}
    died: list[int] = []
    in_the_middle = trio.Event()

    async def caption(pool: EnginePool, number: int, places: trio.CapacityLimiter) -> None:
        image = encode(pictures[number], "jpg")
        async with places:
            while number not in answers:
                await pool.wait_ready()
                try:
                    outputs = await pool.caption(image, hashlib.sha256(image).digest())
                except EngineDied:
                    died.append(number)
                    continue
                answers[number] = outputs[0].text
                if len(answers) == IMAGES // 3:
                    in_the_middle.set()

    said: list[str] = []

    async def main() -> list[int]:
        options = EngineOptions(EngineSettings(max_num_seqs=8), cpu_engines=2)
        engines = Engines(options, tmp_path / "engine.log", said.append, lambda: None)
        pool = await engines.open(MODEL, TASK)
        async with trio.open_nursery() as running:
            running.start_soon(engines.run)
            for place in pool.places:
                await place.engine.wait_ready()
            places = trio.CapacityLimiter(pool.capacity)
            async with trio.open_nursery() as nursery:
                for number in range(IMAGES):
                    nursery.start_soon(caption, pool, number, places)
                await in_the_middle.wait()
                os.kill(pool.states[0].pid, signal.SIGKILL)
            restarts = [state.restarts for state in pool.states]
            assert sum(place.answered for place in pool.places) == IMAGES
            assert all(place.answered for place in pool.places), "both have worked"
            assert 0 < len(died) <= places.total_tokens, "only what the killed engine had in hand was asked again"
            assert len(set(died)) == len(died), "one death is told of once"
            running.cancel_scope.cancel()
        return restarts

    assert trio.run(main) == [1, 0]
    right = sum(answers[number] == picture.answers[DESCRIBE] for number, picture in enumerate(pictures))
    assert right >= 0.95 * IMAGES
    assert {path.name for path in tmp_path.iterdir()} == {"engine-0.log", "engine-1.log"}
