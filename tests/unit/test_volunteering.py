"""Which stage a volunteer works on: the order of the stages, the model that is loaded, and what is left to do."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing
from msgspec import UNSET

from p2pcap.codec import decode
from p2pcap.engine.pool import EnginePool
from p2pcap.ledger.records import Grant
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.node.change import Change
from p2pcap.node.hold import MANNERLY, Hold
from p2pcap.node.options import EngineOptions
from p2pcap.node.volunteering import LOADED_FOR, Volunteering, no_work_after, wanted
from p2pcap.project.records import Plan, Stage
from p2pcap.project.task import Input, Model, Prompt, Task
from p2pcap.worker.station import Station
from p2pcap.worker.worker import Worker
from tests.makers import ADA, BOB, FOREVER, NOW, TASK, Made, make_grant, make_project, make_result, signed
from tests.twins import ME as HERE
from tests.twins import TwinEngine, TwinSwarm, each_once, now, places, simulated

MADE = make_project((64,))
SAME_MODEL = msgspec.structs.replace(TASK, prompts=(Prompt("caption", "What else?"),))
OTHER_MODEL = msgspec.structs.replace(TASK, model=Model("large"))
AFTER = Task(Model("large"), (Prompt("tags", "{one.caption}"),), inputs=(Input("one", TASK.tid, ("caption",)),))
ME = ADA.public


def ledger_of(*tasks: Task, **changes: object) -> Ledger:
    names = ("one", "two", "three")
    stages = tuple(Stage(name, task) for name, task in zip(names, tasks, strict=False))
    plan = msgspec.structs.replace(MADE.project.plan, stages=stages, **changes)
    assert isinstance(plan, Plan)
    ledger = Ledger(signed(plan))
    for author in (ADA, BOB):
        envelope = make_grant(ledger.project, author)
        ledger.add(envelope, decode(envelope.payload, Grant))
    return ledger


def finish(ledger: Ledger, stage: int, count: int = 64) -> None:
    """Bob has answered the first `count` images of a stage."""
    result, _ = make_result(ledger.project, 0, [MADE.row(0, index) for index in range(count)], stage=stage)
    id_ = bytes([stage, count]) * 16
    ledger.add_result(id_, BOB.public, result)
    ledger.complete(id_, BOB.public, result, 0)


def choice(ledger: Ledger, loaded: Task | None) -> str | None:
    found = wanted(ledger.open_works, ME, loaded)
    return next((stage.name for stage in ledger.project.stages if found and stage.task.tid == found.tid), None)


def test_the_first_stage_comes_first() -> None:
    assert choice(ledger_of(TASK, OTHER_MODEL), None) == "one"


def test_a_stage_whose_model_is_loaded_comes_before_one_that_stands_before_it() -> None:
    assert choice(ledger_of(TASK, OTHER_MODEL), OTHER_MODEL) == "two"
    assert choice(ledger_of(TASK, SAME_MODEL), SAME_MODEL) == "one", "loading costs nothing here"


def test_another_model_is_loaded_when_nothing_is_left_for_this_one() -> None:
    ledger = ledger_of(TASK, OTHER_MODEL)
    finish(ledger, 0)
    assert choice(ledger, TASK) == "two"


def test_when_all_is_done_a_loaded_model_stays_and_none_is_loaded() -> None:
    ledger = ledger_of(TASK, OTHER_MODEL)
    finish(ledger, 0)
    finish(ledger, 1)
    assert choice(ledger, OTHER_MODEL) == "two"
    assert choice(ledger, None) is None


def test_a_stage_that_needs_answers_waits_for_the_first_of_them() -> None:
    ledger = ledger_of(TASK, AFTER)
    assert choice(ledger, AFTER) == "one", "nothing is answered yet"
    finish(ledger, 0, 10)
    assert choice(ledger, AFTER) == "two"
    assert ledger.works[AFTER.tid].open_items(0, 0.0, ME) == (1 << 10) - 1


@pytest.mark.parametrize("changes", [{"paused": True}, {"stages": (Stage("one", TASK, paused=True),)}])
def test_nobody_works_on_what_is_paused(changes: dict[str, object]) -> None:
    ledger = ledger_of(TASK)
    ledger.adopt(signed(msgspec.structs.replace(ledger.project.plan, **changes), version=2))
    assert choice(ledger, None) is None
    assert choice(ledger, TASK) is None


@pytest.mark.parametrize("plan", [{"paused": UNSET}, {"paused": UNSET, "stages": (Stage("one", SAME_MODEL),)}])
def test_engines_stay_loaded_while_the_project_is_paused(plan: dict[str, object]) -> None:
    ledger = ledger_of(TASK)
    work, change, used = ledger.open_works[0], Change(), list[Task]()
    here = volunteering(ledger, change)

    async def main() -> None:
        adopt(ledger, 2, paused=True)
        async with trio.open_nursery() as nursery:
            got = list[Work | None]()

            async def go_on() -> None:
                got.append(await here._next(pool_of(used), work))

            nursery.start_soon(go_on)
            await trio.testing.wait_all_tasks_blocked()
            assert not got
            adopt(ledger, 3, **plan, former=() if plan.keys() == {"paused"} else (TASK,))
            change.tell()
        assert [found.tid for found in got if found] == [ledger.project.stages[0].task.tid]

    trio.run(main)
    wanted_task = ledger.project.stages[0].task
    assert used == ([] if wanted_task == TASK else [wanted_task]), "the same engines are told of another task"


def test_they_go_when_the_node_stops_or_the_deadline_has_come() -> None:
    ledger, change = ledger_of(TASK), Change()
    work, here = ledger.open_works[0], volunteering(ledger, change)

    async def main() -> None:
        adopt(ledger, 2, paused=True, deadline=NOW - 1)
        assert await here._next(pool_of([]), work) is None
        adopt(ledger, 3, paused=True, deadline=UNSET)
        await here.finish()
        assert await here._next(pool_of([]), work) is None

    trio.run(main)


def adopt(ledger: Ledger, version: int, **changes: Any) -> None:
    ledger.adopt(signed(msgspec.structs.replace(ledger.project.plan, **changes), version=version))


def volunteering(
    ledger: Ledger,
    change: Change,
    hold: Callable[[], Hold | None] = lambda: None,
    station_of: Callable[[Work], Station] | None = None,
) -> Volunteering:
    unused = cast(Any, None)
    options = EngineOptions()
    return Volunteering(
        ADA,
        ledger,
        options,
        Path("engine.log"),
        station_of=station_of or unused,
        get_model=unused,
        on_ready=unused,
        audit=audits_nothing,
        is_due=lambda tid: False,
        hold=hold,
        change=change,
        clock=lambda: float(NOW),
        say=lambda line: None,
    )


async def audits_nothing(work: Work, pool: EnginePool, worker: Worker) -> None:
    """Returns at once, as where nothing is checked."""


def pool_of(used: list[Task]) -> EnginePool:
    """Engines that are told of tasks."""

    async def use(task: Task) -> None:
        used.append(task)

    return cast(EnginePool, SimpleNamespace(use=use))


def test_a_changed_task_is_gone_on_with_on_the_same_engines() -> None:
    ledger = ledger_of(TASK)
    finish(ledger, 0, 30)
    changed = msgspec.structs.replace(ledger.project.plan, stages=(Stage("one", SAME_MODEL),), former=(TASK,))
    ledger.adopt(signed(changed, version=2))
    assert choice(ledger, TASK) == "one"
    assert ledger.works[SAME_MODEL.tid].open_items(0, 0.0, ME) == (1 << 64) - 1, "no answer of the other task counts"
    assert ledger.works[TASK.tid].done == {0: (1 << 30) - 1}, "nor is one lost"


def test_a_stage_that_keeps_former_answers_asks_about_the_rest() -> None:
    ledger = ledger_of(TASK)
    finish(ledger, 0, 30)
    stage = Stage("one", SAME_MODEL, keeps=(TASK.tid,))
    ledger.adopt(signed(msgspec.structs.replace(ledger.project.plan, stages=(stage,), former=(TASK,)), version=2))
    assert ledger.works[SAME_MODEL.tid].open_items(0, 0.0, ME) == (1 << 64) - (1 << 30)
    assert not ledger.finished


def test_no_work_is_begun_after_the_deadline_or_a_month_after_the_expiry() -> None:
    project = ledger_of(TASK).project
    end = FOREVER + 30 * 86_400
    assert no_work_after(project) == end
    assert no_work_after(signed(msgspec.structs.replace(project.plan, deadline=FOREVER))) == FOREVER
    assert no_work_after(signed(msgspec.structs.replace(project.plan, deadline=end + 1))) == end
    expired = (
        replace(project, root=msgspec.structs.replace(project.root, expires=NOW)),
        replace(project, manifest=msgspec.structs.replace(project.manifest, expires=NOW)),
    )
    assert [no_work_after(each) for each in expired] == [NOW + 30 * 86_400] * 2


def test_whoever_has_no_work_of_his_own_goes_where_others_is_to_be_checked() -> None:
    ledger = ledger_of(TASK, SAME_MODEL, OTHER_MODEL)
    first, second, third = ledger.open_works

    def chosen(loaded: Task | None, *due: bytes) -> object:
        return wanted(ledger.open_works, ME, loaded, due.__contains__)

    assert chosen(OTHER_MODEL, first.tid) is third, "own work goes first"
    for stage in range(3):
        finish(ledger, stage)
    assert chosen(TASK, first.tid, second.tid) is first
    assert chosen(TASK, second.tid, third.tid) is second
    assert chosen(TASK, third.tid) is third
    assert chosen(TASK) is first
    assert chosen(None, third.tid) is third
    assert chosen(None) is None


class Paused:
    """A volunteer with a twin of an engine, that is told to hold back and to go on."""

    def __init__(self, nursery: trio.Nursery, engine: TwinEngine, made: Made) -> None:
        self.engine = engine
        _, self.station = TwinSwarm(made, nursery).join(HERE, engine)
        self.hold: Hold | None = None
        self.change = Change()
        self.here = volunteering(self.station.ledger, self.change, lambda: self.hold, lambda work: self.station)
        self.here._identity = HERE
        self.here._clock = now

    async def work(self, done: trio.Event) -> None:
        await self.here._work_on(self.station.ledger.open_works[0], cast(EnginePool, self.engine))
        done.set()

    def say(self, hold: Hold | None) -> None:
        self.hold = hold
        self.change.tell()


SLOW = 12.0
"""Seconds for an image of those in 8 places: a slice of 64 takes 96."""

PAUSE, FINISH, NIGHT = Hold("paused", None, 0.0), Hold("finish", None, math.inf), Hold("night", None, MANNERLY)


@pytest.mark.parametrize(
    ("hold", "within", "rows"),
    [(PAUSE, 1.0, 16), (NIGHT, 31.0, 32), (FINISH, 100.0, 64)],
    ids=["a pause drops what is in hand", "manners leave it half a minute", "finish waits for it"],
)
@simulated
async def test_what_is_in_hand_when_the_node_is_told_to_hold_back(hold: Hold, within: float, rows: int) -> None:
    made = make_project((64, 64, 64, 64))
    async with trio.open_nursery() as nursery:
        one, ended = Paused(nursery, TwinEngine(8, lambda image: SLOW), made), trio.Event()
        nursery.start_soon(one.work, ended)
        await trio.sleep(2 * SLOW + 1)
        assert one.here.worker
        one.say(hold)
        with trio.fail_after(within):
            await ended.wait()
        assert len(one.station.rows) == one.here.rate.total == rows, "what was made is published"
        assert not one.here.in_hand
        assert one.station.claims[-1][1].chunks == (), "the rest is given back"
        assert one.engine.levels[-1][1] == 0, "the engine has nothing in hand"
        one.say(None)
        nursery.start_soon(one.work, trio.Event())
        while not one.station.ledger.finished:
            await one.station.changed()
        assert places(one.station) == each_once(made), "and done later, once"
        assert one.here.worker.made > rows, "another worker counts on where the one before the pause stood"
        assert one.here.worker.rate is one.here.rate
        nursery.cancel_scope.cancel()


@simulated
async def test_a_pause_cuts_the_finishing_short() -> None:
    async with trio.open_nursery() as nursery:
        one, ended = Paused(nursery, TwinEngine(8, lambda image: SLOW), make_project((64, 64))), trio.Event()
        nursery.start_soon(one.work, ended)
        await trio.sleep(SLOW + 1)
        one.say(FINISH)
        with trio.move_on_after(SLOW) as waited:
            await ended.wait()
        assert waited.cancelled_caught
        one.say(PAUSE)
        with trio.fail_after(1):
            await ended.wait()
        assert len(one.station.rows) == 16


@simulated
async def test_a_pause_before_the_engine_is_there_costs_no_time() -> None:
    engine = TwinEngine()
    engine._back = 1_000.0
    async with trio.open_nursery() as nursery:
        one, ended = Paused(nursery, engine, make_project((64,))), trio.Event()
        nursery.start_soon(one.work, ended)
        await trio.sleep(1)
        one.say(FINISH)
        with trio.fail_after(1):
            await ended.wait()


@simulated
async def test_the_engines_end_when_a_pause_lasts() -> None:
    """And not when it is short, or what is in hand is still being finished."""
    async with trio.open_nursery() as nursery:
        one = Paused(nursery, TwinEngine(), make_project((64,)))
        engines = trio.CancelScope()

        async def watch() -> None:
            await one.here._end_in_long_pause(engines)

        nursery.start_soon(watch)
        for seconds, hold in ((1.0, PAUSE), (LOADED_FOR - 1, None), (LOADED_FOR + 1, PAUSE)):
            one.say(hold)
            await trio.sleep(seconds)
            one.change.tell()
            assert engines.cancel_called == (seconds > LOADED_FOR)
        nursery.cancel_scope.cancel()


@simulated
async def test_whoever_is_paused_wants_no_work() -> None:
    ledger, hold = ledger_of(TASK), PAUSE
    assert volunteering(ledger, Change(), lambda: hold)._wanted(None) is None
    assert volunteering(ledger, Change())._wanted(None) is ledger.open_works[0]
