"""The node's engines while they run: what is shown of them, and a GPU that gets too hot."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from p2pcap.engine.base import EngineSettings, EngineState
from p2pcap.engine.gpus import Gpu, Gpus
from p2pcap.node import engine_plan, engines
from p2pcap.node.engines import Engines
from p2pcap.node.meter import Meter
from p2pcap.node.options import EngineOptions
from p2pcap.project.task import Task
from tests.engine.hosted import MODEL, TASK
from tests.engine.pooled import Member

GB = 10**9


def gpu(index: int, temperature: int | None, power: float | None = 300.0) -> Gpu:
    return Gpu(
        index=index,
        name="RTX",
        total=24 * GB,
        free=24 * GB,
        temperature=temperature,
        power=power,
        power_limit=450.0,
        busy=0.9,
    )


class Machine:
    """GPUs whose answers are given, the last of them again and again; `log_files` are those of the engines made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Gpus) -> None:
        self.answers = list(answers)
        self.looks = 0
        self.log_files: list[str] = []
        self.tell: list[Callable[[EngineState], None]] = []
        monkeypatch.setattr(engine_plan, "for_cpu", lambda: False)
        monkeypatch.setattr(engine_plan, "look", lambda: self.answers[0])
        monkeypatch.setattr(engines, "look", self._look)
        monkeypatch.setattr(engines, "VllmEngine", self._engine)
        monkeypatch.setattr(engines, "WATCH_EVERY", 0.001)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def _look(self) -> Gpus:
        self.looks += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _engine(
        self, model: Path, task: Task, settings: EngineSettings, log_file: Path, tell: Callable[[EngineState], None]
    ) -> Member:
        self.log_files.append(log_file.name)
        self.tell.append(tell)
        return Member()


class Ear:
    """Hears what is said to people."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = trio.Event()

    def say(self, text: str) -> None:
        self.lines.append(text)
        news, self._news = self._news, trio.Event()
        news.set()

    async def wait_for_more(self, lines: int) -> None:
        until = len(self.lines) + lines
        while len(self.lines) < until:
            await self._news.wait()

    async def wait_for(self, part: str) -> None:
        while not any(part in line for line in self.lines):
            await self._news.wait()


def test_a_hot_gpu_gets_no_new_images_until_it_has_cooled_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(
        monkeypatch,
        Gpus((gpu(0, 60), gpu(1, 60))),
        Gpus((gpu(0, 85), gpu(1, 60))),
        Gpus((gpu(0, 81), gpu(1, 60))),
        Gpus((gpu(0, 74), gpu(1, 60))),
    )

    async def main() -> None:
        ear = Ear()
        shown = Engines(EngineOptions(gpu_temperature=80), tmp_path / "engine.log", ear.say, lambda: None)
        pool = await shown.open(MODEL, TASK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown.run)
            with trio.fail_after(30):
                await ear.wait_for("GPU 0 is at 85 °C and rests")
                assert [place.resting for place in pool.places] == [True, False]
                assert [unit.phase for unit in shown.units()] == ["resting", "ready"]
                await ear.wait_for("GPU 0 is at 74 °C and works again")
            assert [place.resting for place in pool.places] == [False, False]
            nursery.cancel_scope.cancel()
        assert len([line for line in ear.lines if "GPU 0" in line]) == 2, "said once each"

    trio.run(main)
    assert machine.log_files == ["engine-0.log", "engine-1.log"]


def test_each_engine_is_shown_with_its_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine(monkeypatch, Gpus((gpu(0, 60), gpu(1, None, None))))
    looked = Ear()
    monkeypatch.setattr(Meter, "read", lambda meter, now, images, tokens: looked.say("read"))

    async def main() -> None:
        ear = Ear()
        shown = Engines(EngineOptions(), tmp_path / "engine.log", ear.say, lambda: None)
        shown.prepare("getting the model")
        assert (shown.preparing, shown.units(), ear.lines) == ("getting the model", (), ["getting the model"])
        await shown.open(MODEL, TASK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown.run)
            with trio.fail_after(30):
                await looked.wait_for_more(3)
            nursery.cancel_scope.cancel()
        first, second = shown.units()
        assert (first.name, first.temperature, first.power, first.power_limit, first.busy) == (
            "GPU 0",
            60,
            300.0,
            450.0,
            0.9,
        )
        assert (second.name, second.temperature, second.power) == ("GPU 1", None, None)

    trio.run(main)


def test_what_engines_tell_is_said_once_and_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(monkeypatch, Gpus((gpu(0, 60), gpu(1, 60))))
    changes: list[int] = []

    async def main() -> list[str]:
        ear = Ear()
        shown = Engines(EngineOptions(), tmp_path / "engine.log", ear.say, lambda: changes.append(1))
        await shown.open(MODEL, TASK)
        loading = EngineState(phase="loading", detail="loading the model")
        for state in (loading, loading, EngineState(phase="ready", notice="less memory")):
            machine.tell[1](state)
        return ear.lines

    assert trio.run(main) == ["engine on GPU 1 loading: loading the model", "engine on GPU 1 ready (less memory)"]
    assert len(changes) == 3


def test_a_driver_that_hangs_is_not_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(monkeypatch, Gpus((gpu(0, 60),)), Gpus(reason="no answer", hangs=True))

    looked = Ear()
    monkeypatch.setattr(Meter, "read", lambda meter, now, images, tokens: looked.say("read"))

    async def main() -> None:
        ear = Ear()
        shown = Engines(EngineOptions(), tmp_path / "engine.log", ear.say, lambda: None)
        await shown.open(MODEL, TASK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown.run)
            with trio.fail_after(30):
                await ear.wait_for("GPUs cannot be watched any more: no answer")
            await looked.wait_for_more(3)
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert machine.looks == 2
    assert machine.log_files == ["engine.log"]


@pytest.mark.parametrize("hangs", [True, False])
def test_a_hot_gpu_works_again_when_the_driver_tells_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hangs: bool
) -> None:
    Machine(monkeypatch, Gpus((gpu(0, 60),)), Gpus((gpu(0, 85),)), Gpus(reason="no answer", hangs=hangs))

    async def main() -> None:
        ear = Ear()
        shown = Engines(EngineOptions(gpu_temperature=80), tmp_path / "engine.log", ear.say, lambda: None)
        pool = await shown.open(MODEL, TASK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown.run)
            with trio.fail_after(30):
                await ear.wait_for("GPU 0 is at 85 °C and rests")
                await ear.wait_for("GPUs cannot be watched any more: no answer; --gpu-temperature cannot be kept")
            assert not pool.places[0].resting
            assert [unit.phase for unit in shown.units()] == ["ready"]
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_driver_that_hangs_at_once_is_said_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(monkeypatch, Gpus((gpu(0, 60),)), Gpus(reason="no answer", hangs=True))

    async def main() -> None:
        ear = Ear()
        shown = Engines(EngineOptions(), tmp_path / "engine.log", ear.say, lambda: None)
        await shown.open(MODEL, TASK)
        machine.answers = machine.answers[1:]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown.run)
            with trio.fail_after(30):
                await ear.wait_for("GPUs cannot be watched any more: no answer")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_limit_that_cannot_be_kept_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    divided = Gpu(index=0, name="H100", total=80 * GB, free=80 * GB, divided=True)

    async def notices(limit: int | None, *gpus: Gpu, cpu: bool = False) -> str:
        Machine(monkeypatch, Gpus(gpus, "" if gpus else "no driver"))
        monkeypatch.setattr(engine_plan, "for_cpu", lambda: cpu)
        shown = Engines(EngineOptions(gpu_temperature=limit), tmp_path / "engine.log", lambda text: None, lambda: None)
        await shown.open(MODEL, TASK)
        return " ".join(shown.notices)

    says = "--gpu-temperature cannot be kept"
    assert says in trio.run(notices, 80)
    assert says in trio.run(notices, 80, divided)
    assert says in trio.run(lambda: notices(80, cpu=True))
    assert says not in trio.run(notices, None)
    assert says not in trio.run(notices, 80, gpu(0, 60))


def test_what_is_left_idle_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    little = Gpu(index=1, name="Old", total=GB, free=GB)
    Machine(monkeypatch, Gpus((gpu(0, 60), little)))

    async def main() -> None:
        ear = Ear()
        shown = Engines(EngineOptions(), tmp_path / "engine.log", ear.say, lambda: None)
        await shown.open(MODEL, TASK)
        assert len(shown.units()) == 1
        assert "GPU 1 (Old) is left idle" in ear.lines[0]
        assert tuple(ear.lines) == shown.notices

    trio.run(main)


def test_a_gpu_that_draws_too_much_rests_and_the_right_to_more_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watts = [gpu(0, 60, power) for power in (250.0, 450.0, *[60.0] * 60)]
    Machine(monkeypatch, *[Gpus((each, gpu(1, 60, 100.0))) for each in watts])
    monkeypatch.setattr(engines, "averaged", lambda average, drawn, seconds: drawn)

    async def main() -> None:
        ear = Ear()
        shown = Engines(EngineOptions(gpu_power=300), tmp_path / "engine.log", ear.say, lambda: None)
        pool = await shown.open(MODEL, TASK)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown.run)
            with trio.fail_after(30):
                await ear.wait_for("nvidia-smi -i 0 -pl 300")
                await ear.wait_for("GPU 0 draws 450 W and rests")
                await ear.wait_for("GPU 0 draws 60 W and works again")
            assert [place.resting for place in pool.places] == [False, False]
            nursery.cancel_scope.cancel()
        assert len([line for line in ear.lines if "nvidia-smi" in line]) == 1

    trio.run(main)
