"""This machine's NVIDIA GPUs as the driver tells of them: memory, power, temperature, use.

NVML, the driver's library, is only asked: nothing is set, no process ended, and GPUs that are divided (MIG) are left as
they are. GPUs are numbered as `nvidia-smi` does, in the order of the bus, whatever CUDA_VISIBLE_DEVICES hides. A
driver that hangs would hang whoever asks it, so a thread of its own asks and is left behind.

Always holds: nothing of this raises, whatever the driver does; what it does not tell is None.
"""

import math
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

ANSWER_WITHIN = 20.0
"""Seconds for the driver to answer. The first to ask wakes the GPUs, which takes seconds where nothing keeps them
awake."""

COOL_BY = 5
"""Degrees below its limit to which a GPU that was too hot has to cool."""


POWER_OVER = 30.0
"""Seconds over which the power that a GPU draws is averaged."""

LESS_BY = 0.1
"""The share of its limit by which a GPU's average has to fall that drew too much."""


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU at one moment: memory in bytes, power in watts, temperatures in degrees Celsius, `busy` the share (0 to
    1) of the last moments in which it computed. `total` is 0 where GPU and CPU share one memory. `slowdown` is the
    temperature at which it throttles itself, `divided` whether it is split into MIG instances."""

    index: int
    uuid: str = ""
    name: str = ""
    total: int = 0
    free: int = 0
    power: float | None = None
    power_limit: float | None = None
    temperature: int | None = None
    slowdown: int | None = None
    busy: float | None = None
    divided: bool = False

    @property
    def named(self) -> str:
        """For people: "GPU 0 (NVIDIA H200)"."""
        return f"GPU {self.index} ({self.name})" if self.name else f"GPU {self.index}"


class Gpus(msgspec.Struct, frozen=True):
    """The GPUs of this machine, or in words why there are none to be seen."""

    gpus: tuple[Gpu, ...] = ()
    reason: str = ""
    hangs: bool = False
    """The driver did not answer at all; asking again would leave another thread behind."""
    driver: str = ""
    """The driver's version; empty: not told."""


def look(within: float = ANSWER_WITHIN) -> Gpus:
    """The GPUs as they are now. Blocks for `within` seconds at most."""
    return bounded(_look, within)


def bounded(ask: Callable[[], Gpus], within: float) -> Gpus:
    """The answer of `ask`, or that there was none within so many seconds."""
    answers: list[Gpus] = []
    asking = threading.Thread(target=lambda: answers.append(ask()), daemon=True, name="nvml")
    asking.start()
    asking.join(within)
    if not answers:
        return Gpus(reason=f"NVIDIA's driver gave no answer in {within:.0f} s; nvidia-smi may say why", hangs=True)
    return answers[0]


def visible(gpus: Sequence[Gpu], named: str | None) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES, whose value `named` is (None: not set), leaves to this process.

    It lists numbers, or UUIDs or the beginnings of such, and ends at the first that is not there (CUDA C++ programming
    guide, environment variables). A MIG instance is no whole GPU and is not among them. CUDA itself counts the fastest
    first unless CUDA_DEVICE_ORDER=PCI_BUS_ID; here numbers are in the order of the bus, in which engines get them too.
    """
    if named is None:
        return tuple(gpus)
    found: list[Gpu] = []
    for word in (part.strip() for part in named.split(",")):
        matches = [gpu for gpu in gpus if _counts(gpu.index, word) or _begins(gpu.uuid, word)]
        if len(matches) != 1 or matches[0] in found:
            break
        found.append(matches[0])
    return tuple(found)


def _counts(index: int, word: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", word) is not None and int(word) == index


def _begins(uuid: str, word: str) -> bool:
    return word.startswith("GPU-") and uuid.startswith(word)


def rests(resting: bool, temperature: float | None, limit: int | None) -> bool:
    """Whether a GPU of that temperature rests: it begins to at `limit` and ends COOL_BY degrees below. An unknown
    temperature changes nothing; without a limit none rests."""
    if limit is None:
        return False
    if temperature is None:
        return resting
    return temperature >= limit or (resting and temperature > limit - COOL_BY)


def draws_too_much(resting: bool, average: float | None, limit: float | None) -> bool:
    """Whether GPUs that drew `average` watts lately rest, so that they draw `limit` at most in the long run: they begin
    to above it and end when they are LESS_BY below. What is not told changes nothing; without a limit none rests."""
    if limit is None:
        return False
    if average is None:
        return resting
    return average > limit or (resting and average > (1 - LESS_BY) * limit)


def averaged(average: float | None, watts: float | None, seconds: float) -> float | None:
    """The running average of what GPUs draw, over POWER_OVER seconds or so: `seconds` after the last it is `watts`."""
    if average is None or watts is None:
        return watts
    return watts + (average - watts) * math.exp(-seconds / POWER_OVER)


def _look() -> Gpus:
    """Asks NVML; whatever goes wrong becomes a reason."""
    try:
        import pynvml
    except ImportError:
        return Gpus(reason="nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError, OSError) as error:
        return Gpus(reason=f"NVIDIA's driver is not there ({error})")
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        driver = str(_asked(pynvml, pynvml.nvmlSystemGetDriverVersion) or "")
        gpus = tuple(_gpu(pynvml, index, handle) for index, handle in enumerate(handles))
    except (pynvml.NVMLError, OSError, ValueError) as error:
        return Gpus(reason=f"NVIDIA's driver does not tell of its GPUs ({error})")
    finally:
        _asked(pynvml, pynvml.nvmlShutdown)
    return Gpus(gpus, "" if gpus else "NVIDIA's driver has no GPU", driver=driver)


def _gpu(nvml: Any, index: int, handle: Any) -> Gpu:
    memory = _asked(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = _asked(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    mode = _asked(nvml, nvml.nvmlDeviceGetMigMode, handle)
    return Gpu(
        index=index,
        uuid=str(_asked(nvml, nvml.nvmlDeviceGetUUID, handle) or ""),
        name=str(_asked(nvml, nvml.nvmlDeviceGetName, handle) or ""),
        total=memory.total if memory else 0,
        free=memory.free if memory else 0,
        power=_watts(_asked(nvml, nvml.nvmlDeviceGetPowerUsage, handle)),
        power_limit=_watts(_asked(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
        temperature=_asked(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        slowdown=_asked(nvml, nvml.nvmlDeviceGetTemperatureThreshold, handle, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
        busy=None if rates is None else rates.gpu / 100,
        divided=mode is not None and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE,
    )


def _asked(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
    """An answer of NVML's, or None: not every GPU tells everything."""
    try:
        return ask(*arguments)
    except (nvml.NVMLError, OSError, UnicodeDecodeError):
        return None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None or not math.isfinite(milliwatts) else milliwatts / 1000
