"""Several engines as one: each image goes to the engine that has most room for it.

An engine that dies, or fails for good, takes down no other: what it had in hand raises EngineDied and is asked again of
those that are left. Only when all have failed has the pool. Whoever rests an engine, because its GPU is too hot, keeps
new images from it; what it has in hand it finishes.

Always holds: every call is with one engine at most, and `run` returns only when no engine runs any more.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from p2pcap.engine.base import NO_FIELDS, EngineLoad, EngineState, NodeEngine, Output, Phase, Score
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
    """One engine of a pool: the calls it has in hand, and how many images it has answered."""

    engine: RunningEngine
    name: str
    in_hand: int = 0
    answered: int = 0
    resting: bool = False
    failure: ModelError | EngineStartError | None = None

    @property
    def ready(self) -> bool:
        """Whether it takes images, hot or not."""
        return self.engine.state.phase == "ready"

    @property
    def filled(self) -> float:
        """The share of its capacity that is in hand."""
        return self.in_hand / self.engine.capacity


class EnginePool:
    """The engines by their names for people; `on_change` hears when one fails or begins or ends to rest."""

    def __init__(
        self, engines: Sequence[tuple[str, RunningEngine]], on_change: Callable[[], None] | None = None
    ) -> None:
        self.places = tuple(Place(engine, name) for name, engine in engines)
        self._on_change = on_change
        self._changed = trio.Event()

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
        serving = [place for place in self.places if place.ready and not place.resting]
        waited_for = [place for place in self.places if place.failure is None]
        return max(1, sum(place.engine.capacity for place in serving or waited_for))

    async def run(self) -> None:
        """Keeps the engines running until cancelled. Raises the first one's failure when all have failed."""
        async with trio.open_nursery() as nursery:
            for place in self.places:
                nursery.start_soon(self._keep, place)
        raise _again(next(place.failure for place in self.places if place.failure is not None))

    async def wait_ready(self) -> None:
        """Returns once some engine takes images. Raises ModelError or EngineStartError when none ever will."""
        while not any(place.ready for place in self.places):
            await self._first_ready()

    async def caption(self, image: bytes, sha256: bytes, fields: Mapping[str, str] = NO_FIELDS) -> tuple[Output, ...]:
        """See base.Engine.caption. Waits while every engine that is ready rests."""
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

    async def use(self, task: Task) -> None:
        """See base.NodeEngine.use; all engines have one model, so the first refuses what any of them would."""
        for place in self.places:
            if place.failure is None:
                await place.engine.use(task)

    def rest(self, number: int, resting: bool) -> None:
        """Give the engine of that number no new images, or again."""
        place = self.places[number]
        if place.resting != resting:
            place.resting = resting
            self._tell()

    async def _keep(self, place: Place) -> None:
        try:
            await place.engine.run()
        except (ModelError, EngineStartError) as error:
            place.failure = error
            self._tell()

    async def _first_ready(self) -> None:
        failures: list[ModelError | EngineStartError] = []

        async def wait(place: Place) -> None:
            try:
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
        """The engine that is filled least. Raises EngineDied when none is ready."""
        while True:
            ready = [place for place in self.places if place.ready]
            if not ready:
                raise EngineDied("No engine is ready. Ask again when one is.")
            if serving := [place for place in ready if not place.resting]:
                return min(serving, key=lambda place: place.filled)
            await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
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
