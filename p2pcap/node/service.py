"""What this node answers to its peers: the swarm's `Service`, filled in from ledger, store and caches.

Until a joiner has the project there is no ledger to judge by: gossip is ignored and nothing is served.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec import UNSET

from p2pcap import __version__
from p2pcap.ledger.index import Index
from p2pcap.ledger.negentropy import Reconciliation, respond
from p2pcap.ledger.validate import Verdict
from p2pcap.project.opened import Project, payload_hash
from p2pcap.swarm.messages import RECONCILE_FRAME, STATEMENTS_PAGE, Status
from p2pcap.swarm.service import Judgement, Kind

if TYPE_CHECKING:
    from p2pcap.node.member import Member
    from p2pcap.node.node import Node

VERDICTS: Mapping[Verdict, Judgement] = {
    Verdict.ACCEPT: Judgement.ACCEPT,
    Verdict.IGNORE: Judgement.IGNORE,
    Verdict.REJECT: Judgement.REJECT,
}

log = structlog.get_logger()


class NodeService:
    """Implements `p2pcap.swarm.service.Service`."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def judge(self, topic: str, sender: str, data: bytes) -> Judgement:
        """A gossiped statement: judged by the ledger, taken in when it is good."""
        member = self._node.member
        if member is None:
            return Judgement.IGNORE
        judgement = member.judge(data)
        if judgement.verdict is not Verdict.ACCEPT:
            log.debug("gossip", verdict=judgement.verdict.value, reason=judgement.reason, topic=topic, peer=sender)
        return VERDICTS[judgement.verdict]

    def status(self) -> Status:
        """What this node says of itself."""
        options, member = self._node.options, self._node.member
        named = Status(
            project=options.ticket.root[:8],
            root=options.ticket.root,
            manifest_version=0,
            manifest=bytes(32),
            count=0,
            digest=bytes(32),
            role=options.role,
            name=options.name if self._node.agreed else "",
            agent=f"p2pcap/{__version__}",
        )
        return _in_project(named, member) if member is not None else named

    def claims(self) -> list[bytes]:
        """The live claims."""
        member = self._node.member
        return member.ledger.claims.envelopes(self._node.clock()) if member is not None else []

    def reconcile(self, frame: bytes) -> bytes:
        """What is here, compared with what a peer's frame says."""
        member = self._node.member
        return respond(member.ledger.index if member is not None else Index(), frame, RECONCILE_FRAME)

    async def reconciliation(self, peer: str) -> Reconciliation | None:
        """A conversation about what is here, after the checkpoints that only the peer has were got in bulk."""
        member = self._node.member
        if member is None:
            return None
        await member.checkpoints.catch_up(peer)
        return Reconciliation(member.ledger.index, RECONCILE_FRAME)

    async def chain(self, after: int) -> list[bytes]:
        """A page of checkpoints."""
        member = self._node.member
        held = member.ledger.checkpoints if member is not None else {}
        numbers = sorted(number for number in held if number > after)
        return [held[number].data for number in numbers[:STATEMENTS_PAGE]]

    async def statements(self, ids: Sequence[bytes]) -> list[bytes]:
        """Stored statements by id."""
        return await self._node.store.statements(ids) if self._node.member is not None else []

    async def content(self, kind: Kind, hash: bytes) -> bytes | Path | None:
        """A blob, body or image by hash."""
        member = self._node.member
        if member is None:
            return None
        if kind == "body":
            return await self._node.store.body(hash)
        if kind == "image":
            return await member.images.load(hash)
        return _chain(member.ledger.project, hash) or member.files.get(hash) or await self._node.store.blob(hash)

    async def missing(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those ids this node does not hold."""
        member = self._node.member
        return [id_ for id_ in ids if not member.ledger.holds(id_)] if member is not None else []

    async def receive(self, envelopes: Sequence[bytes], sender: str) -> int:
        """Statements and claims from a peer."""
        if self._node.member is None:
            return 0
        received = await self._node.member.intake.receive(envelopes)
        log.debug("sync", peer=sender, statements=len(envelopes), new=received.new, rejected=received.rejected)
        return received.rejected

    def on_connect(self, peer: str) -> None:
        """A connection is up."""
        log.debug("connected", peer=peer)

    def on_status(self, peer: str, status: Status) -> None:
        """A peer told its status: work may be released, or content may be had from it."""
        if self._node.member is not None:
            self._node.member.following.on_status(peer, status)
        self._node.peers_changed.tell()

    def on_disconnect(self, peer: str) -> None:
        """A peer is gone."""
        log.debug("disconnected", peer=peer)
        self._node.peers_changed.tell()


def _in_project(status: Status, member: "Member") -> Status:
    """`status` of a node that has its project."""
    ledger, engine = member.ledger, member.engine
    return msgspec.structs.replace(
        status,
        root_version=ledger.project.root.version,
        manifest_version=ledger.project.manifest.version,
        manifest=payload_hash(ledger.project.manifest_envelope),
        count=len(ledger.index),
        digest=ledger.index.digest.to_bytes(32, "big"),
        engines=0 if engine is None else len(engine.states),
        engine_ready=member.engine_ready,
        images=member.images.held,
        rows=ledger.items_done,
        checkpoint=ledger.seals.head,
        store=member.keeping.role,
    )


def _chain(project: Project, hash_: bytes) -> bytes | None:
    """Root and manifest are asked for by the hash of their payload."""
    named = {project.hash: project.root_envelope, payload_hash(project.manifest_envelope): project.manifest_envelope}
    if hash_ in named:
        return named[hash_].data
    roots = project.manifest.roots
    return project.roots_data if roots is not UNSET and roots.hash == hash_ else None
