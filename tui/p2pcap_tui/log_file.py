"""The node's log, read as it grows: one JSON object a line (p2pcap.node.logs).

Always holds: no more than READ bytes are read at a time, and a line that is no record is shown as it stands.
"""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

READ = 512 * 1024
"""Bytes read at a time; of a longer log the end."""

MAX_TEXT = 4_096
"""Characters of an event, or of the fields beside it, that are kept."""

LEVELS = ("debug", "info", "warning", "error")


class Record(NamedTuple):
    """A record: when by this machine's clock, how serious, what happened, and the fields beside it."""

    number: int
    time: str
    level: str
    event: str
    fields: str

    @property
    def clock(self) -> str:
        """The time of day."""
        return self.time[11:19]

    def contains(self, sought: str) -> bool:
        """Whether the text is in it, whatever the case of letters."""
        wanted = sought.casefold()
        return wanted in self.event.casefold() or wanted in self.fields.casefold()


def parsed(number: int, line: str) -> Record:
    """The record in a line of the log."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return Record(number, "", "info", line[:MAX_TEXT], "")
    time, level, event = (str(record.pop(name, "")) for name in ("timestamp", "level", "event"))
    level = {"critical": "error", "warn": "warning"}.get(level.lower(), level.lower())
    fields = "  ".join(f"{name}={value}" for name, value in record.items())
    level = level if level in LEVELS else "info"
    return Record(number, local(time), level, event[:MAX_TEXT], fields[:MAX_TEXT])


def local(stamp: str) -> str:
    """A time in UTC as this machine's clock shows it, as `p2pcap log` does; what is no time as it stands."""
    try:
        return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return stamp[:MAX_TEXT]


class LogFile:
    """A log that is read again and again. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = 0
        self._place = 0
        self._rest = b""
        self._number = 0

    def read(self) -> list[Record]:
        """What came since the last time, at first the end of the log. Raises OSError when it cannot be read."""
        with self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._place:
                self._inode, self._place, self._rest = found.st_ino, 0, b""
            if found.st_size - self._place > READ:
                self._place, self._rest = found.st_size - READ, b""
                file.seek(self._place)
                self._place += len(file.readline(READ))  # a line that has begun before says nothing
            file.seek(self._place)
            data = file.read(READ)
        self._place += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-READ:]
        return [self._record(line) for line in lines if line.strip()]

    def _record(self, line: bytes) -> Record:
        self._number += 1
        return parsed(self._number, line.decode("utf-8", "replace"))
