"""The node's engines while they run: what each of them does, how fast it is, how warm its GPUs are.

Which engines there are is p2pcap.node.engine_plan's. `run` keeps them running, looks at their GPUs, and keeps new
images from one that is too hot.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog
import trio

from p2pcap.engine.base import EngineSettings, EngineState
from p2pcap.engine.gpus import Gpu, Gpus, averaged, draws_too_much, look, rests
from p2pcap.engine.pool import EnginePool
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.node.engine_plan import Plan, plan_engines
from p2pcap.node.meter import Meter
from p2pcap.node.options import EngineOptions
from p2pcap.node.saying import Passing
from p2pcap.node.snapshot import EngineUnit
from p2pcap.project.task import Task

WATCH_EVERY = 2.0
"""Seconds between two looks at engines and GPUs."""

log = structlog.get_logger()


def _pool(
    plan: Plan,
    directory: Path,
    task: Task,
    log_file: Path,
    on_state: Callable[[int, EngineState], None],
    on_change: Callable[[], None],
) -> EnginePool:
    def engine(number: int, settings: EngineSettings) -> VllmEngine:
        file = log_file if len(plan.settings) == 1 else log_file.with_stem(f"{log_file.stem}-{number}")
        return VllmEngine(directory, task, settings, file, lambda state: told(number, state))

    def told(number: int, state: EngineState) -> None:
        pool.look_again()
        on_state(number, state)

    engines = [engine(number, settings) for number, settings in enumerate(plan.settings)]
    pool = EnginePool(list(zip(plan.names, engines, strict=True)), on_change)
    return pool


class Engines:
    """The engines of one node. `say` gets lines for people; `changed` is called when something is worth showing."""

    def __init__(
        self, options: EngineOptions, log_file: Path, say: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self.pool: EnginePool | None = None
        self.preparing = ""
        """What is being done before there are engines."""
        self.notices: tuple[str, ...] = ()
        self._options = options
        self._log_file = log_file
        self._say = say
        self._changed = changed
        self._plan = Plan((), ())
        self._meters: list[Meter] = []
        self._gpus: dict[int, Gpu] = {}
        self._blind = False
        """Whether the driver told nothing when it was asked last."""
        self._said: dict[int, str] = {}
        self._hot: set[int] = set()
        self._greedy: set[int] = set()
        """Engines that rest because of heat, and because of power."""
        self._watts: dict[int, float | None] = {}
        self._bursts_told = False

    def prepare(self, text: str) -> None:
        """Say what is being done before there are engines."""
        self.preparing = text
        self._say(Passing(text))
        self._changed()

    async def open(self, directory: Path, task: Task) -> EnginePool:
        """The engines for the task, not running yet. Raises EngineStartError, ModelError or ConfigError."""
        self._plan = await trio.to_thread.run_sync(plan_engines, directory, task, self._options)
        self.notices = (*self._plan.notices, *_unwatched(self._plan, self._options))
        for notice in self.notices:
            self._say(notice)
        self._meters = [Meter() for _ in self._plan.settings]
        self.pool = _pool(self._plan, directory, task, self._log_file, self._told, self._changed)
        return self.pool

    async def run(self) -> None:
        """Keep them running until cancelled; `open` has made them. Raises when all have failed."""
        assert self.pool is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, self.pool)
            await self.pool.run()

    def units(self) -> tuple[EngineUnit, ...]:
        """How each of them does."""
        if self.pool is None:
            return ()
        return tuple(self._unit(number, state) for number, state in enumerate(self.pool.states))

    def _unit(self, number: int, state: EngineState) -> EngineUnit:
        gpus = [self._gpus[index] for index in self._plan.settings[number].gpus if index in self._gpus]
        meter = self._meters[number]
        place = self.pool.places[number] if self.pool else None
        return EngineUnit(
            name=self._plan.names[number],
            phase="resting" if place and place.resting and state.phase == "ready" else state.phase,
            detail=state.detail,
            device=state.device,
            rate=meter.images,
            tokens=meter.tokens,
            in_flight=place.in_hand if place else 0,
            running=state.load.running,
            waiting=state.load.waiting,
            kv=state.load.kv,
            restarts=state.restarts,
            power=_sum(gpu.power for gpu in gpus),
            power_limit=_sum(gpu.power_limit for gpu in gpus),
            temperature=max((gpu.temperature for gpu in gpus if gpu.temperature is not None), default=None),
            busy=max((gpu.busy for gpu in gpus if gpu.busy is not None), default=None),
            notice=state.notice,
        )

    def _told(self, number: int, state: EngineState) -> None:
        """An engine has changed."""
        which = "engine" if len(self._plan.names) == 1 else f"engine on {self._plan.names[number]}"
        said = f"{which} {state.phase}" + (f": {state.detail}" if state.detail else "")
        said += f" ({state.notice})" if state.notice else ""
        if said != self._said.get(number):
            self._said[number] = said
            log.info("engine", number=number, phase=state.phase, detail=state.detail, restarts=state.restarts)
            self._say(Passing(said))
        self._changed()

    async def _watch(self, pool: EnginePool) -> None:
        looking = any(settings.gpus for settings in self._plan.settings)
        while True:
            for meter, place in zip(self._meters, pool.places, strict=True):
                meter.read(trio.current_time(), place.answered, place.engine.state.load.made)
            if looking:
                found = await trio.to_thread.run_sync(look, abandon_on_cancel=True)
                looking = not found.hangs
                self._see(pool, found)
            await trio.sleep(WATCH_EVERY)

    def _see(self, pool: EnginePool, found: Gpus) -> None:
        """Keep what the driver told, and rest the engines of GPUs that are too hot. When it tells nothing, all work: no
        GPU would ever be seen to cool down."""
        self._gpus = {gpu.index: gpu for gpu in found.gpus}
        was_blind, self._blind = self._blind, bool(found.reason)
        if self._blind:
            if not was_blind:
                kept = f"; {' and '.join(limits)} cannot be kept" if (limits := _limits(self._options)) else ""
                self._say(f"GPUs cannot be watched any more: {found.reason}{kept}")
            self._hot, self._greedy = set(), set()
            for number in range(len(pool.places)):
                pool.rest(number, False)
            return
        self._tell_bursts()
        for number, settings in enumerate(self._plan.settings):
            mine = [gpu for gpu in found.gpus if gpu.index in settings.gpus]
            hottest = max((gpu.temperature for gpu in mine if gpu.temperature), default=None)
            hot = rests(number in self._hot, hottest, self._options.gpu_temperature)
            self._note(self._hot, number, hot, f"is at {hottest} °C")
            self._note(
                self._greedy, number, self._draws_too_much(number, mine), f"draws {self._watts[number] or 0:.0f} W"
            )
            pool.rest(number, number in self._hot or number in self._greedy)

    def _tell_bursts(self) -> None:
        """Say once that a limit of the driver's own is an administrator's to set."""
        cap, used = self._options.gpu_power, {index for settings in self._plan.settings for index in settings.gpus}
        more = [gpu for gpu in self._gpus.values() if gpu.index in used and gpu.power_limit and cap]
        if not self._bursts_told and (above := [gpu for gpu in more if (gpu.power_limit or 0) > (cap or 0)]):
            self._bursts_told = True
            self._say(
                f"{above[0].named} is kept at {cap} W on average, by resting it; a limit for every moment needs an "
                f"administrator's rights: nvidia-smi -i {above[0].index} -pl {cap}"
            )

    def _draws_too_much(self, number: int, gpus: Sequence[Gpu]) -> bool:
        drawn = _sum(gpu.power for gpu in gpus)
        self._watts[number] = average = averaged(self._watts.get(number), drawn, WATCH_EVERY)
        cap = self._options.gpu_power
        return draws_too_much(number in self._greedy, average, None if cap is None else cap * len(gpus))

    def _note(self, resting: set[int], number: int, now: bool, why: str) -> None:
        """Whether the engine rests for one of the two reasons; a change is said."""
        if now == (number in resting):
            return
        resting.symmetric_difference_update({number})
        self._say(f"{self._plan.names[number]} {why} and {'rests' if now else 'works again'}")


def _unwatched(plan: Plan, options: EngineOptions) -> tuple[str, ...]:
    """What to say when the volunteer set a limit that nothing here can keep."""
    limits = _limits(options)
    if not limits or all(settings.gpus for settings in plan.settings):
        return ()
    named = " and ".join(limits)
    return (f"{named} cannot be kept: only NVIDIA GPUs that are not divided (MIG) tell of heat and power.",)


def _limits(options: EngineOptions) -> list[str]:
    """The limits that the volunteer set, by their options."""
    limits = {"--gpu-temperature": options.gpu_temperature, "--gpu-power": options.gpu_power}
    return [name for name, limit in limits.items() if limit is not None]


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
