"""Newer manifests, while the node runs: heard of, fetched, checked from the ticket's hash on, made durable, adopted.

A node hears of one by gossip, from a peer's status, or from whoever signs it here. It fetches root, manifest and plan
by hash from its peers and checks them like a joiner. Only then it tells others, so what does not verify goes no
further than one step.

Always holds: what is adopted is newer than what was (Project.version), and was committed first. Under the same root it
leaves captioned images in their places; under another one it may take back what a thief of the coordinator's key added,
for all that is here is judged anew then. One version with two manifests is adopted by nobody who has seen both: the
first one stays, and the proof of the fork goes to everybody.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from itertools import starmap

import structlog
import trio

from p2pcap.codec import encode
from p2pcap.envelope import MAX_ENVELOPE, VERSION, Envelope, open_envelope
from p2pcap.errors import CodecError, SwarmError, UntrustedError
from p2pcap.ledger.judgement import Judgement, Verdict, ignore, reject
from p2pcap.ledger.standing import after_adoption
from p2pcap.ledger.state import Ledger
from p2pcap.node.change import Change
from p2pcap.node.fetching import fetch_one, hash_holds
from p2pcap.node.joining import fetch_project
from p2pcap.node.seams import Clock
from p2pcap.project.chunks import PAGE_BYTES, page_over
from p2pcap.project.opened import Project, check_follows, check_manifest, check_roots, read_manifest, version_of
from p2pcap.store.store import Store
from p2pcap.store.writes import PutBlob, PutProject, PutStanding
from p2pcap.swarm.messages import Status
from p2pcap.swarm.swarm import Swarm

HINTS = 16
"""Manifests heard of that may wait to be fetched; of more, the oldest is forgotten: statuses name it again. Those that
a known coordinator signed are fetched first, so peers' talk keeps nobody from them."""

FETCH_WITHIN = 60.0
"""Seconds in which a manifest with its plan is fetched; after that the next one is looked at."""

Hint = tuple[bool, tuple[int, int]]
"""Whether a known coordinator signed it, and its version."""

log = structlog.get_logger()


class Following:
    """`accuse` is called with two manifests of one version, and that version."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        swarm: Swarm,
        change: Change,
        clock: Clock,
        say: Callable[[str], None],
        accuse: Callable[[Envelope, Envelope, int], None],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._swarm = swarm
        self._change = change
        self._clock = clock
        self._say = say
        self._accuse = accuse
        self._adopting = trio.Lock()
        self._hints: OrderedDict[bytes, Hint] = OrderedDict()
        self._hinted = trio.Event()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self.changed = Change()
        """Told when another project was adopted."""
        self.renewed = trio.Event()
        """Another root is in force, that of `successor`: what some key signed may count no more, so this life in the
        project ends, and the next one begins with what is on disk, judged anew."""
        self.successor: Project | None = None

    @property
    def project(self) -> Project:
        """The one in force in this life."""
        return self._ledger.project

    # hearing of it

    def judge(self, envelope: Envelope) -> Judgement:
        """A gossiped manifest. It is relayed at once when a coordinator that is known here signed it."""
        project = self.project
        try:
            manifest = read_manifest(envelope, project.hash)
            version = version_of(manifest)
            if version == project.version and envelope.payload_hash != project.manifest_envelope.payload_hash:
                return self._contradiction(envelope, version[1])
            if version <= project.version:
                return ignore("a manifest that is not newer")
            if version[0] != project.version[0]:
                self._hint(envelope.payload_hash, version, signed=False)
                return ignore("a manifest of a root that is not known here")
            check_manifest(envelope, project.root)
            self._hint(envelope.payload_hash, version, signed=True)
        except UntrustedError as error:
            return reject(str(error))
        return Judgement(Verdict.ACCEPT, "valid", envelope)

    def _contradiction(self, envelope: Envelope, number: int) -> Judgement:
        """Two manifests of one version: whoever signed both speaks with two voices."""
        check_manifest(envelope, self.project.root)
        self._accuse(self.project.manifest_envelope, envelope, number)
        return ignore("another manifest of this version")

    def on_status(self, peer: str, status: Status) -> None:
        """A peer said which manifest it has. Another one of the version in force is looked at too: two coordinators may
        have met after both had told theirs."""
        mine, version = self.project, (status.root_version, status.manifest_version)
        if status.root == mine.hash and (version > mine.version or self._contradicts(version, status.manifest)):
            self._hint(status.manifest, version, signed=False)

    def _contradicts(self, version: tuple[int, int], hash_: bytes) -> bool:
        """Whether that is another manifest of the version in force, of which nobody knows yet."""
        mine = self.project
        known = ("manifest", version[1]) in self._ledger.forks
        return version == mine.version and hash_ != mine.manifest_envelope.payload_hash and not known

    def _hint(self, hash_: bytes, version: tuple[int, int], signed: bool) -> None:
        if hash_ not in self._refused:
            known = hash_ in self._hints and self._hints[hash_][0]
            self._hints[hash_] = (signed or known, version)
            self._hints.move_to_end(hash_)
            self._ledger.newer_root |= version[0] > self.project.version[0]
            while len(self._hints) > HINTS:
                self._hints.popitem(last=False)
            self._hinted.set()

    # getting it

    async def run(self) -> None:
        """Fetch and adopt what is heard of, the newest first."""
        while True:
            await self._hinted.wait()
            self._hinted = trio.Event()
            while self._hints:
                hash_ = max(self._hints, key=lambda hint: self._hints[hint])
                del self._hints[hash_]
                with trio.move_on_after(FETCH_WITHIN):
                    await self._fetch(hash_)
            self._ledger.newer_root = False

    async def _fetch(self, hash_: bytes) -> None:
        try:
            project = await fetch_project(self._swarm, self.project.hash, hash_)
            if project is None:
                return
            self._check_voice(project)
            check_roots(project, self.project)
            if self._contradicts(project.version, hash_):
                self._accuse(self.project.manifest_envelope, project.manifest_envelope, project.version[1])
            await self.adopt(project)
        except UntrustedError as error:
            self._refuse(hash_, str(error))

    def _check_voice(self, project: Project) -> None:
        """Raises UntrustedError for a manifest that another one of its version contradicts."""
        if ("manifest", project.manifest.version) in self._ledger.forks:
            raise UntrustedError("It contradicts another one of its version. The maintainer has to sign anew.")

    def _refuse(self, hash_: bytes, reason: str) -> None:
        self._refused[hash_] = None
        while len(self._refused) > HINTS:
            self._refused.popitem(last=False)
        log.warning("manifest refused", manifest=hash_.hex(), reason=reason)
        self._say(f"a newer manifest was refused: {reason}")

    async def adopt(self, project: Project) -> None:
        """Make a newer version of the project the one in force here, and tell the peers. Nothing happens when it is not
        newer, or no peer has now the page that shows whether it follows. Raises UntrustedError, StoreError."""
        async with self._adopting:
            if project.version <= self.project.version:
                return
            check_roots(project, self.project)
            if project.root.version != self.project.root.version:
                self.successor = project
                self.renewed.set()
                return
            page = await self._page_over(project)
            if page is None:
                log.info("manifest waits for a page", version=project.version)
                return
            await self._put(project, page)
        log.info("manifest", version=project.version, plan=project.manifest.plan.hex())
        self._say(f"the maintainer has changed the project: manifest {project.manifest.version}")
        self.changed.tell()
        self._change.tell()
        await self._tell(project)

    async def _page_over(self, project: Project) -> bytes | None:
        """The page in which the rows lie that were behind the last one until now; empty when there is none such, None
        when nobody has it now."""
        hash_ = page_over(project.plan.chunks, self.project.plan.chunks)
        if hash_ is None:
            return b""
        held = await self._store.blob(hash_)
        return held if held is not None else await fetch_one(self._swarm, hash_, hash_holds, PAGE_BYTES)

    async def _put(self, project: Project, page: bytes) -> None:
        async with self._change.turn:
            check_follows(project, self.project, page)
            changes = after_adoption(self._ledger, project).items()
            pages = [PutBlob(hashlib.sha256(page).digest(), page)] if page else []
            await self._store.commit(*pages, PutProject(project, self._clock()), *starmap(PutStanding, changes))
            self._ledger.adopt(project)

    async def _tell(self, project: Project) -> None:
        """By gossip; and each peer learns from this node's status, which it needs where the keys have changed."""
        await self._swarm.publish("results", project.manifest_envelope.data)
        async with trio.open_nursery() as nursery:
            for peer in self._swarm.peers():
                nursery.start_soon(self._tell_peer, peer.peer_id)

    async def _tell_peer(self, peer: str) -> None:
        try:
            await self._swarm.status(peer)
        except SwarmError as error:
            log.info("no status", peer=peer, reason=str(error))


def not_newer(held: tuple[int, int], signed: tuple[int, int]) -> str:
    """What to tell a maintainer whose manifest is not taken up: versions of root and manifest, there and here."""
    older = signed < held
    what = "an older one" if older else "another one of that version"
    again = "" if older else ". A next version overtakes both"
    return (
        f"The swarm has manifest {held[1]} under root {held[0]}, and manifest {signed[1]} under root {signed[0]}, "
        f"which is signed here, is {what}{again}. Bring the swarm's into this folder with p2pcap project pull, then "
        "sign and publish again."
    )


def manifest_in(data: bytes) -> Envelope | None:
    """The manifest in a statement's bytes; None for every other statement, and for what is none."""
    if data[1 : 1 + len(_HEAD)] != _HEAD or len(data) > MAX_ENVELOPE:
        return None
    try:
        return open_envelope(data)
    except CodecError:
        return None


_HEAD = encode([VERSION, "manifest"])[1:]
"""How the bytes of a manifest's envelope go on after the first."""
