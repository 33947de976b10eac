"""What `p2pcap doctor` can see on this machine alone: programs, folders, keys, disk, memory, clock.

Each check looks at one thing as it really is and says it in one line, with what to do where it is not well. Always
holds: nothing is changed, but for the folder for sockets, which is made, and a file that is written and removed; no
check raises for what it finds.
"""

import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from p2pcap.errors import P2pcapError
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.paths import NodePaths, own_runtime_directory

Verdict = Literal["ok", "warning", "problem"]

GB = 10**9
LITTLE_DISK, NO_DISK = 10 * GB, 1 * GB
"""Images, captions and a model have to fit; below the second not even the database can grow."""
SLOW_CLOCK, WRONG_CLOCK = 10.0, 60.0
"""Seconds behind others: claims may be off by a minute (`p2pcap.ledger.validate.CLAIM_WINDOW`)."""
SET_IT = "Set it, best with NTP (timedatectl set-ntp true)."
BEFORE_P2PCAP = 1_760_000_000
"""A clock that shows less was never set."""
HUB_CLOCK = 5.0
"""Seconds by which a clock may be off a web server's, which tells whole seconds and takes some to answer."""
TRIED = 16 * 1024 * 1024
"""Bytes that are written to see how fast the disk is."""
SLOW_DISK = 10 * 1_000_000
"""Bytes a second. A commit of captions then takes so long that others wait for it."""
LITTLE_MEMORY, NO_MEMORY = 4 * GB, 1 * GB
"""Bytes that are free: with less than the first no model runs on the CPU, with less than the second not even a node."""

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


def disk_speed(directory: Path) -> Finding:
    """How fast the disk takes what a node commits, by writing a file and waiting until it is there."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    data = os.urandom(1024 * 1024)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".p2pcap-doctor-") as file:
            begun = time.perf_counter()
            for _ in range(TRIED // len(data)):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
            return speed(TRIED, time.perf_counter() - begun, there)
    except OSError as error:
        return Finding("disk speed", "problem", f"{there} cannot be written: {error.strerror}. Make room, or check it.")


def speed(count: int, seconds: float, where: Path) -> Finding:
    """What it means that so many bytes took so long. Pure."""
    rate = count / max(seconds, 1e-6)
    said = f"{rate / 1_000_000:.0f} MB/s at {where}"
    if rate < SLOW_DISK:
        return Finding(
            "disk speed", "warning", f"{said}. Choose a faster disk with --node; a network disk is too slow."
        )
    return Finding("disk speed", "ok", said)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Memory that is free here (proc(5))."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError):
        return Finding("memory", "ok", "this system does not tell how much is free")
    said = f"{free / GB:.1f} of {total / GB:.1f} GB free"
    if free < NO_MEMORY:
        return Finding("memory", "problem", f"{said}. End other programs.")
    if free < LITTLE_MEMORY:
        return Finding("memory", "warning", f"{said}: little for a model on the CPU. End other programs.")
    return Finding("memory", "ok", said)


def clock(snapshot: NodeSnapshot | None) -> Finding:
    """This machine's clock, against what others sign; a running node knows the newest of it."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < BEFORE_P2PCAP:
        return Finding("clock", "problem", f"it shows {now}, which is long ago. {SET_IT}")
    if snapshot is None or snapshot.store.newest is None:
        return Finding("clock", "ok", f"{now}; no peer's statement here to compare it with")
    behind = snapshot.store.newest - snapshot.published
    if behind > SLOW_CLOCK:
        verdict: Verdict = "problem" if behind > WRONG_CLOCK else "warning"
        return Finding("clock", verdict, f"{now} is {behind:.0f} s behind what others sign. {SET_IT}")
    return Finding("clock", "ok", f"{now}; nothing that others signed is ahead of it")


def clock_against(told: float, asked: float, answered: float, whose: str) -> Finding:
    """This machine's clock against the time that somebody told between `asked` and `answered` (all unix seconds).
    Pure."""
    ahead = asked - (told + 1) if asked > told + 1 else min(answered - told, 0.0)
    if abs(ahead) > HUB_CLOCK:
        way = "ahead of" if ahead > 0 else "behind"
        verdict: Verdict = "problem" if abs(ahead) > WRONG_CLOCK else "warning"
        return Finding("clock", verdict, f"it is {abs(ahead):.0f} s {way} that of {whose}. {SET_IT}")
    return Finding("clock", "ok", f"as that of {whose}, which tells whole seconds")
