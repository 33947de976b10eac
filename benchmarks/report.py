"""What a benchmark says: one JSON line for each number, and a line for people about the machine it ran on.

A number means little on a machine that does other things as well, so every number stands beside a baseline measured in
the same run, and the machine's load is printed before and after.

Always holds: a line is one JSON object with exactly the keys of `Line`, in that order.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

DIGITS = 4
"""Significant digits; more would be noise."""


@dataclass(frozen=True)
class Line:
    """One number with what it is compared with. `goal` and `holds` are None where nothing is promised, and `value` and
    `holds` where this machine cannot measure it."""

    name: str
    value: float | None
    unit: str
    goal: float | None = None
    baseline: float | None = None
    holds: bool | None = None

    def json(self) -> str:
        """The line as printed by --json."""
        return json.dumps({key: _rounded(value) for key, value in asdict(self).items()})

    def text(self) -> str:
        """The line for people."""
        if self.value is None:
            return f"{self.name:<32}{'-':>10} not measured here"
        parts = [f"{self.name:<32}{_shown(self.value):>10} {self.unit}"]
        if self.baseline is not None:
            parts.append(f"baseline {_shown(self.baseline)}")
        if self.goal is not None:
            parts.append(f"goal {_shown(self.goal)}: {'holds' if self.holds else 'DOES NOT HOLD'}")
        return ", ".join(parts)


Lines = Iterator[Line]


def at_least(name: str, value: float, unit: str, goal: float, baseline: float | None = None) -> Line:
    """A line whose value should reach `goal`."""
    return Line(name, value, unit, goal, baseline, value >= goal)


def at_most(name: str, value: float, unit: str, goal: float, baseline: float | None = None) -> Line:
    """A line whose value should not exceed `goal`."""
    return Line(name, value, unit, goal, baseline, value <= goal)


def machine() -> str:
    """The machine and how busy it is: cores this process may use, load averages of 1, 5 and 15 minutes."""
    cores = len(os.sched_getaffinity(0))
    loads = " ".join(f"{load:.2f}" for load in os.getloadavg())
    return f"{time.strftime('%H:%M:%S')}  {_processor()}, {cores} cores, load {loads}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def _rounded(value: object) -> object:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _shown(value: float) -> str:
    return f"{value:.{DIGITS}g}" if abs(value) < 10**DIGITS else f"{value:.0f}"
