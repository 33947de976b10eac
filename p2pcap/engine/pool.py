"""Several engines as one: each image goes to the engine that has most room for it.

An engine that dies, or fails for good, takes down no other: what it had in hand raises EngineDied and is asked again of
those that are left. Only when all have failed has the pool. Whoever rests an engine, because its GPU is too hot, keeps
new images from it; what it has in hand it finishes.

A new task is the pool's once one engine has taken it. The others get no images until they have been told of it too, and
one that is away is told when it is back: images of one task never come back captioned for two.

Always holds: every call is with one engine at most, which has the pool's task; and `run` returns only when no engine
runs any more.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from p2pcap.engine.base import NO_FIELDS, EngineLoad, EngineState, Finish, NodeEngine, Output, Phase, Score, Spelt
from p2pcap.errors import EngineDied, EngineStartError, ModelError
from p2pcap.project.task import Task

PHASES: tuple[Phase, ...] = ("ready", "loading", "starting", "restarting", "stopped", "failed")
"""The pool is in the first of these that an engine of its is in."""

MIXED = b"p2pcap mixed engine class 1"


class RunningEngine(NodeEngine, Protocol):
    """An engine that somebody has to keep running."""

    async def run(self) -> None:
        """Keeps it running until cancelled. Raises ModelError or EngineStartError when it has failed for good."""
        ...


@dataclass(eq=False)
class Place:
    """One engine of a pool: the calls it has in hand, how many images it has answered, and the task that it was told
    last, None being the one it was made for. Who tells it holds `telling`; who ends it cancels `running`."""

    engine: RunningEngine
    name: str
    in_hand: int = 0
    answered: int = 0
    resting: bool = False
    failure: ModelError | EngineStartError | None = None
    task: Task | None = None
    telling: trio.Lock = field(default_factory=trio.Lock)
    running: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def ready(self) -> bool:
        """Whether it takes images, hot or not, of whatever task."""
        return self.failure is None and self.engine.state.phase == "ready"

    @property
    def filled(self) -> float:
        """The share of its capacity that is in hand."""
        return self.in_hand / self.engine.capacity


class EnginePool:
    """The engines by their names for people; `on_change` hears when one fails, has a new task, or begins or ends to
    rest."""

    def __init__(
        self, engines: Sequence[tuple[str, RunningEngine]], on_change: Callable[[], None] | None = None
    ) -> None:
        self.places = tuple(Place(engine, name) for name, engine in engines)
        self._on_change = on_change
        self._changed = trio.Event()
        self._task: Task | None = None
        self._using = trio.Lock()

    @property
    def states(self) -> tuple[EngineState, ...]:
        """Each engine's state, in their order."""
        return tuple(place.engine.state for place in self.places)

    @property
    def state(self) -> EngineState:
        """All of them as one: counts are sums, and the phase is that of the one that is furthest."""
        states = self.states
        if len(states) == 1:
            return states[0]
        phase = next(phase for phase in PHASES if any(state.phase == phase for state in states))
        return EngineState(
            phase=phase,
            detail=self._detail(states, phase),
            restarts=sum(state.restarts for state in states),
            pid=next((state.pid for state in states if state.pid), 0),
            running=sum(state.running for state in states),
            waiting=sum(state.waiting for state in states),
            version=next((state.version for state in states if state.version), ""),
            device=_devices(states),
            engine_class=_class_of(states),
            load=_load([state.load for state in states if state.phase == "ready"]),
            notice=" ".join(self._notices(states)),
        )

    @property
    def capacity(self) -> int:
        """How many images to keep in flight: as many as the engines that take images now have room for."""
        serving = [place for place in self.places if self._serves(place)]
        waited_for = [place for place in self.places if place.failure is None]
        return max(1, sum(place.engine.capacity for place in serving or waited_for))

    async def run(self) -> None:
        """Keeps the engines running until cancelled. Raises the first one's failure when all have failed."""
        async with trio.open_nursery() as following:
            async with trio.open_nursery() as keeping:
                for place in self.places:
                    keeping.start_soon(self._keep, place)
                    following.start_soon(self._follow, place)
            following.cancel_scope.cancel()
        raise _again(next(place.failure for place in self.places if place.failure is not None))

    async def wait_ready(self) -> None:
        """Returns once some engine takes images. Raises ModelError or EngineStartError when none ever will."""
        while not any(place.ready for place in self.places):
            await self._first_ready()

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        """See base.Engine.caption. Waits while no engine takes images: each is away, rests, or has yet to hear of the
        task. Raises EngineDied only for an image that an engine had."""
        place = await self._roomiest()
        place.in_hand += 1
        try:
            outputs = await place.engine.caption(image, sha256, fields)
        finally:
            place.in_hand -= 1
        place.answered += 1
        return outputs

    async def score(
        self, image: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str] = NO_FIELDS
    ) -> Score:
        """See base.NodeEngine.score."""
        place = await self._roomiest()
        return await place.engine.score(image, sha256, prompt, ids, values)

    async def spell(self, prompt: int, ids: Sequence[int], finish: Finish) -> Spelt:
        """See base.NodeEngine.spell."""
        place = await self._roomiest()
        return await place.engine.spell(prompt, ids, finish)

    async def cut(self, prompt: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        """See base.NodeEngine.cut."""
        place = await self._roomiest()
        return await place.engine.cut(prompt, text, finish)

    async def use(self, task: Task) -> None:
        """See base.NodeEngine.use. The first engine that answers says whether the task can be used, as all have one
        model; the others are told by `run`. Raises EngineDied when all went away: then the task is the one before."""
        async with self._using:
            for place in sorted(self.places, key=lambda place: not place.ready):
                if place.failure is None and await self._takes(place, task):
                    self._task = task  # in one go with the engine's own change
                    return
            raise EngineDied("No engine was there to take the task. Ask again when one is ready.")

    def look_again(self) -> None:
        """Whoever waits for an engine looks again: to be called when the state of one has changed."""
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def rest(self, number: int, resting: bool) -> None:
        """Give the engine of that number no new images, or again."""
        place = self.places[number]
        if place.resting != resting:
            place.resting = resting
            self._tell()

    async def _keep(self, place: Place) -> None:
        try:
            with trio.CancelScope() as place.running:
                await place.engine.run()
        except (ModelError, EngineStartError) as error:
            place.failure = error
            self._tell()

    async def _follow(self, place: Place) -> None:
        """Tells the engine of each task that the pool has, as soon as it is there to hear it. One that refuses what
        another took is of no use any more."""
        while place.failure is None:
            changed, task = self._changed, self._task
            try:
                if task is None or task is place.task:
                    await changed.wait()
                elif not await self._takes(place, task):
                    await place.engine.wait_ready()
            except (ModelError, EngineStartError) as error:
                place.failure = place.failure or error
                place.running.cancel()
                self._tell()

    async def _takes(self, place: Place, task: Task) -> bool:
        """Tells the engine of a task; False when it went away. It gets no images meanwhile, so that none is captioned
        for a task that the pool does not have. Raises ModelError when the engine refuses the task."""
        try:
            async with place.telling:
                await place.engine.use(task)
                place.task = task
        except EngineDied:
            return False
        except (ModelError, EngineStartError):
            if place.engine.state.phase == "failed":
                return False
            raise
        finally:
            self._tell()
        return True

    def _serves(self, place: Place) -> bool:
        """Whether it gets images now."""
        return place.ready and not place.resting and not place.telling.locked() and place.task is self._task

    async def _first_ready(self) -> None:
        failures: list[ModelError | EngineStartError] = []

        async def wait(place: Place) -> None:
            try:
                if place.failure is not None:
                    raise _again(place.failure)
                await place.engine.wait_ready()
            except (ModelError, EngineStartError) as error:
                failures.append(error)
            else:
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for place in self.places:
                nursery.start_soon(wait, place)
        if len(failures) == len(self.places):
            raise _again(failures[0])

    async def _roomiest(self) -> Place:
        """The engine that is filled least, as soon as one takes images. Raises as `wait_ready` does."""
        while True:
            await self.wait_ready()
            if serving := [place for place in self.places if self._serves(place)]:
                return min(serving, key=lambda place: place.filled)
            await self._changed.wait()

    def _tell(self) -> None:
        self.look_again()
        if self._on_change is not None:
            self._on_change()

    def _detail(self, states: Sequence[EngineState], phase: Phase) -> str:
        """What the engines are doing that are not ready; of all that do the same, once."""
        told = [(place, state) for place, state in zip(self.places, states, strict=True) if state.phase != "ready"]
        others = "; ".join(f"{place.name}: {state.detail or state.phase}" for place, state in told)
        ready = len(states) - len(told)
        return f"{ready} of {len(states)} engines ready; {others}" if others and phase == "ready" else others

    def _notices(self, states: Sequence[EngineState]) -> list[str]:
        named = [(place.name, state.notice) for place, state in zip(self.places, states, strict=True) if state.notice]
        return [f"{name}: {notice}" for name, notice in named]


def _again(failure: ModelError | EngineStartError) -> ModelError | EngineStartError:
    """The same failure for another who waits for it: an exception that is raised twice gathers both tracebacks."""
    return type(failure)(str(failure))


def _devices(states: Sequence[EngineState]) -> str:
    """ "2 x cuda NVIDIA H200, cpu"."""
    counts = Counter(state.device for state in states if state.device)
    return ", ".join(f"{count} x {device}" if count > 1 else device for device, count in counts.items())


def _class_of(states: Sequence[EngineState]) -> bytes:
    """The class of engines that are alike. Captions of unlike ones get mixed in a result, so these have a class of
    their own: SHA-256 over theirs."""
    classes = sorted({state.engine_class for state in states if state.engine_class})
    if len(classes) > 1:
        return hashlib.sha256(MIXED + b"".join(classes)).digest()[:8]
    return classes[0] if classes else b""


def _load(loads: Sequence[EngineLoad]) -> EngineLoad:
    """Counts are sums, and of the memory for keys and values the share that all of them use together."""
    return EngineLoad(
        running=sum(load.running for load in loads),
        waiting=sum(load.waiting for load in loads),
        kv=sum(load.kv for load in loads) / max(1, len(loads)),
        decoding=sum(load.decoding for load in loads),
        read=sum(load.read for load in loads),
        made=sum(load.made for load in loads),
    )
