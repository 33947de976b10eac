"""`p2pcap stop`: end a running node politely."""

import os
import select

import click

from p2pcap.cli.finite import FiniteRange
from p2pcap.cli.nodes import find_running, node_option
from p2pcap.cli.output import say
from p2pcap.errors import NotRunningError
from p2pcap.node.client import Client


@click.command(
    epilog="""\b
Examples:
  p2pcap stop                   stop the only running node
  p2pcap stop --node ~/cats     stop the one in that folder"""
)
@node_option
@click.option(
    "--seconds", default=120.0, show_default=True, type=FiniteRange(0, 86_400), help="How long to wait for it."
)
def stop(node: str | None, seconds: float) -> None:
    """End a running node: it finishes what it has in hand, gives the rest back, and leaves."""
    running = find_running(node)
    with Client(running.socket) as client:
        pid = client.stop()
    say(f"stopping the node in {running.directory} …")
    if not _ended(pid, seconds):
        raise NotRunningError(
            f"The node, process {pid}, has not ended after {seconds:g} s. Wait, or end it at once: kill -9 {pid}"
        )
    say("stopped")


def _ended(pid: int, seconds: float) -> bool:
    """Whether the process ended within `seconds`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        readable, _, _ = select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
    return bool(readable)
