"""A volunteer's captioning: which stage it works on, with which engines, and what happens when the project changes.

It works on the first stage that has work for it, by preference one whose model is loaded. A stage that changes its
prompts, sampling or output policy is gone on with on the same engines; another model is loaded after what is in hand
has been published.

Always holds: one worker at a time runs, for one task; its results carry that task's id, whatever the project has become
meanwhile.
"""

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog
import trio
from msgspec import UNSET

from p2pcap.engine.model import check_same_model
from p2pcap.engine.pool import EnginePool
from p2pcap.errors import EngineDied, EngineStartError, ModelError
from p2pcap.identity import Identity
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.node.change import Change
from p2pcap.node.engine_plan import check_task
from p2pcap.node.engines import Engines
from p2pcap.node.hold import Hold
from p2pcap.node.options import EngineOptions
from p2pcap.node.seams import Clock
from p2pcap.project.opened import Project, ends_at
from p2pcap.project.task import Model, Task
from p2pcap.sources.naming import first
from p2pcap.worker.rate import Rate
from p2pcap.worker.station import Station
from p2pcap.worker.worker import Worker

FINISH_WITHIN = 30.0
"""Seconds for the slices in hand of a node that stops, or of a task that is worked on no more."""

DROP_WITHIN = 10.0
"""Seconds after that, in which the rows that are made are published and the claims given back."""

LOADED_FOR = 60.0
"""Seconds of a pause with nothing in hand after which the engines end and give their memory back."""

log = structlog.get_logger()

AuditWith = Callable[[Work, EnginePool, Worker], Awaitable[None]]
"""Checks others' answers to a task with these engines, beside that worker, until cancelled."""

GetModel = Callable[[Model, bool, Callable[[str], None]], Awaitable[Path]]
"""The directory of a model's files; whether it may bring code along; and who is told how far it is."""


class Volunteering:
    """`station_of` gives a worker its surroundings; `get_model` gets a model's files; `on_ready` is told once, when
    the first engine takes images; `audit` checks others' work meanwhile, and `is_due` says whether there is some to
    check in a task. `hold` says whether the node is told to hold back; `change` is told when that changes."""

    def __init__(
        self,
        identity: Identity,
        ledger: Ledger,
        options: EngineOptions,
        log_file: Path,
        station_of: Callable[[Work], Station],
        get_model: GetModel,
        on_ready: Callable[[], Awaitable[None]],
        audit: AuditWith,
        is_due: Callable[[bytes], bool],
        hold: Callable[[], Hold | None],
        change: Change,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._identity = identity
        self._ledger = ledger
        self._options = options
        self._log_file = log_file
        self._station_of = station_of
        self._get_model = get_model
        self._on_ready = on_ready
        self._audit = audit
        self._is_due = is_due
        self._hold = hold
        self._change = change
        self._clock = clock
        self._say = say
        self._unable: set[bytes] = set()
        """Tasks that cannot be worked on here."""
        self._current: Work | None = None
        self._finishing = False
        self.engines: Engines | None = None
        self.worker: Worker | None = None
        self.rate = Rate(clock())
        """Of all its workers: a pause, or another stage, ends one."""

    # what is worked on

    def _wanted(self, loaded: Task | None) -> Work | None:
        """What to work on now; None: wait."""
        if self._clock() >= self._deadline or self._hold() is not None:
            return None
        able = [work for work in self._ledger.open_works if work.tid not in self._unable]
        return wanted(able, self._identity.public, loaded, self._is_due)

    @property
    def in_hand(self) -> bool:
        """Whether slices are claimed and not published."""
        return self.worker is not None and not self.worker.ended.is_set() and bool(self.worker.mine)

    async def run(self) -> None:
        """Work until cancelled, or until `finish` was called and what was in hand is published.

        Raises ModelError, EngineStartError or ConfigError when this node can work on no stage of the project.
        """
        while not self._finishing:
            work = self._wanted(None)
            if work is None:
                await self._news()
                continue
            self._current = work
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_in_long_pause, nursery.cancel_scope)
                    await self._with_engines(work)
                    nursery.cancel_scope.cancel()
            except* (ModelError, EngineStartError) as group:
                self._give_up(self._current, first(group))

    async def _end_in_long_pause(self, engines: trio.CancelScope) -> None:
        """End the engines, or what gets their model, when a pause lasts: others may want the memory."""
        while True:
            while self._hold() is None or self.in_hand:
                await self._change.wait()
            with trio.move_on_after(LOADED_FOR):
                while self._hold() is not None and not self.in_hand:
                    await self._change.wait()
                continue
            self._say("the engines end, and give their memory back, until the pause is over")
            engines.cancel()
            self.engines = self.worker = None
            return

    def _give_up(self, work: Work, error: BaseException) -> None:
        """This node cannot do that task. Raises the error again when there is no other that it may try."""
        self._unable.add(work.tid)
        if all(other.tid in self._unable for other in self._ledger.open_works):
            raise error
        self._say(f"this node cannot work on a part of the project: {error}")

    async def _with_engines(self, work: Work) -> None:
        """Work on this and on whatever comes after it with the same model."""
        task, options = work.task, self._options
        check_task(task, options)
        self.engines = engines = Engines(options, self._log_file, self._say, self._change.tell)
        directory = self._log_file.parent
        if options.kind != "openai":
            directory = await self._get_model(task.model, task.remote_code is True, engines.prepare)
        pool = await engines.open(directory, task)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engines.run)
            nursery.start_soon(self._tell_ready, pool)
            after: Work | None = work
            while after is not None and not self._finishing:
                work = self._current = after
                await self._work_on(work, pool)
                after = await self._next(pool, work)
            nursery.cancel_scope.cancel()

    async def _next(self, pool: EnginePool, work: Work) -> Work | None:
        """The next work for these engines, which have been told of its task; None when other engines are needed, or
        none any more. While nobody may work, as when the project is paused, they stay loaded."""
        while (after := self._wanted(work.task)) is None and not self._finishing and self._clock() < self._deadline:
            await self._news()
        if after is None or not is_loaded(work.task, after.task):
            return None
        while after.tid != work.tid:
            try:
                await pool.use(after.task)
                break
            except EngineDied:
                await pool.wait_ready()
        return after

    async def _work_on(self, work: Work, pool: EnginePool) -> None:
        """Run a worker until something else is wanted, or `finish` is called."""
        attempts, station = self._ledger.project.plan.policy.attempts, self._station_of(work)
        worker = Worker(self._identity, work, attempts, pool, station, random.Random(), self._clock, self.rate)
        self.worker = worker
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            nursery.start_soon(self._audit, work, pool, worker)
            while not self._finishing and self._goes_on(work, attempts):
                await self._news()
            await self._see_off(worker)
            nursery.cancel_scope.cancel()
        worker.ended.set()
        self._change.tell()

    async def _see_off(self, worker: Worker) -> None:
        """Let it publish what is in hand and give its claims back, for as long as that is waited for."""
        begun = trio.current_time()
        worker.finish()
        while not worker.ended.is_set() and (left := begun + self._patience() - trio.current_time()) > 0:
            with trio.move_on_after(left):
                await self._ended_or_news(worker)
        worker.give_up()
        with trio.move_on_after(DROP_WITHIN):
            await worker.ended.wait()

    def _patience(self) -> float:
        """Seconds for the slices in hand."""
        hold = None if self._finishing else self._hold()
        return FINISH_WITHIN if hold is None else hold.within

    async def _ended_or_news(self, worker: Worker) -> None:
        """Return when the worker has ended, or something has changed."""
        async with trio.open_nursery() as nursery:

            async def until(wait: Callable[[], Awaitable[None]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until, worker.ended.wait)
            nursery.start_soon(until, self._change.wait)

    def _goes_on(self, work: Work, attempts: int) -> bool:
        """Whether this is still what to work on, and by the same rules."""
        return self._wanted(work.task) is work and self._ledger.project.plan.policy.attempts == attempts

    @property
    def _deadline(self) -> float:
        """When no new work is begun any more, in unix seconds."""
        return no_work_after(self._ledger.project)

    async def _news(self) -> None:
        """Return when something has changed, or the project's deadline or end has come."""
        left = self._deadline - self._clock()
        with trio.move_on_after(left if left > 0 else math.inf):
            await self._change.wait()

    async def _tell_ready(self, pool: EnginePool) -> None:
        """Work may wait for this engine, so its peers learn at once that it is ready."""
        await pool.wait_ready()
        await self._on_ready()

    async def finish(self) -> None:
        """Publish what is in hand and give the claims back, within FINISH_WITHIN seconds."""
        self._finishing = True
        self._change.tell()
        if self.worker is None or not self.worker.mine:
            return
        self._say(f"finishing what is in hand: {self.worker.in_flight} images, {FINISH_WITHIN:.0f} seconds at most …")
        with trio.move_on_after(FINISH_WITHIN + DROP_WITHIN):
            await self.worker.ended.wait()


def no_work_after(project: Project) -> int:
    """When no new work is begun any more, in unix seconds: at the project's deadline, or its end for want of new
    signatures."""
    deadline, end = project.plan.deadline, ends_at(project)
    return end if deadline is UNSET else min(deadline, end)


def wanted(
    works: Sequence[Work], me: bytes, loaded: Task | None, is_due: Callable[[bytes], bool] = lambda tid: False
) -> Work | None:
    """Of `works`, in the order of the project's stages, the one for `me` while the model of the task `loaded` is there:
    of those with work for it the first with that model, else the first. When none has work, one in which others' work
    `is_due` to be checked: `loaded` itself before others; and else `loaded`, for there may be more."""
    busy = [work for work in works if work.left(me)]
    due = [] if busy else [work for work in works if is_due(work.tid)]
    if loaded is None:
        return next(iter([*busy, *due]), None)
    ready = [work for work in busy if is_loaded(loaded, work.task)]
    current = [work for work in works if work.tid == loaded.tid]
    kept = [work for work in due if work in current]
    alike = [work for work in due if is_loaded(loaded, work.task)]
    return next(iter([*ready, *busy, *kept, *alike, *due, *current]), None)


def is_loaded(loaded: Task, task: Task) -> bool:
    """Whether engines that were started for the one task can work on the other."""
    try:
        check_same_model(loaded, task)
    except ModelError:
        return False
    return True
