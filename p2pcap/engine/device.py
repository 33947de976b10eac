"""Which device vLLM runs on here, and everything that is set differently because of it.

A caption may differ in its last digit of probability between kinds of device, number formats and versions of vLLM.
What can change it is summed up in the engine class, so that others know which answers they may compare with their own.
"""

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pcap.engine.base import EngineSettings
from p2pcap.project.task import Task

CACHE_GIB = 1.0
"""Preprocessed images kept for an image's other prompts: at least one of the largest must fit, which some processors
make 0.3 GB of. No image comes twice, so vLLM's own 4 GiB would be waste."""

SCRATCH = "p2pcap-engine-"
"""How the folders for temporary files are named."""

GIB = 1024**3

MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path on Linux, the final NUL not counted (unix(7))."""


def engine_args(device: str, model_dir: str, task: Task, settings: EngineSettings) -> dict[str, Any]:
    """The arguments of vLLM's engine on a device of that kind ("cpu", "cuda", "rocm", ...)."""
    common: dict[str, Any] = {
        "model": model_dir,
        "dtype": task.dtype,
        "quantization": task.quantization or None,
        "max_model_len": task.max_model_len or None,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens or None,
        "limit_mm_per_prompt": {"image": 1},
        "mm_processor_cache_gb": CACHE_GIB,
        "scheduling_policy": "priority",  # scores go behind captions
        "seed": 0,
        "trust_remote_code": task.remote_code is True and settings.trust_remote_code,
        "disable_log_stats": True,
    }
    if device == "cpu":
        # Compiling would need a C++ compiler and minutes; blocks of 32 are the smallest the CPU kernels take, and only
        # whole blocks are shared between an image's prompts. In a process of its own the model would be waited for by
        # turning in circles, on a core that it needs; vLLM starts one only to bind threads, which is not done here.
        one_process = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
        return common | {
            "enforce_eager": True,
            "block_size": 32,
            "distributed_executor_backend": one_process,
            "kv_cache_memory_bytes": int(settings.kv_cache_gib * GIB),
        }
    return common | {
        "gpu_memory_utilization": settings.gpu_memory,
        "enforce_eager": settings.eager,
        "tensor_parallel_size": max(1, len(settings.gpus)),
    }


def takes_seeds(device: str) -> bool:
    """Whether a request may carry its own seed there.

    On a CPU vLLM dies of a seeded request whose prompt it reads in more than one step, which any full batch may bring
    about: it winds the generator back, and torch's generator for CPUs cannot be (_bookkeeping_sync in vLLM 0.32).
    """
    return device != "cpu"


def environment(settings: EngineSettings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the engine's processes; vLLM reads some of its settings only from there."""
    ours = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # vLLM would pin its threads to the same cores in each engine of this machine; the kernel places them better.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads(settings)),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONSAFEPATH": "1",  # vLLM starts some of its processes with -m, which would import from the current folder
    }
    # Three processes import 20,000 modules each: without their bytecode a start takes a minute longer.
    # vLLM's own word for the memory of keys and values would win over the one that is given here.
    unwanted = {
        "PYTHONDONTWRITEBYTECODE",
        "VLLM_CPU_KVCACHE_SPACE",
        *(() if settings.endpoints else filter(_is_key, inherited)),
    }
    kept = {name: value for name, value in inherited.items() if name not in unwanted}
    return kept | ours | _visible(settings)


def _is_key(name: str) -> bool:
    """Whether an environment variable holds a key for servers, which a model of one's own is not to see."""
    return name == "OPENAI_API_KEY" or name.startswith("P2PCAP_OPENAI_KEY")


def _visible(settings: EngineSettings) -> dict[str, str]:
    """What shows an engine its GPUs only, numbered as NVML does (CUDA numbers them by speed unless told)."""
    if not settings.gpus:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, settings.gpus))}


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for the temporary files of one engine process, which is killed and so leaves them. Raises OSError.

    It lies in /tmp where the usual place has too long a name for vLLM's sockets, which are named by a UUID.
    """
    room = MAX_SOCKET_PATH - len(f"/{SCRATCH}12345678/") - 36
    usual = tempfile.gettempdir()
    place = usual if len(os.fsencode(usual)) <= room else "/tmp"
    return tempfile.TemporaryDirectory(prefix=SCRATCH, dir=place, ignore_cleanup_errors=True)


def scratch_environment(folder: str) -> dict[str, str]:
    """What makes an engine keep its temporary files and sockets in `folder`."""
    return {"TMPDIR": folder, "VLLM_RPC_BASE_PATH": folder}


def remove_scratch() -> None:
    """Removes this process's own folder for temporary files when nobody else will; any other folder is left alone."""
    folder = Path(tempfile.gettempdir())
    if folder.name.startswith(SCRATCH):
        shutil.rmtree(folder, ignore_errors=True)


def threads(settings: EngineSettings) -> int:
    """CPU threads for the model: as chosen, or all cores this process may use but one."""
    return settings.threads or max(1, len(os.sched_getaffinity(0)) - 1)


def machine_memory() -> float:
    """Bytes of memory that this machine, or the container that the node runs in, has at most; infinite where it is not
    told."""
    limits = [float("inf")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text()
        except OSError:
            continue
        limits += [float(text)] if text.strip().isdecimal() else []
    return min(*limits, float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))


def device_name(kind: str, gpus: int = 1) -> str:
    """The device for people and for the engine class: "cpu AMD EPYC", "cuda NVIDIA H200", "cuda NVIDIA H200 x2" where
    that many share a model: they add numbers in another order than one does."""
    if kind == "cpu":
        return f"cpu {_cpu_model()}"
    from vllm.platforms import current_platform

    shared = f" x{gpus}" if gpus > 1 else ""
    return f"{kind} {current_platform.get_device_name()}{shared}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def engine_class(version: str, device: str, task: Task) -> bytes:
    """8 bytes that are equal where captions are expected to be: SHA-256 over vLLM's version, device, number format."""
    facts = "\n".join(("p2pcap engine class 1", version, device, task.dtype, task.quantization))
    return hashlib.sha256(facts.encode()).digest()[:8]
