"""What the node's manners look at: the battery, the disk, the clock on the wall. Linux; elsewhere nothing is known.

Always holds: nothing of this raises; what cannot be read is None.
"""

import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import trio

from p2pcap.node.manners import Readings, Wishes, is_full, manners
from p2pcap.node.pausing import Pausing

SUPPLIES = Path("/sys/class/power_supply")
"""One folder a supply (Linux, Documentation/ABI/testing/sysfs-class-power)."""

LOOK_EVERY = 10.0
"""Seconds between two looks."""


def on_battery(supplies: Path = SUPPLIES) -> bool | None:
    """Whether this machine runs on its battery; None where it has none, or does not tell. A supply that is a mouse's or
    a headset's own (`scope` "Device") does not count."""
    try:
        folders = [folder for folder in sorted(supplies.iterdir()) if _word(folder, "scope") != "Device"]
    except OSError:
        return None
    lines = [folder for folder in folders if _word(folder, "type") in ("Mains", "USB", "UPS", "Wireless")]
    if any(_word(folder, "online") in ("1", "2") for folder in lines):
        return False
    batteries = [_word(folder, "status") for folder in folders if _word(folder, "type") == "Battery"]
    known = [status for status in batteries if status not in ("", "Unknown")]
    return "Discharging" in known if known else None


def _word(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(errors="replace").strip()
    except OSError:
        return ""


def free_bytes(place: Path) -> int | None:
    """Bytes free on the disk of `place`."""
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


async def keep_manners(
    pausing: Pausing, wishes: Wishes, place: Path, say: Callable[[str], None], clock: Callable[[], float] = time.time
) -> None:
    """Hold the node back, or let it go on, as its manners say; `place` is its folder. Until cancelled."""
    readings, told = Readings(), ""
    while True:
        battery, free = await trio.to_thread.run_sync(lambda: (on_battery(), free_bytes(place)))
        readings = Readings(battery, free, is_full(readings))
        hold = manners(datetime.fromtimestamp(clock()), readings, wishes)
        pausing.behave(hold)
        if (why := hold.why if hold else "") != told:
            say(f"pausing: {why}" if why else "going on")
            told = why
        await trio.sleep(LOOK_EVERY)
