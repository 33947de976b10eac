"""`python -m benchmarks.volunteer TICKET DIRECTORY`: a volunteer whose image cache holds one slice and no more.

A volunteer gets images ahead of its work, and while its engine starts it would get all of a small project: what it
costs to fetch them would not be measured. In all else it is `p2pcap join`.
"""

import sys
from pathlib import Path

from benchmarks.job import LOOPBACK
from p2pcap.cli.live import run_shown
from p2pcap.node.options import NodeOptions
from p2pcap.project.ticket import Ticket

IMAGE_CAP = 256 * 1024
"""Bytes; a slice of 64 drawn pictures has about 200,000."""


def main() -> None:
    """Run the volunteer until it is told to stop."""
    ticket, directory = sys.argv[1:]
    options = NodeOptions(Path(directory), "volunteer", Ticket.parse(ticket), (LOOPBACK,), image_cap=IMAGE_CAP)
    run_shown(options, "info")


if __name__ == "__main__":
    main()
