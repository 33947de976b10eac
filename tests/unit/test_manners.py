"""When a guest holds back: hours, battery, disk."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio

from p2pcap.errors import ConfigError
from p2pcap.node import machine
from p2pcap.node.hold import MANNERLY
from p2pcap.node.machine import free_bytes, keep_manners, on_battery
from p2pcap.node.manners import FREE_AGAIN, LEAST_FREE, Readings, Window, Wishes, is_full, manners, parse_hours
from p2pcap.node.pausing import Pausing

DAY = datetime(2026, 11, 23)
NIGHT = Wishes(parse_hours("23-07"))


def at(clock: str) -> datetime:
    hour, minute = clock.split(":")
    return DAY.replace(hour=int(hour), minute=int(minute), second=12)


@pytest.mark.parametrize(
    ("hours", "clock", "until"),
    [
        ("23-07", "23:00", None),
        ("23-07", "06:59", None),
        ("23-07", "00:00", None),
        ("23-07", "07:00", "23:00"),
        ("23-07", "22:59", "23:00"),
        ("9-17", "09:00", None),
        ("9-17", "16:59", None),
        ("9-17", "17:00", "33:00"),
        ("9-17", "08:59", "09:00"),
        ("0-24", "23:59", None),
        ("22-0", "23:59", None),
        ("22-0", "00:00", "22:00"),
        ("12:30-13:30,22-6", "12:29", "12:30"),
        ("12:30-13:30,22-6", "13:29", None),
        ("12:30-13:30, 22-6", "13:30", "22:00"),
    ],
)
def test_hours_of_the_day(hours: str, clock: str, until: str | None) -> None:
    hold = manners(at(clock), Readings(), Wishes(parse_hours(hours)))
    if until is None:
        assert hold is None
        return
    hour, minute = map(int, until.split(":"))
    assert hold is not None
    assert hold.until == (DAY + timedelta(hours=hour, minutes=minute)).timestamp()
    assert hold.within == MANNERLY
    assert "--hours" in hold.why


@pytest.mark.parametrize("minute", range(0, 24 * 60, 7))
@pytest.mark.parametrize("window", [Window(0, 1), Window(600, 599), Window(1_439, 0), Window(300, 900)])
def test_a_pause_ends_when_the_next_window_begins(minute: int, window: Window) -> None:
    now = DAY + timedelta(minutes=minute, seconds=59)
    hold = manners(now, Readings(), Wishes((window,)))
    assert (hold is None) == window.holds(minute)
    if hold is not None and hold.until is not None:
        begins = datetime.fromtimestamp(hold.until)
        assert window.holds(begins.hour * 60 + begins.minute)
        assert timedelta(0) < begins - now <= timedelta(days=1)
        assert manners(begins, Readings(), Wishes((window,))) is None


@pytest.mark.parametrize(
    "text", ["", "23", "23-", "24-7", "7-25", "7-7", "0-24:01", "23-07-09", "7:60-8", "x-y", "7-8;", "٢-٣"]
)
def test_what_names_no_hours(text: str) -> None:
    with pytest.raises(ConfigError, match="names no hours"):
        parse_hours(text)


@pytest.mark.parametrize(
    ("readings", "wishes", "why"),
    [
        (Readings(), Wishes(), None),
        (Readings(on_battery=False, free=10**12), Wishes(), None),
        (Readings(on_battery=True), Wishes(), "battery"),
        (Readings(on_battery=True), Wishes(on_battery="work"), None),
        (Readings(free=LEAST_FREE - 1), Wishes(), "disk"),
        (Readings(free=LEAST_FREE), Wishes(), None),
        (Readings(free=LEAST_FREE, was_full=True), Wishes(), "disk"),
        (Readings(free=FREE_AGAIN, was_full=True), Wishes(), None),
        (Readings(on_battery=True, free=0), NIGHT, "--hours"),
    ],
)
def test_battery_and_disk(readings: Readings, wishes: Wishes, why: str | None) -> None:
    hold = manners(at("12:00"), readings, wishes)
    assert (hold is None) == (why is None)
    assert hold is None or (why is not None and why in hold.why)


MAINS = {"type": "Mains", "online": "1"}
BATTERY = {"type": "Battery", "status": "Discharging"}


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, None),
        ({"BAT0": BATTERY}, True),
        ({"BAT0": {"type": "Battery", "status": "Charging"}}, False),
        ({"BAT0": {"type": "Battery", "status": "Full"}}, False),
        ({"BAT0": {"type": "Battery", "status": "Unknown"}}, None),
        ({"BAT0": {"type": "Battery"}}, None),
        ({"AC": MAINS, "BAT0": BATTERY}, False),
        ({"AC": {"type": "Mains", "online": "0"}, "BAT0": BATTERY}, True),
        ({"AC": MAINS}, False),
        ({"mouse": {**BATTERY, "scope": "Device"}}, None),
        ({"mouse": {**BATTERY, "scope": "Device"}, "BAT0": {"type": "Battery", "status": "Charging"}}, False),
        ({"BAT0": {"type": "Battery", "status": "Not charging"}, "BAT1": BATTERY}, True),
    ],
)
def test_what_the_kernel_tells_of_the_battery(
    tmp_path: Path, supplies: Mapping[str, Mapping[str, str]], expected: bool | None
) -> None:
    for name, words in supplies.items():
        (tmp_path / name).mkdir()
        for word, value in words.items():
            (tmp_path / name / word).write_text(f"{value}\n")
    assert on_battery(tmp_path) is expected


def test_a_machine_that_tells_nothing_holds_nobody_back(tmp_path: Path) -> None:
    assert on_battery(tmp_path / "none") is None
    assert free_bytes(tmp_path / "none") is None
    assert (free_bytes(tmp_path) or 0) > 0
    assert not is_full(Readings())


def test_manners_are_kept_while_the_node_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real clock and disk, and a battery that is read from a folder."""
    battery, lines = [True, True], list[str]()
    monkeypatch.setattr(machine, "on_battery", lambda: battery.pop() if battery else False)
    monkeypatch.setattr(machine, "LOOK_EVERY", 0.0)

    async def main() -> None:
        pausing = Pausing(tmp_path / "pause", lambda: 0.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_manners, pausing, Wishes(), tmp_path, lines.append)
            with trio.fail_after(30):
                await pausing.changed.wait()
                assert pausing.hold is not None
                assert "battery" in pausing.hold.why
                await pausing.changed.wait()
                assert not pausing.mannerly
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert lines[:1] == ["pausing: this machine runs on battery (--on-battery work goes on)"]
    assert lines[1:] in ([], ["going on"]), "a change is said once"
