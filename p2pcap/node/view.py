"""The node's snapshot, put together from its parts. Reads memory only, so it can be asked for at any moment."""

import os
from typing import TYPE_CHECKING

from p2pcap import __version__
from p2pcap.identity import peer_id_of
from p2pcap.node.snapshot import (
    ClaimInfo,
    ContributorInfo,
    EngineInfo,
    FetchInfo,
    NodeInfo,
    NodeSnapshot,
    PeerInfo,
    ProjectInfo,
)

if TYPE_CHECKING:
    from p2pcap.node.member import Member
    from p2pcap.node.node import Node


def take_snapshot(node: "Node", now: float) -> NodeSnapshot:
    """`node` at local time `now`."""
    member, peers = node.member, _peers(node)
    own_ready = member is not None and member.engine is not None and member.engine.state.phase == "ready"
    return NodeSnapshot(
        published=now,
        node=_node(node),
        project=_project(member, now) if member else _named(node),
        engine=_engine(member, now) if member else EngineInfo(),
        engines_ready=sum(peer.engine_ready for peer in peers) + own_ready,
        peers=peers,
        claims=_claims(member, node.identity.public, now) if member else (),
        contributors=_contributors(member) if member else (),
        fetch=FetchInfo(member.fetching.held, member.fetching.fetched_bytes) if member else FetchInfo(),
    )


def _node(node: "Node") -> NodeInfo:
    return NodeInfo(
        peer_id=node.identity.peer_id,
        name=node.options.name,
        role=node.options.role,
        version=__version__,
        pid=os.getpid(),
        started=node.started,
        directory=str(node.paths.directory),
        addresses=node.swarm.addresses if node.swarm else (),
    )


def _named(node: "Node") -> ProjectInfo:
    """All that a ticket says of its project."""
    return ProjectInfo(node.options.ticket.name, node.options.ticket.root.hex(), 0, "", "", (), 0, 0)


def _project(member: "Member", now: float) -> ProjectInfo:
    ledger = member.ledger
    project = ledger.project
    errors = sum(contribution.errors for contribution in member.contributions)
    return ProjectInfo(
        title=project.title,
        id=project.hash.hex(),
        manifest=project.manifest.version,
        signed_by=peer_id_of(project.manifest_envelope.author),
        model=project.task.model.name,
        prompts=tuple(prompt.text for prompt in project.task.prompts),
        images=project.images,
        chunks=len(project.chunks),
        done=ledger.items_done,
        chunks_done=sum(1 for chunk in ledger.done if not ledger.missing(chunk)),
        captions=ledger.items_done - errors,
        errors=errors,
        finished=ledger.finished,
        checkpoint=ledger.seals.head,
        sealed=len(ledger.seals.by_id),
        warnings=_warnings(member, now),
    )


def _warnings(member: "Member", now: float) -> tuple[str, ...]:
    """What people should ask the maintainer about."""
    ledger = member.ledger
    said = [f"two {kind}s of number {number} contradict each other" for kind, number in sorted(ledger.forks)]
    if member.checkpoints.refused:
        said.append(member.checkpoints.refused)
    if ledger.stamp is not None and ledger.stamp.expires < now:
        said.append("the coordinator has not been heard of for days: what is here may be out of date")
    return tuple(said)


def _engine(member: "Member", now: float) -> EngineInfo:
    if member.engine is None:
        return EngineInfo()
    state, worker = member.engine.state, member.worker
    phase = "captioning" if state.phase == "ready" and worker is not None and worker.in_flight else state.phase
    return EngineInfo(
        phase=phase,
        detail=state.detail,
        device=state.device,
        rate=worker.rate.current(now) if worker else 0.0,
        average=worker.rate.average() if worker else 0.0,
        in_flight=worker.in_flight if worker else 0,
        restarts=state.restarts,
    )


def _peers(node: "Node") -> tuple[PeerInfo, ...]:
    return tuple(
        PeerInfo(
            peer_id=peer.peer_id,
            address=peer.addresses[0] if peer.addresses else "",
            name=peer.status.name if peer.status else "",
            role=peer.status.role if peer.status else "",
            engine_ready=bool(peer.status and peer.status.engine_ready),
            since=peer.connected_since,
            rtt=peer.rtt,
        )
        for peer in (node.swarm.peers() if node.swarm else ())
    )


def _claims(member: "Member", me: bytes, now: float) -> tuple[ClaimInfo, ...]:
    ledger, worker = member.ledger, member.worker
    held = ledger.claims.of(me)
    if worker is None or held is None:
        return ()
    lease = max(0.0, held.expires - now)
    return tuple(
        ClaimInfo(chunk, ledger.done.get(chunk, 0).bit_count(), ledger.project.chunks[chunk].count, lease)
        for chunk in worker.mine
    )


def _contributors(member: "Member") -> tuple[ContributorInfo, ...]:
    return tuple(ContributorInfo(c.peer_id, c.name, c.rows, c.errors) for c in member.contributions)
