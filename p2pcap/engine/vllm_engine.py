"""Keeps one engine running beside the node, and hands it images.

The node imports this; neither torch nor vllm is ever imported in the node's process. The engine's process may be killed
at any moment, by the kernel for memory or by a fault of a driver: open calls then raise EngineDied, and the process is
started again (`restarts` says when, `memory` with which settings). `run` owns the process; every other method only
talks to it. What runs the model in that process is vLLM, or servers elsewhere that it asks (`settings.endpoints`).

Always holds: while `run` is not running, no process of the engine exists, and none of its temporary files.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from p2pcap.engine import frames, log, memory, verdict
from p2pcap.engine.base import (
    NO_FIELDS,
    EngineLoad,
    EngineSettings,
    EngineState,
    Finish,
    Output,
    Phase,
    Score,
    Spelt,
)
from p2pcap.engine.feed import Feed
from p2pcap.engine.life import End, Life
from p2pcap.engine.model import check_model, check_same_model, check_trust
from p2pcap.engine.restarts import Restarts
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError
from p2pcap.project.items import MAX_IMAGE
from p2pcap.project.prompts import MAX_VALUE, asked, places
from p2pcap.project.task import Task

ANSWER_SECONDS = 900.0
"""An engine that has work and neither answers anything nor reads or makes a token for so long hangs, and is started
again. An image may take longer: a slow engine answers those that were asked before it first."""

PROGRESS_SECONDS = 0.5
"""How often the log of a starting engine is read for how far it has come."""

MAX_ID = 2**32
"""No model has so many tokens."""


class VllmEngine:
    """The engine for `task` with the model in `model_dir`. `on_change` hears of each change but not of counts."""

    def __init__(
        self,
        model_dir: Path,
        task: Task,
        settings: EngineSettings,
        log_file: Path,
        on_change: Callable[[EngineState], None] | None = None,
    ) -> None:
        self._start = frames.Start(str(model_dir.absolute()), task, settings)
        self._chosen = settings
        self._asked = asked(task)
        self._log = log_file
        self._on_change = on_change
        self._state = EngineState()
        self._changed = trio.Event()
        self._failure: ModelError | EngineStartError | None = None
        self._restarts = Restarts()
        self._life: Life | None = None
        self._first_task = 0
        self._changing_task = trio.Lock()
        self._feed = self._new_feed()
        self._places = trio.CapacityLimiter(self._feed.capacity)

    @property
    def capacity(self) -> int:
        """How many images to keep in flight; calls of `caption` beyond it wait."""
        return int(self._places.total_tokens)

    @property
    def state(self) -> EngineState:
        """How the engine is doing now."""
        places = self._places.statistics()
        phase: Phase = "restarting" if self._state.phase == "ready" and not self._there else self._state.phase
        notice = " ".join(filter(None, (self._state.notice, self._state.load.notice)))
        running, waiting = places.borrowed_tokens, places.tasks_waiting
        return replace(self._state, phase=phase, running=running, waiting=waiting, notice=notice)

    @property
    def _there(self) -> bool:
        """Whether images are taken. Those that were in hand at an end hear of it first: asked again at once, they must
        not find an engine that still calls itself ready."""
        return self._state.phase == "ready" and self._life is not None and not self._life.link.closed.is_set()

    async def wait_ready(self) -> None:
        """Returns once images are taken. Raises ModelError or EngineStartError when that will never be."""
        while not self._there:
            if self._failure is not None:
                raise type(self._failure)(str(self._failure))
            await self._changed.wait()

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        """One output for each prompt of the task. See base.Engine.caption."""
        _check_size(image)
        start, told = self._start, _cut(fields, self._asked)
        async with self._places:
            life = self._ready(start)
            outputs = await life.link.ask(image, sha256, told, start.task_number)
            self._restarts.captioned()
            return outputs

    async def score(
        self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str] = NO_FIELDS
    ) -> Score:
        """What the model thinks of an answer. See base.NodeEngine.score."""
        _check_size(image)
        start = self._start
        if not 0 <= prompt < len(start.task.prompts) or not _are_ids(ids):
            raise ImageError("unscorable", "These are no tokens of an answer to one of the task's prompts.")
        told = _cut(values, places(start.task, prompt))
        async with self._places:
            life = self._ready(start)
            return await life.link.score(image, sha256, prompt, ids, told, start.task_number)

    async def spell(self, prompt: int, ids: Sequence[int], finish: Finish) -> Spelt:
        """What tokens are as an answer. See base.NodeEngine.spell."""
        start = self._start
        if not 0 <= prompt < len(start.task.prompts) or not _are_ids(ids):
            raise ImageError("unscorable", "These are no tokens of an answer to one of the task's prompts.")
        return await self._ready(start).link.spell(prompt, ids, finish, start.task_number)

    async def cut(self, prompt: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        """The tokens that a text may have been made of. See base.NodeEngine.cut."""
        start = self._start
        if not 0 <= prompt < len(start.task.prompts) or len(text) > frames.MAX_TEXT:
            raise ImageError("unscorable", "This is no answer to one of the task's prompts.")
        return await self._ready(start).link.cut(prompt, text, finish, start.task_number)

    async def use(self, task: Task) -> None:
        """Caption for `task` from now on. See base.NodeEngine.use."""
        async with self._changing_task:
            check_same_model(self._start.task, task)
            check_trust(task, self._start.settings)
            number = self._start.task_number + 1
            if self._life is not None or self._was_ready:  # only an engine that is there can say whether it takes it
                await self.wait_ready()
                life = self._ready(self._start)
                await life.link.use(task, number)
                if self._life not in (life, None):
                    raise EngineDied("The engine was started again meanwhile, for the task before. Ask again.")
            self._asked = asked(task)
            self._start_with(replace(self._start, task=task, task_number=number))

    async def run(self, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the engine running until cancelled.

        Raises ModelError when the model cannot be used, and EngineStartError when the engine does not come up or dies
        again and again.
        """
        try:
            self._check()
            task_status.started()
            await self._keep_running()
        except (ModelError, EngineStartError) as error:
            self._failure = error
            self._change(phase="failed", detail=str(error))
            raise
        finally:
            if self._failure is None:
                self._change(phase="stopped", detail="")

    def _check(self) -> None:
        """What can be said against the model without loading it."""
        if not self._chosen.endpoints:
            check_trust(self._start.task, self._chosen)
            check_model(Path(self._start.model_dir))

    async def _keep_running(self) -> None:
        while True:
            self._change(phase="starting", detail="starting the engine's process")
            end = await self._live()
            if less := verdict.with_less_memory(end, self._start.settings, self._was_ready, self._log):
                self._shrink(less)
                continue
            verdict.give_up_if_hopeless(end, self._start.settings, self._was_ready, self._log)
            delay = self._restarts.died(trio.current_time())
            if delay is None:
                raise EngineStartError(f"The engine ended again and again: {end.reason} Its log is {self._log}.")
            next_start = f"Next start in {delay:.0f} s." if delay else "It is started again."
            restarts = self._state.restarts + 1
            self._change(phase="restarting", detail=f"{end.reason} {next_start}", restarts=restarts)
            await trio.sleep(delay)

    async def _live(self) -> End:
        """One process, from its start to its end. Cancelled, it ends the process."""
        life = Life(replace(self._start, again=self._was_ready), self._log, self._heard)
        self._life, self._first_task = life, self._start.task_number  # from here on it begins with this task
        try:
            async with life.alive():
                self._change(pid=life.pid)
                try:
                    await self._attend(life)
                finally:
                    phase = "restarting" if life.link.closed.is_set() else "stopped"
                    self._change(phase=phase, detail="the engine's process ended", pid=0, load=EngineLoad())
        except OSError as error:
            return End(f"The engine's process cannot be started ({error.strerror}).")
        finally:
            self._life = None
        return life.end()

    async def _attend(self, life: Life) -> None:
        """Waits for the process's end, tells meanwhile how far its start has come, and ends it should it hang."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_progress, life)
            nursery.start_soon(_kill_when_it_hangs, life)
            await life.link.closed.wait()
            nursery.cancel_scope.cancel()

    async def _tell_progress(self, life: Life) -> None:
        while self._state.phase != "ready":
            await trio.sleep(PROGRESS_SECONDS)
            if self._state.phase == "loading" and (detail := log.progress(life.printed())):
                self._change(detail=detail)

    def _shrink(self, settings: EngineSettings) -> None:
        """The next start has these settings."""
        self._start_with(replace(self._start, settings=settings))
        notice = memory.notice(self._chosen, settings)
        self._change(phase="restarting", detail=notice, notice=notice, restarts=self._state.restarts + 1)

    def _start_with(self, start: frames.Start) -> None:
        """What processes are started with from now on, and how many images fit that."""
        self._start = start
        self._feed = self._new_feed()
        self._places.total_tokens = self._feed.capacity

    @property
    def _was_ready(self) -> bool:
        return bool(self._state.version)

    def _heard(self, message: frames.ToNode) -> None:
        match message:
            case frames.Progress(detail):
                self._change(phase="loading", detail=detail)
            case frames.Ready(version, device, engine_class):
                self._change(phase="ready", detail="", version=version, device=device, engine_class=engine_class)
            case frames.Load(load):
                said, self._state = self._state.load.notice, replace(self._state, load=load)
                if load.notice != said:
                    self._tell()
                self._places.total_tokens = self._feed.told(load, self._places.borrowed_tokens)

    def _new_feed(self) -> Feed:
        settings = self._start.settings
        batch = settings.max_num_seqs * max(1, len(settings.endpoints))  # each server has a batch of its own
        return Feed(self._start.task, batch, len(os.sched_getaffinity(0)))

    def _ready(self, start: frames.Start) -> Life:
        """The process that takes images for the task of that start. Raises EngineDied, also when an earlier process was
        the last to know that task."""
        if self._life is None or not self._there:
            raise EngineDied("The engine is not ready. Ask again when it is.")
        if start.task_number < max(self._first_task, self._start.task_number - frames.TASKS_KEPT + 1):
            raise EngineDied("The engine was started again, for another task. Ask again.")
        return self._life

    def _change(self, **fields: Any) -> None:
        state = replace(self._state, **fields)
        if state == self._state:
            return
        self._state = state
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        if self._on_change is not None:
            self._on_change(self.state)


async def _kill_when_it_hangs(life: Life) -> None:
    while (left := life.link.quiet_since + ANSWER_SECONDS - trio.current_time()) > 0:  # noqa: ASYNC110 - no event tells
        await trio.sleep(left)
    life.kill(f"The engine's process gave no answer for {ANSWER_SECONDS:.0f} s and was killed.")


def _check_size(image: bytes) -> None:
    if len(image) > MAX_IMAGE:
        raise ImageError("too-large", f"The file has {len(image)} bytes; at most {MAX_IMAGE} are decoded.")


def _cut(values: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Of the values those that the prompts use, and so much of each as a prompt takes in."""
    return {name: values[name][:MAX_VALUE] for name in names if name in values}


def _are_ids(ids: Sequence[int]) -> bool:
    return 0 < len(ids) <= frames.MAX_IDS and all(0 <= token < MAX_ID for token in ids)
