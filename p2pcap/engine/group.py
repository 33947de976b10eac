"""The engine's processes as one group, so that they are gone together.

vLLM starts processes of its own, which are not to outlive the one that was started here, however that one ends. All are
in one session, out of reach of the terminal's Ctrl+C, and the group's id is the first process's. They are killed, not
asked: vLLM's own way of ending takes six seconds and then kills as well. One is spared: Python's resource tracker,
which ends by itself after the others and gives back the shared memory that they left.
"""

import ctypes
import os
import signal
import threading
from pathlib import Path

TRACKER_SECONDS = 5.0
"""How long the resource tracker may take; it needs milliseconds."""

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_TRACKER = b"multiprocessing.resource_tracker"


def adopt_orphans() -> None:
    """Makes this process the parent of any descendant whose own parent ends (prctl(2), PR_SET_CHILD_SUBREAPER).

    It can then wait for all of the engine's processes, and no zombie is left where process 1 collects none.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def kill(group: int) -> None:
    """Kills the group's processes but for the resource tracker, the calling process last if it is one of them."""
    kill_others(group)
    if os.getpgid(0) == group:
        os.kill(os.getpid(), signal.SIGKILL)


def kill_others(group: int) -> None:
    """Kills the group's processes but for the resource tracker and the calling process."""
    for pid in _members(group):
        if pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it was faster


def collect(group: int) -> None:
    """Waits until the group is empty; kills the resource tracker too if it takes TRACKER_SECONDS. Blocks."""
    patience = threading.Timer(TRACKER_SECONDS, os.killpg, (group, signal.SIGKILL))
    patience.start()
    try:
        while True:
            kill(group)  # again after each end: a process may have started another just before it died
            os.waitpid(-group, 0)
    except ChildProcessError:
        return
    finally:
        patience.cancel()


def _members(group: int) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _group(pid) == group and _TRACKER not in _command(pid)]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
