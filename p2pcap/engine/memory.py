"""What an engine that lacks memory is started with instead, and what people are told of it.

How much memory a model needs beside its weights is known only to vLLM, and only once it has tried. A volunteer's
machine may also lose memory to other programs. Both are answered with smaller settings, which change no caption, one
step at a time; when there is no smaller one, one sentence says what is missing. Pure.
"""

import re
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from p2pcap.engine.base import EngineSettings

LEAST_TOKENS = 1_024
"""max_num_batched_tokens is not lowered further: an image alone may need as many."""

FIRST_TOKENS = 2_048
"""The first step below vLLM's own choice, which is 2,048 to 16,384 by device."""

LEAST_SHARE = 0.1
"""Of a GPU's memory; with less of it free, others use the GPU."""

MARGIN = 0.02
"""Share of a GPU's memory left to other programs' coming and going."""

Kind = Literal["host cache", "device share", "cache", "work"]
"""host cache: a CPU's memory is smaller than what keys and values are to get; device share: others use the GPU; cache:
one answer of full length finds no room for its keys and values; work: anything else that was to be allocated."""


@dataclass(frozen=True)
class Lack:
    """Memory that is missing. `needs`, `has` and `total` in GiB, 0 where not told; `cpu`: the model runs on one."""

    kind: Kind
    needs: float = 0.0
    has: float = 0.0
    total: float = 0.0
    cpu: bool = False


_NUMBER = r"([\d.]+)"
_SIZE = r"([\d.]+) ([KMG]iB|bytes)"
_TOLD: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("host cache", re.compile(rf"\({_NUMBER}/{_NUMBER} GiB\) on kv cache allocation is less than .*?\({_NUMBER}")),
    ("device share", re.compile(rf"\({_NUMBER}/{_NUMBER} GiB\) on startup is less than desired .*?, {_NUMBER} GiB")),
)
"""Of v1/worker/cpu_worker.py and v1/worker/utils.py in vLLM 0.32: has, total, needs."""

_CACHE = re.compile(rf"\({_NUMBER} GiB KV cache is needed, .*?memory \({_NUMBER} GiB")
_TORCH = re.compile(rf"Tried to allocate {_SIZE}(?:.*?total capacity of {_SIZE} of which {_SIZE} is free)?")
_WORDS = (
    "OutOfMemoryError",
    "CUDA out of memory",
    "HIP out of memory",
    "std::bad_alloc",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "Cannot allocate memory",
)
_GIB = {"GiB": 1.0, "MiB": 1 / 1024, "KiB": 1 / 1024**2, "bytes": 1 / 1024**3}
_CPU = "device_config=cpu"
"""In vLLM's account of its configuration."""


def lack(text: str) -> Lack | None:
    """What an engine's output says of memory that it lacks; None when it says nothing of that."""
    cpu = _CPU in text
    for kind, pattern in _TOLD:
        if found := pattern.search(text):
            has, total, needs = map(float, found.groups())
            return Lack(kind, needs, has, total, cpu)
    if found := _CACHE.search(text):
        return Lack("cache", float(found[1]), float(found[2]), cpu=cpu)
    if "No available memory for the cache blocks" in text:
        return Lack("cache", cpu=cpu)
    if any(word in text for word in _WORDS):
        return _allocation(text, cpu)
    return None


def _allocation(text: str, cpu: bool) -> Lack:
    """An allocation that failed while the model was loaded or at work."""
    found = _TORCH.search(text)
    if found is None:
        return Lack("work", cpu=cpu)
    needs, total, has = (_gib(found[place], found[place + 1]) for place in (1, 3, 5))
    return Lack("work", needs, has, total, cpu)


def _gib(number: str | None, unit: str | None) -> float:
    return float(number) * _GIB[unit] if number and unit else 0.0


def smaller(settings: EngineSettings, missing: Lack) -> EngineSettings | None:
    """The settings to try next; None when none would help."""
    match missing.kind:
        case "host cache":
            return _smaller_host_cache(settings, missing)
        case "device share":
            return _smaller_share(settings, missing)
        case "cache":  # of one answer: the number of answers at once makes no difference
            return None if missing.cpu else _fewer_tokens(settings)
        case "work" if settings.max_num_seqs > 1:
            return replace(settings, max_num_seqs=settings.max_num_seqs // 2)
    return _fewer_tokens(settings)


def _smaller_host_cache(settings: EngineSettings, missing: Lack) -> EngineSettings | None:
    """Half, or at once what there is room for beside the model's own work."""
    gib = min(int(settings.kv_cache_gib / 2), int(missing.has / 2))
    return replace(settings, kv_cache_gib=gib) if gib >= 1 else None


def _smaller_share(settings: EngineSettings, missing: Lack) -> EngineSettings | None:
    share = int((missing.has / missing.total - MARGIN) * 100) / 100 if missing.total else 0.0
    return replace(settings, gpu_memory=share) if LEAST_SHARE <= share < settings.gpu_memory else None


def _fewer_tokens(settings: EngineSettings) -> EngineSettings | None:
    """Fewer tokens in one step of the model, then no compiled graphs; both leave more for keys and values."""
    tokens = settings.max_num_batched_tokens
    if tokens == 0 or tokens > LEAST_TOKENS:
        return replace(settings, max_num_batched_tokens=max(LEAST_TOKENS, tokens // 2) if tokens else FIRST_TOKENS)
    return None if settings.eager else replace(settings, eager=True)


_NAMES = {
    "max_num_seqs": "{} answers at once",
    "max_num_batched_tokens": "{} tokens in a step",
    "gpu_memory": "{:.0%} of the GPU's memory",
    "kv_cache_gib": "{:g} GiB for keys and values",
    "eager": "no compiled graphs",
}


def notice(chosen: EngineSettings, used: EngineSettings) -> str:
    """One line for people: what is smaller than they chose; "" when nothing is."""
    names = [name for name in _NAMES if getattr(chosen, name) != getattr(used, name)]
    smaller_ones = ", ".join(_NAMES[name].format(getattr(used, name)) for name in names)
    return f"Memory was short, so the engine runs with {smaller_ones}." if names else ""


def too_little(missing: Lack) -> str:
    """What is missing, when no smaller settings help."""
    what = {
        "host cache": "Its memory for keys and values",
        "device share": "The engine's share of the GPU",
        "cache": "One answer of the task's full length",
        "work": "The model",
    }[missing.kind]
    amounts = f" needs {missing.needs:.1f} GiB of memory, and {missing.has:.1f} GiB are there"
    known = amounts if missing.needs else " needs more memory than is there"
    advice = "Give the engine more memory, or join a project with a smaller model."
    return f"{what}{known}. {advice}"
