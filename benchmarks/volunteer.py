"""`python -m benchmarks.volunteer TICKET DIRECTORY MODEL [URL]`: a volunteer whose image cache holds one slice only.

A volunteer gets images ahead of its work, and while its engine starts it would get all of a small project: what it
costs to fetch them would not be measured. The model is read from where it lies; with a URL
the server there is asked instead. In all else it is `p2pcap join`.
"""

import sys
from pathlib import Path

from benchmarks.job import LOOPBACK
from p2pcap.cli.live import run_shown
from p2pcap.engine.base import EngineSettings
from p2pcap.node.options import EngineOptions, NodeOptions
from p2pcap.project.ticket import Ticket

IMAGE_CAP = 256 * 1024
"""Bytes; a slice of 64 drawn pictures has about 200,000."""


def main() -> None:
    """Run the volunteer until it is told to stop."""
    ticket, directory, model, *urls = sys.argv[1:]
    engine = EngineOptions(EngineSettings(endpoints=tuple(urls)), "openai" if urls else "vllm")
    options = NodeOptions(
        directory=Path(directory),
        role="volunteer",
        ticket=Ticket.parse(ticket),
        listen=(LOOPBACK,),
        model=Path(model),
        engine=engine,
        image_cap=IMAGE_CAP,
    )
    run_shown(options, "info")


if __name__ == "__main__":
    main()
