"""The machine's GPUs: what the driver tells, with a twin of it, and without one, as on most machines that test this."""

import threading
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from p2pcap.engine.gpus import COOL_BY, POWER_OVER, Gpu, Gpus, averaged, bounded, draws_too_much, look, rests, visible

GIB = 1024**3


class NvmlTwin:
    """The driver's library with `gpus`, each a table from a function's name, without "nvmlDeviceGet", to its answer.
    What a GPU lacks it does not support."""

    def __init__(self, *gpus: dict[str, Any]) -> None:
        self.gpus = gpus
        self.open = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("MemoryInfo", "UtilizationRates", "MigMode", "UUID", "Name", "PowerUsage", "EnforcedPowerLimit"):
            monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", self._answering(name))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", self._answering("Temperature"))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperatureThreshold", self._answering("TemperatureThreshold"))
        monkeypatch.setattr(pynvml, "nvmlInit", self._init)
        monkeypatch.setattr(pynvml, "nvmlShutdown", self._shutdown)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(self.gpus))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: self.gpus[index])

    def _init(self) -> None:
        self.open += 1

    def _shutdown(self) -> None:
        self.open -= 1

    def _answering(self, name: str) -> Any:
        def answer(handle: dict[str, Any], *arguments: Any) -> Any:
            if name not in handle:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return handle[name]

        return answer


WHOLE = {
    "MemoryInfo": SimpleNamespace(total=80 * GIB, free=60 * GIB, used=20 * GIB),
    "UtilizationRates": SimpleNamespace(gpu=97, memory=40),
    "MigMode": [0, 0],
    "UUID": "GPU-11111111",
    "Name": "NVIDIA H100",
    "PowerUsage": 310_500,
    "EnforcedPowerLimit": 700_000,
    "Temperature": 64,
    "TemperatureThreshold": 87,
}


def test_this_machine_is_told_of_without_an_error_whatever_it_has() -> None:
    found = look()
    assert bool(found.gpus) != bool(found.reason)
    assert not found.hangs


def test_what_the_driver_tells_is_in_common_units(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = NvmlTwin(WHOLE, {"MigMode": [1, 1]})
    twin.install(monkeypatch)
    whole, poor = look().gpus
    assert whole == Gpu(
        index=0,
        uuid="GPU-11111111",
        name="NVIDIA H100",
        total=80 * GIB,
        free=60 * GIB,
        power=310.5,
        power_limit=700.0,
        temperature=64,
        slowdown=87,
        busy=0.97,
    )
    assert poor == Gpu(index=1, divided=True), "what a GPU does not tell is left open"
    assert twin.open == 0, "the library is let go of again"


def test_a_machine_without_gpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    NvmlTwin().install(monkeypatch)
    assert look() == Gpus((), "NVIDIA's driver has no GPU")


@pytest.mark.parametrize("where", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_a_driver_that_fails_becomes_a_reason(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def fail(*arguments: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    NvmlTwin(WHOLE).install(monkeypatch)
    monkeypatch.setattr(pynvml, where, fail)
    found = look()
    assert found.gpus == ()
    assert "driver" in found.reason


def test_a_driver_that_hangs_is_not_waited_for() -> None:
    let_go = threading.Event()

    def hang() -> Gpus:
        let_go.wait()
        return Gpus()

    found = bounded(hang, 0.01)
    let_go.set()
    assert found.hangs
    assert "no answer" in found.reason


A, B, C = (Gpu(index=index, uuid=f"GPU-{index}abc", name="X") for index in range(3))


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, (A, B, C)),
        ("", ()),
        ("-1", ()),
        ("2,0", (C, A)),
        (" 1 , 2 ", (B, C)),
        ("0,7,1", (A,)),
        ("GPU-1abc", (B,)),
        ("GPU-2", (C,)),
        ("GPU-", ()),
        ("0,0", (A,)),
        ("MIG-5d2f", ()),
        ("none", ()),
        ("\u0661", ()),
        ("1" * 5_000, ()),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(value: str | None, seen: tuple[Gpu, ...]) -> None:
    assert visible((A, B, C), value) == seen


def test_a_hot_gpu_rests_until_it_has_cooled_down_by_some_degrees() -> None:
    resting, course = False, []
    for degrees in (70, 79, 80, 79, 80 - COOL_BY + 1, 80 - COOL_BY, 79, 81, None, 60):
        resting = rests(resting, degrees, 80)
        course.append(resting)
    assert course == [False, False, True, True, True, False, False, True, True, False]


def test_without_a_limit_no_gpu_rests() -> None:
    assert not rests(True, 200, None)


@pytest.mark.parametrize(
    ("resting", "average", "limit", "now"),
    [
        (False, 249.0, 250.0, False),
        (False, 251.0, 250.0, True),
        (True, 240.0, 250.0, True),
        (True, 224.0, 250.0, False),
        (True, None, 250.0, True),
        (False, None, 250.0, False),
        (True, 900.0, None, False),
    ],
)
def test_a_gpu_rests_when_it_draws_too_much(
    resting: bool, average: float | None, limit: float | None, now: bool
) -> None:
    assert draws_too_much(resting, average, limit) is now


def test_a_gpu_that_rests_in_between_draws_its_limit_on_average() -> None:
    """600 W at work and 60 W at rest, a look every two seconds, for an hour."""
    average, resting, drawn = None, False, []
    for _ in range(1_800):
        watts = 60.0 if resting else 600.0
        drawn.append(watts)
        average = averaged(average, watts, 2.0)
        resting = draws_too_much(resting, average, 300.0)
    assert 240 < sum(drawn) / len(drawn) <= 300
    windows = [sum(drawn[start : start + 60]) / 60 for start in range(60, 1_700)]
    assert max(windows) < 360, "in every two minutes"


def test_what_a_gpu_draws_is_averaged_over_half_a_minute() -> None:
    assert averaged(None, 300.0, 2.0) == 300.0
    assert averaged(300.0, None, 2.0) is None
    assert averaged(100.0, 200.0, POWER_OVER) == pytest.approx(163.2, abs=0.1)
