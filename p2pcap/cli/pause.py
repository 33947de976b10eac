"""`p2pcap pause`, `p2pcap finish`, `p2pcap resume`: hold a running node back, and let it go on."""

import re
import time
from typing import Any

import click

from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import say
from p2pcap.node.client import LONGEST_PAUSE, Client

UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)


class Duration(click.ParamType[float]):
    """A length of time such as 2h, 30m or 1h30m, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds; a usage error for what is no such length."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value).strip().lower())
        counts = [int(count or 0) for count in match.groups()] if match else []
        seconds = sum(count * unit for count, unit in zip(counts, UNITS.values(), strict=False))
        if not 0 < seconds <= LONGEST_PAUSE:
            self.fail(
                f"{value!r} is no length of time up to 366 days. Write it such as 30m, 2h, 1h30m or 1d.", param, ctx
            )
        return seconds


@click.command(
    epilog="""\b
Examples:
  p2pcap pause          until p2pcap resume
  p2pcap pause 2h       for two hours
  p2pcap pause 1h30m"""
)
@click.argument("duration", required=False, type=Duration())
@node_option
def pause(duration: float | None, node: str | None) -> None:
    """Have a running node caption nothing for DURATION, or until `p2pcap resume`.

    It stops at once: captions that are made are published, images that are with the engine are given back. It goes on
    serving others. After a minute the engine ends and gives its memory back. A pause outlives the node.
    """
    with Client(find_running(node).socket) as client:
        until = client.pause(duration)
    say("paused; p2pcap resume goes on" if until is None else f"paused until {clock_time(until, time.time())}")


@click.command(
    epilog="""\b
Example:
  p2pcap finish"""
)
@node_option
def finish(node: str | None) -> None:
    """Have a running node finish what it has in hand, give the rest back, and stay paused until `p2pcap resume`."""
    with Client(find_running(node).socket) as client:
        client.finish()
    say("finishing what is in hand, then paused; p2pcap status shows how far it is, p2pcap resume goes on")


@click.command(
    epilog="""\b
Example:
  p2pcap resume"""
)
@node_option
def resume(node: str | None) -> None:
    """End the pause of a running node."""
    with Client(find_running(node).socket) as client:
        why = client.resume()
    say(f"your pause is over, but it still waits: {why}" if why else "going on")


def clock_time(moment: float, now: float) -> str:
    """Local time of day, with the date where that is not today's: "17:30", "2026-11-24 07:00"."""
    there, today = time.localtime(moment), time.localtime(now)
    return time.strftime("%H:%M" if there[:3] == today[:3] else "%Y-%m-%d %H:%M", there)
