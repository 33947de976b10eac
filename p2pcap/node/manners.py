"""When a guest holds back: outside the hours it was given, on battery, when the disk gets full.

Pure: the time and what was read of the machine come from outside (p2pcap.node.machine reads it). Heat and power are the
engines' own business (p2pcap.engine.gpus.rests): what is too hot for a moment gives nothing back.

Always holds: what cannot be read holds nobody back.
"""

import re
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from p2pcap.errors import ConfigError
from p2pcap.node.hold import Hold

OnBattery = Literal["pause", "work"]

DAY = 24 * 60
LEAST_FREE, FREE_AGAIN = 512 * 1024**2, 768 * 1024**2
"""Bytes free on the node's disk below which it pauses, and from which on it works again: the database, which grows with
what others do, is to find room."""

_WINDOW = re.compile(r"(\d{1,2})(?::(\d{2}))?-(\d{1,2})(?::(\d{2}))?", re.ASCII)


class Window(msgspec.Struct, frozen=True):
    """Hours of a day in which the node works, in minutes since midnight, local time; over midnight where `end` is not
    after `start`."""

    start: int
    end: int

    def holds(self, minute: int) -> bool:
        """Whether that minute of the day lies in it."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return f"{_clock(self.start)}-{_clock(self.end)}"


class Wishes(msgspec.Struct, frozen=True):
    """What the user asks of the node: `hours` to work in (none: all), and what it does on battery."""

    hours: tuple[Window, ...] = ()
    on_battery: OnBattery = "pause"


class Readings(msgspec.Struct, frozen=True):
    """The machine at one moment: whether it runs on battery, and bytes free on the node's disk; None: nobody knows.
    `was_full`: at the last look the disk was what held the node back."""

    on_battery: bool | None = None
    free: int | None = None
    was_full: bool = False


def manners(now: datetime, readings: Readings, wishes: Wishes) -> Hold | None:
    """Why to hold back at the local time `now`, and until when; None: work."""
    if wishes.hours and not any(window.holds(now.hour * 60 + now.minute) for window in wishes.hours):
        begins = _next_start(now, wishes.hours)
        return Hold(f"it works {' and '.join(map(str, wishes.hours))} only (--hours)", begins.timestamp())
    if readings.on_battery and wishes.on_battery == "pause":
        return Hold("this machine runs on battery (--on-battery work goes on)")
    if is_full(readings):
        return Hold("the disk of its folder is nearly full: make room, or lower --image-cap and --store-cap")
    return None


def is_full(readings: Readings) -> bool:
    """Whether the disk holds the node back; one that was full has to have somewhat more room than it lacked."""
    least = FREE_AGAIN if readings.was_full else LEAST_FREE
    return readings.free is not None and readings.free < least


def _next_start(now: datetime, hours: tuple[Window, ...]) -> datetime:
    """When the next window begins. On a day on which the clock is set it is wrong by that, and worked out anew at each
    look."""
    minute = now.hour * 60 + now.minute
    wait = min((window.start - minute) % DAY or DAY for window in hours)
    return now.replace(second=0, microsecond=0) + timedelta(minutes=wait)


def parse_hours(text: str) -> tuple[Window, ...]:
    """The windows of "23-07" or "12:30-13:30,22-6". Raises ConfigError."""
    return tuple(_window(part.strip(), text) for part in text.split(","))


def _window(part: str, text: str) -> Window:
    match = _WINDOW.fullmatch(part)
    numbers = [int(group or 0) for group in match.groups()] if match else []
    if match and max(numbers[1], numbers[3]) < 60:
        start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
        if start < DAY and end <= DAY and start != end:
            return Window(start, end)
    raise ConfigError(f"--hours {text!r} names no hours of a day. Write for example 23-07, or 12:30-13:30,22-6")


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
