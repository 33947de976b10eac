"""One running node: the order in which its parts come up, and how they go down.

Up: key, database, network, control socket, project (from disk, from the coordinator's folder, or from peers), and then
the member's life in it. Down: no new slice, publish what is in hand, give the claims back, then everything at once.

Always holds: whatever ends `Node.run`, the engine's processes, the sockets and the database are closed when it returns.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import structlog
import trio

from p2pcap.errors import ConfigError
from p2pcap.identity import Identity
from p2pcap.lasting import spare_what_lasts
from p2pcap.ledger.drafting import Asked
from p2pcap.node.change import Change
from p2pcap.node.charting import Charting
from p2pcap.node.chunk_map import ChunkMap
from p2pcap.node.consent import make_sure
from p2pcap.node.control import serve_control
from p2pcap.node.drafts import Draft, draft_in
from p2pcap.node.following import not_newer
from p2pcap.node.joining import acquire_project, keep_project
from p2pcap.node.lag import LoopLag
from p2pcap.node.machine import keep_manners
from p2pcap.node.manifest_info import ManifestInfo
from p2pcap.node.manifest_view import describe
from p2pcap.node.member import Member
from p2pcap.node.options import NodeOptions
from p2pcap.node.pages import PageRequest
from p2pcap.node.pausing import Pausing
from p2pcap.node.ports import keep_port, with_last_port
from p2pcap.node.restart import rebuild, stored_project
from p2pcap.node.saying import Passing
from p2pcap.node.seams import Clock
from p2pcap.node.service import NodeService
from p2pcap.node.showing import show_image
from p2pcap.node.snapshot import ContributorPage, NodeSnapshot, PeerPage
from p2pcap.node.submitting import Outcome
from p2pcap.node.view import take_page, take_snapshot
from p2pcap.paths import NodePaths
from p2pcap.project.opened import Project, check_current, check_roots
from p2pcap.store.fsck import make_anew
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob, PutProject
from p2pcap.swarm.addresses import worth_telling
from p2pcap.swarm.discovery.discovery import can_dial
from p2pcap.swarm.swarm import Swarm, open_swarm

HUB_DEGREE, HUB_CONNECTIONS = 64, 256
"""A coordinator's: everybody dials it, and with few links for gossip it would starve most of them."""

BLOBS = 16
"""Blobs of the project that are put into the database at a time; one has at most 32 MiB, mostly a few hundred KiB."""

log = structlog.get_logger()


class Node:
    """A node. `say` gets one line for people now and then; `member` is None until the project is here."""

    def __init__(self, options: NodeOptions, say: Callable[[str], None]) -> None:
        self.options = options
        self.paths = NodePaths(options.directory.absolute())
        self.identity = Identity.load_or_create(self.paths.key)
        self.store = Store.open(self.paths.database)
        self.clock: Clock = time.time
        self.started = self.clock()
        self.peers_changed = Change()
        self.lag = LoopLag()
        self.pausing = Pausing(self.paths.pause, lambda: self.clock())
        self.swarm: Swarm | None = None
        self.member: Member | None = None
        self.ended = trio.Event()
        self.agreed = False
        """Whether the user agreed to take part, so that peers may learn the name."""
        self._say = say
        self._charting: Charting | None = None
        self._settled = trio.Event()
        self._settled.set()
        self._stop = trio.Event()

    # what the control socket asks

    def snapshot(self, most: int | None = None) -> NodeSnapshot:
        """The node as it is now, with the first `most` peers and contributors (None: with all)."""
        return take_snapshot(self, self.clock(), most)

    def page(self, asked: PageRequest) -> PeerPage | ContributorPage:
        """A page of its peers or contributors. Raises ConfigError."""
        return take_page(self, asked)

    async def settled(self) -> None:
        """Returns when the database is open: at once, but while `_judge_anew` makes it anew."""
        await self._settled.wait()

    def ticket(self) -> str:
        """A ticket for others that names this node and the peers it knows."""
        mine = self.swarm.addresses if self.swarm else ()
        peers = self.swarm.peers() if self.swarm else ()
        others = [address for peer in peers for address in worth_telling(peer.addresses, 2)]
        return str(self.options.ticket.naming(tuple(dict.fromkeys((*worth_telling(mine, 4), *others)))))

    async def chunk_map(self) -> ChunkMap:
        """How far each chunk is. Raises ConfigError while the project is not here."""
        ledger = self._in_project().ledger
        if self._charting is None or self._charting.ledger is not ledger:
            self._charting = Charting(ledger, self.identity.public)
        return await self._charting.look(self.clock())

    def manifest(self) -> ManifestInfo:
        """What the maintainer signed. Raises ConfigError while the project is not here."""
        return describe(self._in_project().ledger.project)

    async def image(self, chunk: int, item: int, hash_: bytes) -> bytes:
        """The file of the image at this place, which has this hash. Raises ConfigError while the project is not here,
        SourceError when it cannot be shown."""
        member = self._in_project()
        return await show_image(member.ledger, member.images, chunk, item, hash_)

    async def draft(self, asked: Asked, signer: bytes) -> Draft:
        """A ruling as `signer` would sign it, and what it would change here. Raises ConfigError, StoreError."""
        return await draft_in(self._in_project().ledger, self.store, asked, signer)

    async def submit(self, statements: Sequence[bytes]) -> list[Outcome]:
        """Take in what the maintainer hands in, and tell everybody. Raises ConfigError while the project is not here,
        StoreError."""
        member = self._in_project()
        return [await member.submit(data) for data in statements]

    def _in_project(self) -> Member:
        if self.member is None:
            raise ConfigError("The node has not got its project yet. Wait until it has, and try again.")
        return self.member

    async def seal(self) -> int:
        """Seal what is here at once; returns the number of the newest checkpoint. Raises ConfigError where this node
        seals nothing, or not yet."""
        if self.member is None or self.member.sealing is None:
            raise ConfigError("This node is not the coordinator, or has not started yet.")
        return await self.member.sealing.seal_all()

    async def reload(self) -> int:
        """Take up what the maintainer signed anew, and tell the swarm; returns the version of the manifest in force.

        Raises ConfigError on a node that is no coordinator or has not started, and where the swarm has a newer one;
        UntrustedError when it does not follow from what is in force; and what reading it raises.
        """
        seed = self.options.seed
        if seed is None or seed.again is None or self.member is None:
            raise ConfigError("This node is not the coordinator, or has not started yet. Publish to a peer instead.")
        signed = await trio.to_thread.run_sync(seed.again)
        await self._keep_blobs(signed.blobs)
        self.options = replace(self.options, seed=signed)
        self.member.files |= signed.files
        following = self.member.following
        await following.adopt(signed.project)
        found = following.successor or following.project
        if found.manifest_envelope.payload_hash != signed.project.manifest_envelope.payload_hash:
            raise ConfigError(not_newer(found.version, signed.project.version))
        return found.manifest.version

    async def pause(self, seconds: float | None) -> float | None:
        """Caption and check nothing from now on, for so many seconds or until `resume`; what is with the engine is
        dropped. Returns when it ends, in unix seconds. Raises ConfigError where nothing is captioned, StoreError."""
        self._captions()
        return await self.pausing.pause(seconds)

    async def resume(self) -> str:
        """Go on. Returns why it does not, "" when it does. Raises as `pause` does."""
        self._captions()
        await self.pausing.resume()
        return self.pausing.hold.why if self.pausing.hold is not None else ""

    async def finish(self) -> None:
        """Do what is in hand, give the rest back, then stay paused until `resume`. Raises as `pause` does."""
        self._captions()
        await self.pausing.finish()

    def _captions(self) -> None:
        if self.options.role != "volunteer":
            raise ConfigError(
                f"This node's role is {self.options.role}: it captions nothing, so there is nothing "
                "to pause, finish or resume. p2pcap stop ends it."
            )

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End politely: finish what is in hand, then leave."""
        self._stop.set()

    # its life

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until `stop` is called, or, with `until_done`, until every image has its row and a peer holds it all.

        Raises what keeps a node from working: UntrustedError, TicketError, ModelError, EngineStartError,
        AddressInUse, StoreError.
        """
        known = (*self.options.peers, *self._usable(self.options.ticket.addresses))
        settings = self.options.network
        if self.options.role == "coordinator":
            settings = replace(settings, degree=HUB_DEGREE, max_connections=HUB_CONNECTIONS)
        project_id = self.options.ticket.root[:8]
        try:
            listen = with_last_port(self.options.listen, self.paths.port)
            async with open_swarm(
                self.identity, project_id, listen, NodeService(self), known, settings, self.paths.peers
            ) as self.swarm:
                keep_port(self.swarm.addresses, self.paths.port)
                async with trio.open_nursery() as nursery:
                    await nursery.start(serve_control, self, self.paths)
                    task_status.started()
                    nursery.start_soon(self.lag.run)
                    nursery.start_soon(self.pausing.run)
                    if self.options.manners is not None and self.options.role == "volunteer":
                        nursery.start_soon(
                            keep_manners, self.pausing, self.options.manners, self.paths.directory, self._say
                        )
                    nursery.start_soon(self._live, self.swarm)
                    await self._stop.wait()
                    if self.member is not None:
                        await self.member.finish()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self.store.close()
            self.ended.set()

    def _usable(self, addresses: Sequence[str]) -> Iterator[str]:
        """Those of the ticket's addresses that this program can dial; the others may be meant for newer ones."""
        for address in addresses:
            if can_dial(address):
                yield address
            else:
                self._say(f"the ticket names {address}, which this program cannot dial; going on without it")

    async def _live(self, swarm: Swarm) -> None:
        project = await self._project(swarm)
        if self.options.agree is not None and self.options.role == "volunteer":
            await make_sure(self.options.agree, swarm, project, self.options.name, self.paths.consent)
        self.agreed = True
        await self._keep(project)
        self._say(f"project {project.title}: {project.images} images in {len(project.counts)} chunks")
        while True:
            loaded = await self.store.load()
            newest = stored_project(loaded, project.hash) or project
            ledger = rebuild(loaded, newest)
            del loaded
            spare_what_lasts()
            self.member = Member(
                self.options, self.identity, self.store, swarm, ledger, self.peers_changed, self.pausing, self.clock,
                self._say,
            )  # fmt: skip
            await self.member.live(self.stop)
            successor, self.member = self.member.following.successor, None
            if successor is not None:
                await self._judge_anew(successor)

    async def _judge_anew(self, project: Project) -> None:
        """Make this version of the project, which has another root, the one in force, and leave out of the database
        what counts no more under it: all in one step. Raises StoreError."""
        self._settled = trio.Event()
        await self.store.close()
        renewal = PutProject(project, self.clock())
        left_out = await trio.to_thread.run_sync(make_anew, self.paths.database, renewal, _unseen)
        self.store = Store.open(self.paths.database)
        self._settled.set()
        log.info("judged anew", left_out=len(left_out))

    async def _project(self, swarm: Swarm) -> Project:
        """The project: from the coordinator's seed or a file, from disk, or from peers. One that is not on disk yet
        must not have expired. Raises UntrustedError, also when what was brought goes with other roots."""
        stored = stored_project(await self.store.load(), self.options.ticket.root)
        seed = self.options.seed.project if self.options.seed else None
        if stored is not None and (seed is None or seed.version < stored.version):
            return stored  # what was in force here stays, also when somebody brings an older folder
        if seed is None:
            self._say(Passing("looking for a peer …"))
            seed = await acquire_project(swarm, self.options.ticket, self.peers_changed, self._say)
        if stored is not None:
            check_roots(seed, stored)
        else:
            check_current(seed, self.clock())
        return seed

    async def _keep_blobs(self, blobs: Mapping[bytes, bytes]) -> None:
        """The blobs come from disk, and all together they may be more than memory holds."""
        hashes = list(blobs)
        for start in range(0, len(hashes), BLOBS):
            read = await trio.to_thread.run_sync(_read, blobs, hashes[start : start + BLOBS])
            await self.store.commit(*read)

    async def _keep(self, project: Project) -> None:
        """Make the project durable, and what a coordinator begins with."""
        await keep_project(self.store, project, self.options.ticket, self.paths.ticket, self.clock())
        if self.options.seed is not None:
            await self._keep_blobs(self.options.seed.blobs)


def _unseen(what: str, done: int, total: int) -> None:
    """How far it is; nobody looks."""


def _read(blobs: Mapping[bytes, bytes], hashes: Sequence[bytes]) -> list[PutBlob]:
    return [PutBlob(hash_, blobs[hash_]) for hash_ in hashes]
