"""Keeps one vLLM engine running beside the node, and hands it images.

The node imports this; neither torch nor vllm is ever imported in the node's process. The engine's process may be killed
at any moment, by the kernel for memory or by a fault of a driver: open calls then raise EngineDied, and the process is
started again (`restarts` says when). `run` owns the process; every other method only talks to it.

Always holds: while `run` is not running, no process of the engine exists, and none of its temporary files.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import trio

from p2pcap.engine import frames, group, log
from p2pcap.engine.base import IN_HAND_BEYOND_BATCH, NO_FIELDS, EngineSettings, EngineState, Output, Phase
from p2pcap.engine.device import environment, scratch, scratch_environment
from p2pcap.engine.link import Link
from p2pcap.engine.model import check_model
from p2pcap.engine.restarts import Restarts
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError
from p2pcap.project.items import MAX_IMAGE
from p2pcap.project.prompts import asked
from p2pcap.project.task import Task

ANSWER_SECONDS = 900.0
"""An engine that leaves an image unanswered for so long hangs, and is started again."""


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
        self._asked = asked(task)
        self._log = log_file
        self._on_change = on_change
        self._state = EngineState()
        self._changed = trio.Event()
        self._failure: ModelError | EngineStartError | None = None
        self._refusal: frames.Refused | None = None
        self._restarts = Restarts()
        self._link: Link | None = None
        self._process: trio.Process | None = None
        self._places = trio.CapacityLimiter(settings.max_num_seqs + IN_HAND_BEYOND_BATCH)

    @property
    def capacity(self) -> int:
        """How many images to keep in flight; calls of `caption` beyond it wait."""
        return int(self._places.total_tokens)

    @property
    def state(self) -> EngineState:
        """How the engine is doing now."""
        places = self._places.statistics()
        return msgspec.structs.replace(self._state, running=places.borrowed_tokens, waiting=places.tasks_waiting)

    async def wait_ready(self) -> None:
        """Returns once images are taken. Raises ModelError or EngineStartError when that will never be."""
        while self._state.phase != "ready":
            if self._failure is not None:
                raise type(self._failure)(str(self._failure))
            await self._changed.wait()

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        """One output for each prompt of the task. See base.Engine.caption."""
        if len(image) > MAX_IMAGE:
            raise ImageError("too-large", f"The file has {len(image)} bytes; at most {MAX_IMAGE} are decoded.")
        async with self._places:
            link = self._link
            if link is None or self._state.phase != "ready":
                raise EngineDied("The engine is not ready. Ask again when it is.")
            try:
                with trio.fail_after(ANSWER_SECONDS):
                    outputs = await link.ask(
                        image, sha256, {name: fields[name] for name in self._asked if name in fields}
                    )
            except trio.TooSlowError as error:
                self._hangs(link)
                raise EngineDied(f"The engine gave no answer for {ANSWER_SECONDS:.0f} s; it is killed.") from error
            self._restarts.captioned()
            return outputs

    async def run(self, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the engine running until cancelled.

        Raises ModelError when the model cannot be used, and EngineStartError when the engine does not come up or dies
        again and again.
        """
        try:
            check_model(Path(self._start.model_dir))
            task_status.started()
            await self._keep_running()
        except (ModelError, EngineStartError) as error:
            self._failure = error
            self._change(phase="failed", detail=str(error))
            raise
        finally:
            if self._failure is None:
                self._change(phase="stopped", detail="")

    async def _keep_running(self) -> None:
        while True:
            self._change(phase="starting", detail="starting the engine's process")
            reason = await self._live()
            delay = self._restarts.died(trio.current_time())
            if delay is None:
                raise EngineStartError(f"The engine ended again and again: {reason} Its log is {self._log}.")
            restarts = self._state.restarts + 1
            self._change(phase="restarting", detail=f"{reason} Next start in {delay:.0f} s.", restarts=restarts)
            await trio.sleep(delay)

    async def _live(self) -> str:
        """One process, from its start to its end; returns why it ended. Cancelled, it ends the process."""
        with ExitStack() as life:
            try:
                folder = life.enter_context(scratch())
                process, link, log_start = await self._spawn(folder)
            except OSError as error:
                return f"The engine's process cannot be started ({error.strerror})."
            await self._accompany(process, link)
        return link.fault or self._why(process, log.last_error(self._log, log_start))

    async def _accompany(self, process: trio.Process, link: Link) -> None:
        """Carries messages to and from the process until it ends, and ends what is left of it."""
        self._link, self._process, self._refusal = link, process, None
        self._change(pid=process.pid)
        link.send(self._start)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            try:
                await link.closed.wait()
            finally:
                await self._end(process, "restarting" if link.closed.is_set() else "stopped")

    async def _spawn(self, folder: str) -> tuple[trio.Process, Link, int]:
        """A new process, the link to it, and where its output begins in the log. Raises OSError."""
        variables = environment(self._start.settings, os.environ) | scratch_environment(folder)
        ours, theirs = trio.socket.socketpair()
        try:
            with theirs, log.continued(self._log) as output:
                group.adopt_orphans()
                process = await _open_process(theirs.fileno(), output, variables)
                return process, Link(ours, self._heard), output.tell()
        except BaseException:
            ours.close()
            raise

    async def _end(self, process: trio.Process, phase: Phase) -> None:
        """Kills what is left of the process's group and waits until all of it is gone."""
        self._link, self._process = None, None
        self._change(phase=phase, detail="the engine's process ended", pid=0)
        with trio.CancelScope(shield=True):
            group.kill(process.pid)  # before waiting: until then no other process can be given that id
            await process.wait()
            await trio.to_thread.run_sync(group.collect, process.pid)

    def _why(self, process: trio.Process, last_error: str) -> str:
        """Why the process ended, as a sentence. Raises when another start would end the same way."""
        if self._refusal is not None:
            return self._refused(self._refusal, last_error)
        status = process.returncode or 0
        if status == frames.DIED:
            return f"vLLM's own processes ended{last_error}."
        if status < 0:
            return f"The engine's process was killed by {signal.Signals(-status).name}."
        return f"The engine's process ended with status {status}{last_error}."

    def _refused(self, refusal: frames.Refused, last_error: str) -> str:
        if refusal.model_at_fault:
            raise ModelError(refusal.reason)
        if not self._state.version:  # it never was ready, so trying again will not help
            raise EngineStartError(f"{refusal.reason}{last_error}. Its log is {self._log}.")
        return f"{refusal.reason}{last_error}."

    def _heard(self, message: frames.ToNode) -> None:
        match message:
            case frames.Progress(detail):
                self._change(phase="loading", detail=detail)
            case frames.Ready(version, device, engine_class):
                self._change(phase="ready", detail="", version=version, device=device, engine_class=engine_class)
            case frames.Refused():
                self._refusal = message

    def _hangs(self, link: Link) -> None:
        """Kills the process that left an image unanswered, unless it is gone already."""
        if self._link is link and self._process is not None:
            self._process.kill()

    def _change(self, **fields: Any) -> None:
        state = msgspec.structs.replace(self._state, **fields)
        if state == self._state:
            return
        self._state = state
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        if self._on_change is not None:
            self._on_change(self.state)


async def _open_process(end: int, output: BinaryIO, variables: dict[str, str]) -> trio.Process:
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "p2pcap.engine.process", str(end)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[end],
        start_new_session=True,
        env=variables,
    )
