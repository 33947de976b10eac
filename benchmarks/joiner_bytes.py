"""Bytes that a volunteer receives before its first claim in a project of 10 million images.

Two whole nodes on loopback: a coordinator that has the project, and a joiner whose engine is a server that is there
already (benchmarks.paced_server). Counted is all that comes in on the joiner's connections until its first claim is
out: handshakes, root, manifest, plan, what peers tell of themselves, and what it gets ahead of its work. There are no
item lists, so it gets none. The baseline is the same with a project of one chunk.
"""

import sys
from pathlib import Path

import trio

from benchmarks.job import LOOPBACK, START_WITHIN
from benchmarks.processes import temporary_processes
from benchmarks.report import Lines, at_most
from benchmarks.statements import SLICES, Made, make
from p2pcap.engine.base import EngineSettings
from p2pcap.node.logs import log_to
from p2pcap.node.node import Node
from p2pcap.node.options import EngineOptions, NodeOptions, Seed
from p2pcap.project.records import PAGE

GOAL = 100_000.0
CHUNKS = 10 * PAGE - 1
"""The most rows that a plan of about 10,000 chunks can have behind its last page."""

RATE = 50.0
CLAIM_WITHIN = 120.0


def run() -> Lines:
    """Bytes before the first claim."""
    with temporary_processes() as processes:
        command = (sys.executable, "-m", "benchmarks.paced_server", "bench", str(RATE))
        log_to(processes.folder / "nodes.jsonl")
        url = processes.start("server", *command, piped=True).line(START_WITHIN)
        few, many = (
            trio.run(_received, make(chunks * SLICES), processes.folder / f"{chunks}", url) for chunks in (1, CHUNKS)
        )
    yield at_most("joiner_bytes.received", many, "B", GOAL, few)


async def _received(made: Made, folder: Path, url: str) -> float:
    """Bytes that a volunteer has received when its first claim is out."""
    async with trio.open_nursery() as nursery:
        seed = Seed(made.project, made.pages, {})
        first = Node(NodeOptions(folder / "a", "coordinator", made.ticket, (LOOPBACK,), seed=seed), _silent)
        await nursery.start(first.run)
        assert first.swarm is not None
        engine = EngineOptions(EngineSettings(endpoints=(url,)), "openai")
        ticket = made.ticket.naming(first.swarm.addresses)
        joiner = Node(NodeOptions(folder / "b", "volunteer", ticket, (LOOPBACK,), engine=engine), _silent)
        await nursery.start(joiner.run)
        with trio.fail_after(CLAIM_WITHIN):
            while joiner.member is None or not joiner.member.ledger.claims.of(joiner.identity.public):
                await trio.lowlevel.checkpoint()  # not later: what comes after the claim does not count
        received = joiner.snapshot().network.received
        joiner.stop()
        first.stop()
    return float(received)


def _silent(line: str) -> None:
    """What nodes say to people."""
