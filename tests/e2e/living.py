"""Whole nodes in the test's own process: real sockets and databases, and a clock that a test may move."""

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2pcap.node.node import Node
from p2pcap.node.options import NodeOptions, Seed
from p2pcap.node.seams import Clock
from p2pcap.project.ticket import Ticket
from p2pcap_bootstrap import config
from p2pcap_bootstrap.serving import load_seed, make_ticket
from p2pcap_bootstrap.workspace import Workspace
from tests.swarm.twin import ANY


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A short place for control sockets. `tmp_path` is made before."""
    with tempfile.TemporaryDirectory(prefix="p2p") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield


@asynccontextmanager
async def living(
    options: NodeOptions, clock: Clock = time.time, say: Callable[[str], None] = lambda line: None
) -> AsyncIterator[Node]:
    """A node, once it has its project."""
    node = Node(options, say)
    node.clock = clock
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        while node.member is None:  # noqa: ASYNC110 - a node tells nobody when it has its project
            await trio.sleep(0.05)
        yield node
        node.stop()


def coordinator_of(workspace: Workspace) -> NodeOptions:
    project = workspace.project()
    seed = load_seed(workspace, config.read(workspace.directory), project)
    return NodeOptions(workspace.node, "coordinator", make_ticket(workspace, project), ANY, seed=seed)


def observer(folder: Path, ticket: str, seed: Seed | None = None) -> NodeOptions:
    return NodeOptions(folder, "observer", Ticket.parse(ticket), ANY, seed=seed)
