"""A node as the control socket sees it: a real store, a fixed snapshot, and a stop that is remembered."""

import queue
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from p2pcap.envelope import open_envelope
from p2pcap.errors import ConfigError, SourceError
from p2pcap.ledger.drafting import Asked
from p2pcap.ledger.state import Ledger
from p2pcap.node.chunk_map import ChunkClaim, ChunkMap, StageChunks
from p2pcap.node.control import serve_control
from p2pcap.node.drafts import Draft, draft_in
from p2pcap.node.manifest_info import ManifestInfo
from p2pcap.node.manifest_view import describe
from p2pcap.node.pages import PageRequest
from p2pcap.node.snapshot import (
    ClaimInfo,
    ContributorInfo,
    ContributorPage,
    CountInfo,
    EngineInfo,
    NetworkInfo,
    NodeInfo,
    NodeSnapshot,
    PeerInfo,
    PeerPage,
    ProjectInfo,
    StoreInfo,
)
from p2pcap.node.submitting import Outcome
from p2pcap.paths import NodePaths, running_node
from p2pcap.store.store import Store
from p2pcap.store.writes import Write
from tests.unit.store_project import ADA, BOB, NOW, database, sample

SNAPSHOT = NodeSnapshot(
    published=NOW + 90.0,
    node=NodeInfo(ADA.peer_id, "attic", "volunteer", "0.1.0", 4711, float(NOW), "/x", ("/ip4/127.0.0.1/tcp/1",)),
    project=ProjectInfo(
        "Shapes", "ab" * 32, 1, BOB.peer_id, "tiny", ("describe", "objects"), 128, 2, 66, 1, 65, 1, 60, wanted=128
    ),
    engine=EngineInfo("ready", "", "CPU", 3.25, 2.9, 64, 1),
    engines_ready=2,
    peers=(
        PeerInfo(BOB.peer_id, "/ip4/127.0.0.1/tcp/2", "bob\x1b[2J", "volunteer", True, float(NOW), 0.012, relayed=True),
    ),
    claims=(ClaimInfo(1, 2, 64, 29.5),),
    contributors=(ContributorInfo(ADA.peer_id, "Ada", 64, 0), ContributorInfo(BOB.peer_id, "", 2, 1)),
    network=NetworkInfo(
        reachability="private",
        reached=("relay",),
        port_mapping="no router answers UPnP",
        relays=(BOB.peer_id, ADA.peer_id),
        circuits=1,
        carried=999,
        incoming=3,
        outgoing=8,
        relayed=2,
        max_connections=64,
        sent=1_500_000,
        received=12_000,
        uploaded=1_200_000,
        upload_limit=500_000.0,
        banned=1,
        known=40,
        synced=float(NOW),
    ),
    store=StoreInfo("share", statements=12, newest=NOW),
    counts=(CountInfo("gossip", "accept", 12), CountInfo("served", "ok", 3, "status")),
)

CHUNK_MAP = ChunkMap(
    published=NOW + 90.0,
    stages=(StageChunks("caption", "vc"),),
    claims=(ChunkClaim("caption", 1, BOB.peer_id, "bob\x1b[2J", False, NOW + 120.0, 2, 64),),
    claimed=1,
)


class ControlledNode:
    """What `serve_control` is given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = Store.open(database(directory))
        self.open = trio.Event()
        self.open.set()
        self.stopped = trio.Event()
        self.said: list[tuple[str, float | None]] = []
        self.images: dict[bytes, bytes] = {}

    def snapshot(self, most: int | None = None) -> NodeSnapshot:
        return msgspec.structs.replace(SNAPSHOT, peers=SNAPSHOT.peers[:most], contributors=SNAPSHOT.contributors[:most])

    def page(self, asked: PageRequest) -> PeerPage | ContributorPage:
        if asked.sort == "nonsense":
            raise ConfigError("not sorted by that")
        if asked.of == "peers":
            return PeerPage(len(SNAPSHOT.peers), 1, SNAPSHOT.peers[: asked.most])
        return ContributorPage(len(SNAPSHOT.contributors), 2, SNAPSHOT.contributors[: asked.most])

    async def settled(self) -> None:
        await self.open.wait()

    async def new_root(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """The database is closed, and another one opened, as a node does under a new root of its project."""
        self.open = trio.Event()
        await self.store.close()
        await meanwhile()
        self.store = Store.open(database(self.directory))
        self.open.set()

    def ticket(self) -> str:
        return "p2pcap:abc"

    async def chunk_map(self) -> ChunkMap:
        return CHUNK_MAP

    def manifest(self) -> ManifestInfo:
        return describe(sample().project)

    async def image(self, chunk: int, item: int, hash_: bytes) -> bytes:
        if hash_ not in self.images:
            raise SourceError("The image is not on this machine, and no peer hands it over.")
        return self.images[hash_]

    async def draft(self, asked: Asked, signer: bytes) -> Draft:
        return await draft_in(Ledger(sample().project), self.store, asked, signer)

    async def submit(self, statements: Sequence[bytes]) -> list[Outcome]:
        """Takes in every statement but voids."""
        kinds = [open_envelope(data).kind for data in statements]
        return [Outcome(False, "not now") if kind == "void" else Outcome(True) for kind in kinds]

    async def seal(self) -> int:
        return 3

    async def reload(self) -> int:
        return 7

    async def pause(self, seconds: float | None) -> float | None:
        self.said.append(("pause", seconds))
        return None if seconds is None else NOW + seconds

    async def finish(self) -> None:
        self.said.append(("finish", None))

    async def resume(self) -> str:
        self.said.append(("resume", None))
        return "it is night"

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The only folder for control sockets. Its name is short; `tmp_path` is made before the place for such is moved."""
    with tempfile.TemporaryDirectory(prefix="p2p") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory) / "p2pcap"


def some_captions() -> list[Write]:
    """What `controlled` holds unless it is told otherwise."""
    project = sample()
    captions = project.slice(ADA, 0, 0, 64), project.batch(BOB, 1, [project.error(1, 0), project.row(1, 1)])
    return [*project.setup, project.grant(ADA, "Ada"), *captions]


@asynccontextmanager
async def controlled(directory: Path, writes: Sequence[Write] | None = None) -> AsyncIterator[ControlledNode]:
    """A node with some captions that answers on its control socket."""
    node = ControlledNode(directory)
    try:
        await node.store.commit(*(some_captions() if writes is None else writes))
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, node, NodePaths(directory))
            yield node
            nursery.cancel_scope.cancel()
    finally:
        await node.store.close()


def with_node(directory: Path, use: Callable[[ControlledNode], Awaitable[None]]) -> None:
    """Run `use` beside such a node; nothing in it may take a minute."""

    async def run() -> None:
        with trio.fail_after(60):
            async with controlled(directory) as node:
                await use(node)

    trio.run(run)


@contextmanager
def running(directory: Path, writes: Sequence[Write] | None = None) -> Iterator[None]:
    """Such a node on a thread of its own, for what is not async."""
    ready, ended = queue.SimpleQueue[trio.lowlevel.TrioToken | None](), trio.Event()

    async def live() -> None:
        async with controlled(directory, writes):
            ready.put(trio.lowlevel.current_trio_token())
            await ended.wait()

    def run() -> None:
        try:
            trio.run(live)
        finally:
            ready.put(None)

    thread = threading.Thread(target=run)
    thread.start()
    token = ready.get()
    assert token is not None, "the node did not come up"
    try:
        yield
    finally:
        token.run_sync_soon(ended.set)
        thread.join()


def path_of(directory: Path) -> Path:
    node = running_node(directory)
    assert node is not None
    return node.socket


async def readers_there(node: ControlledNode) -> None:
    await trio.to_thread.run_sync(_wait_for_readers, node, True)


async def readers_gone(node: ControlledNode) -> None:
    await trio.to_thread.run_sync(_wait_for_readers, node, False)


def _wait_for_readers(node: ControlledNode, present: bool) -> None:
    readers = node.store.readers
    with readers._changed:
        assert readers._changed.wait_for(lambda: bool(readers._lent) is present, timeout=30)
