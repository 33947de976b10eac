"""The CPU time of the engines below this process, told apart by what it was spent on, and that of all other programs.

Linux only (/proc, see proc(5)): elsewhere nothing is known and all parts are 0.

Always holds: a process that ends while it is looked at counts as nothing, and raises nothing.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

Part = Literal["decoding", "front", "model"]
"""decoding: the image decoders; front: the engine's first process, whose Python prepares each image and takes each
answer; model: vLLM's other processes, which plan the steps and run the model (on a GPU: what drives it)."""

PARTS: tuple[Part, ...] = get_args(Part)

_DECODER, _FRONT = b"p2pcap.engine.decoder", b"p2pcap.engine.process"
_PARENT, _UTIME, _STIME = 1, 11, 12
"""Places in /proc/PID/stat after the name, which may hold blanks itself."""


def engine_cpu() -> dict[Part, float]:
    """CPU seconds so far, user and system, of the processes below this one that live now."""
    spent: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
    for pid, parent, seconds in _below(os.getpid()):
        spent[_part(pid, parent)] += seconds
    return spent


def other_cpu() -> float:
    """CPU seconds so far of all of this machine's processes but this one. 0 where the machine does not tell."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_bytes().split(b"\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return 0.0
    user, nice, system, _, _, interrupts, soft_interrupts, stolen = (*ticks, *[0] * 8)[:8]
    busy = user + nice + system + interrupts + soft_interrupts + stolen
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()


def _below(root: int) -> Iterator[tuple[int, int, float]]:
    """Id, parent and CPU seconds of each process below `root`."""
    stats = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None}
    known = {root}
    while found := [pid for pid, stat in stats.items() if pid not in known and int(stat[_PARENT]) in known]:
        known.update(found)
    ticks = os.sysconf("SC_CLK_TCK")
    for pid in known - {root}:
        yield pid, int(stats[pid][_PARENT]), (int(stats[pid][_UTIME]) + int(stats[pid][_STIME])) / ticks


def _pids() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _stat(pid: int) -> list[bytes] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None


def _part(pid: int, parent: int) -> Part:
    """vLLM's processes may be forks of the front, with its command line; only the front is this process's own child."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    if _DECODER in words:
        return "decoding"
    return "front" if _FRONT in words and parent == os.getpid() else "model"
