"""Whether the kernel killed a process for lack of memory.

A process killed that way leaves no message of its own: it is gone with SIGKILL, as after anybody's `kill -9`. What
tells the two apart is the kernel's count of such kills, before and after.
"""

from pathlib import Path

VMSTAT = Path("/proc/vmstat")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def count(vmstat: Path = VMSTAT, own_groups: Path = OWN_GROUPS, groups: Path = GROUPS) -> int:
    """Processes killed so far: of this process's control group where that tells, otherwise of the machine (proc(5));
    0 where neither does."""
    for file in (*_events(own_groups, groups), vmstat):
        killed = _row(file, "oom_kill")
        if killed is not None:
            return killed
    return 0


def _events(own_groups: Path, groups: Path) -> list[Path]:
    """Where the group's kills are counted (cgroups(7)): version 2, then version 1."""
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return []
    files: list[Path] = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if not controllers:
            files.insert(0, groups / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(groups / "memory" / path.lstrip("/") / "memory.oom_control")
    return files


def _row(file: Path, name: str) -> int | None:
    """The number after `name` in a file of such rows, or None when it has none."""
    try:
        rows = [line.split() for line in file.read_text().splitlines()]
        return next((int(row[1]) for row in rows if len(row) == 2 and row[0] == name), None)
    except (OSError, ValueError):
        return None
