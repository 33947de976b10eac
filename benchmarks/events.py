"""What a node wrote into its log, and when: moments that a look from outside would miss."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import Started
from p2pcap.paths import NodePaths

READY_WITHIN = 300.0
"""Seconds an engine gets to start."""

LOOK_EVERY = 0.05


def event_times(directory: Path, event: str, **fields: Any) -> list[float]:
    """The unix times at which the node in `directory` logged `event` with these fields."""
    log = NodePaths(directory).log
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    wanted = {"event": event, **fields}
    found = [record for record in records if all(record.get(name) == value for name, value in wanted.items())]
    return [datetime.fromisoformat(record["timestamp"]).timestamp() for record in found]


def wait_for_event(volunteer: Started, directory: Path, event: str, **fields: Any) -> float:
    """The unix time of the first such event, once it has come. Raises P2pcapError when the node ends before."""

    def seen() -> list[float]:
        return event_times(directory, event, **fields)

    volunteer.wait_for(lambda: bool(seen()), f"{event} {fields or ''}", READY_WITHIN, LOOK_EVERY)
    return seen()[0]


def engine_ready(volunteer: Started, directory: Path) -> float:
    """The unix time at which the volunteer's engine was ready."""
    return wait_for_event(volunteer, directory, "engine", phase="ready")
