"""`p2pcap log`: a node's log as short lines, from its file, whether the node runs or not.

Always holds: a line that is no JSON object is shown as it stands; of the file no more is in memory than the lines that
are shown and one line of `LONGEST` bytes.
"""

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Self

import click

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_node, node_option
from p2pcap.cli.output import encoded_json, result, say
from p2pcap.errors import ConfigError
from p2pcap.paths import NodePaths

LEVELS = ("debug", "info", "warning", "error", "critical")
LINES = 50
MOST_LINES = 1_000_000
LOOK_EVERY = 0.25
"""Seconds between two looks at a file that is followed."""

LONGEST = 1 << 20
"""Bytes of a line; what is longer is shown in pieces."""

WHEN, LEVEL, WHAT = "timestamp", "level", "event"
"""Fields that every line has; the others follow them as they are."""


@click.command(
    epilog="""\b
Examples:
  p2pcap log                         the last lines
  p2pcap log -f --level warning      what goes wrong, as it happens
  p2pcap log -n 1000 --json | jq 'select(.event == "ruling")'"""
)
@click.option("-f", "--follow", is_flag=True, help="Go on with each new line, also when the node starts anew.")
@click.option("-n", "--lines", default=LINES, show_default=True, type=click.IntRange(0, MOST_LINES), help="Last lines.")
@click.option("--level", default="debug", type=click.Choice(LEVELS[:4]), help="Only from this level on. [default: all]")
@forms("Each line as the JSON object that it is.", "Only what happened, without times and levels.")
@node_option
def log(follow: bool, lines: int, level: str, form: Form, node: str | None) -> None:
    """Show what a node has logged: time, level, what happened, and its fields."""
    paths = find_node(node).paths
    with Tail(paths.log) as tail:
        found = last_lines(paths, tail, lines, level)
        for data in found:
            _show(data, form)
        if lines and not found:
            say(_nothing(paths, level) + ("; waiting" if follow else ""))  # before waiting, which has no end
        for data in tail.lines() if follow else ():
            if counts(data, level):
                _show(data, form)


def _nothing(paths: NodePaths, level: str) -> str:
    """Why there is no line to show."""
    there = [file for file in (paths.log, paths.earlier_log) if file.exists()]
    if not there:
        return f"there is no {paths.log} yet"
    if any(file.stat().st_size for file in there) and level != LEVELS[0]:
        return f"nothing of level {level} or above is in {paths.log}"
    return f"nothing is logged in {paths.log} yet"


def _show(data: bytes, form: Form) -> None:
    entry = parsed(data)
    if form == "json":
        encoded_json(json.dumps(entry or {WHAT: _text(data)}, ensure_ascii=False).encode("utf-8", "backslashreplace"))
    elif entry is None:
        result(_text(data))
    else:
        result(event(entry) if form == "quiet" else short(entry))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def parsed(data: bytes) -> dict[str, Any] | None:
    """The line's fields; None for one that is no JSON object."""
    try:
        entry = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def counts(data: bytes, level: str) -> bool:
    """Whether a line is of `level` or above. One without a level is of every level."""
    entry = parsed(data)
    name = str(entry.get(LEVEL, "")).lower() if entry is not None else ""
    return name not in LEVELS or LEVELS.index(name) >= LEVELS.index(level)


def short(entry: dict[str, Any]) -> str:
    """A line for people: local time, level, what happened, and the fields as `name value`."""
    return f"{_when(str(entry.get(WHEN, ''))):<19}  {entry.get(LEVEL, '')!s:<8} {event(entry)}"


def event(entry: dict[str, Any]) -> str:
    """What happened, and the fields."""
    fields = ", ".join(f"{name} {value}" for name, value in entry.items() if name not in (WHEN, LEVEL, WHAT))
    return f"{entry.get(WHAT, '')}: {fields}" if fields else str(entry.get(WHAT, ""))


def _when(stamp: str) -> str:
    """A time in UTC as this machine's clock shows it."""
    try:
        return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return stamp


def last_lines(paths: NodePaths, tail: "Tail", count: int, level: str) -> list[bytes]:
    """The last `count` lines of `level` and above: of what the log held before, and of what `tail` has now. Raises
    ConfigError when the log cannot be read."""
    with Tail(paths.earlier_log) as earlier:
        lines = chain(earlier.there(), tail.there())
        return list(deque((data for data in lines if counts(data, level)), maxlen=count))


class Tail:
    """A log that is read from its beginning and then as it grows: through rotation, by whichever program, and while
    there is none. A context manager."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened before the first line is asked for."""
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def lines(self) -> Iterator[bytes]:
        """Every line, without end."""
        while True:
            yield from self.there()
            time.sleep(LOOK_EVERY)

    def there(self) -> Iterator[bytes]:
        """The lines that are there and were not given yet. Raises ConfigError."""
        while (file := self._file or self._opened()) is not None:
            replaced = self._is_replaced(file)  # asked before reading: what is written until then is still read
            yield from self._read(file)
            if not replaced:
                return
            if self._rest:
                yield self._rest
            file.close()
            self._file, self._rest = None, b""

    def _opened(self) -> BinaryIO | None:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"The log {self._path} cannot be read: {error.strerror}. Check its owner.") from error
        return self._file

    def _is_replaced(self, file: BinaryIO) -> bool:
        """Whether another file has its name now."""
        held = os.fstat(file.fileno())
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino)

    def _read(self, file: BinaryIO) -> Iterator[bytes]:
        if os.fstat(file.fileno()).st_size < file.tell():  # emptied in place
            file.seek(0)
            self._rest = b""
        while part := self._part(file):
            *whole, self._rest = (self._rest + part).split(b"\n")
            yield from whole
            if len(self._rest) > LONGEST:
                yield self._rest
                self._rest = b""

    def _part(self, file: BinaryIO) -> bytes:
        try:
            return file.read(LONGEST)
        except OSError as error:
            raise ConfigError(f"The log {self._path} cannot be read: {error.strerror}. Check its disk.") from error
