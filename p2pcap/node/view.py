"""The node's snapshot, put together from its parts. Reads memory only, so it can be asked for at any moment."""

import math
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from p2pcap import __version__
from p2pcap.identity import peer_id_of
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.work import Work
from p2pcap.node.pages import PageRequest, contributor_infos, contributor_page, peer_info, peer_page, standing_info
from p2pcap.node.snapshot import (
    AuditInfo,
    ClaimInfo,
    ContradictionInfo,
    ContributorPage,
    CountInfo,
    EngineInfo,
    FetchInfo,
    NetworkInfo,
    NodeInfo,
    NodeSnapshot,
    PeerPage,
    ProjectInfo,
    StageInfo,
    StandingInfo,
    StoreInfo,
)
from p2pcap.node.state import Facts, state_of
from p2pcap.node.volunteering import no_work_after
from p2pcap.project.records import Stage
from p2pcap.swarm.counters import Counters
from p2pcap.swarm.network import NetworkState

if TYPE_CHECKING:
    from p2pcap.node.member import Member
    from p2pcap.node.node import Node

CONTRADICTIONS = 64
"""Contradictions among verifiers that a snapshot names."""


def take_snapshot(node: "Node", now: float, most: int | None = None) -> NodeSnapshot:
    """`node` at local time `now`, with the first `most` peers and contributors (None: with all)."""
    member, peers = node.member, node.swarm.peers() if node.swarm else ()
    contributions = member.contributions if member else ()
    state = node.swarm.network() if node.swarm else NetworkState()
    own_ready = member is not None and member.engine_ready
    engine = engine_info(member, now) if member else EngineInfo()
    return NodeSnapshot(
        published=now,
        node=_node(node, _facts(node, engine, now)),
        project=_project(member, now) if member else _named(node),
        engine=engine,
        engines_ready=sum(1 for peer in peers if peer.status and peer.status.engine_ready) + own_ready,
        peers=tuple(map(peer_info, peers[:most])),
        claims=_claims(member, node.identity.public, now) if member else (),
        contributors=contributor_infos(contributions[:most], member.ledger.trust) if member else (),
        fetch=FetchInfo(member.images.held, member.images.fetched_bytes) if member else FetchInfo(),
        audit=_audit(member) if member else AuditInfo(),
        network=_network(state),
        store=_store(node, member) if member else StoreInfo(),
        counts=_counts(state.counters),
        standing=_own_standing(member, node.options.role, node.identity.public) if member else None,
        contradictions=_contradictions(member.ledger) if member else (),
        connected=len(peers),
        contributing=len(contributions),
    )


def take_page(node: "Node", asked: PageRequest) -> PeerPage | ContributorPage:
    """A page of the peers or contributors that `node` knows. Raises ConfigError for an order that there is not."""
    if asked.of == "peers":
        return peer_page(node.swarm.peers() if node.swarm else (), asked)
    if node.member is None:
        return ContributorPage(0, 0, ())
    return contributor_page(node.member.contributions, node.member.ledger.trust, asked)


def _facts(node: "Node", engine: EngineInfo, now: float) -> Facts:
    """What is true of the node, for its state."""
    member, role = node.member, node.options.role
    if member is None:
        return Facts(role=role, ends=node.stopping, has_project=False)
    project, volunteering, watch = member.ledger.project, member.volunteering, member.watch
    return Facts(
        role=role,
        ends=node.stopping,
        hold=node.pausing.hold if role == "volunteer" else None,
        in_hand=volunteering is not None and volunteering.in_hand,
        checking=watch is not None and any(watch.is_due(stage.task.tid) for stage in project.stages),
        finished=member.ledger.finished,
        admitted=volunteering is None or member.ledger.members.is_admitted(node.identity.public),
        project_paused=project.plan.paused is True,
        over=now >= no_work_after(project),
        engine=engine.phase,
        detail=engine.detail,
    )


def _node(node: "Node", facts: Facts) -> NodeInfo:
    state, why = state_of(facts)
    return NodeInfo(
        peer_id=node.identity.peer_id,
        name=node.options.name,
        role=node.options.role,
        version=__version__,
        pid=os.getpid(),
        started=node.started,
        directory=str(node.paths.directory),
        addresses=node.swarm.addresses if node.swarm else (),
        loop_lag=node.lag.worst,
        state=state,
        state_why=why,
        paused_until=facts.hold.until if facts.hold and state in ("paused", "finishing") else None,
    )


def _named(node: "Node") -> ProjectInfo:
    """All that a ticket says of its project."""
    return ProjectInfo(node.options.ticket.name, node.options.ticket.root.hex(), 0, "", "", (), 0, 0)


def _project(member: "Member", now: float) -> ProjectInfo:
    ledger = member.ledger
    project = ledger.project
    works = [ledger.work_of(stage) for stage in project.stages]
    errors = sum(contribution.errors for contribution in member.contributions)
    return ProjectInfo(
        title=project.title,
        id=project.hash.hex(),
        manifest=project.manifest.version,
        signed_by=peer_id_of(project.manifest_envelope.author),
        model=project.stages[0].task.model.name,
        prompts=tuple(prompt.text for prompt in project.stages[0].task.prompts),
        stages=tuple(_stage(ledger, stage) for stage in project.stages),
        paused=project.plan.paused is True,
        images=project.images,
        chunks=len(project.counts),
        done=sum(work.rows.total for work in works),
        wanted=sum(work.rows.total + work.rows.lacking for work in works),
        chunks_done=min(map(_chunks_done, works)),
        captions=ledger.items_done - errors,
        errors=errors,
        held=sum(contribution.held for contribution in member.contributions),
        finished=ledger.finished,
        checkpoint=ledger.seals.head,
        sealed=len(ledger.seals.by_id),
        warnings=member.warnings(now),
        failures=member.failures,
    )


def _stage(ledger: Ledger, stage: Stage) -> StageInfo:
    work, prompts = ledger.work_of(stage), tuple(prompt.text for prompt in stage.task.prompts)
    done, finished = work.rows.total, work.rows.complete
    audited = stage.task.tid in ledger.project.audits
    return StageInfo(stage.name, stage.task.model.name, prompts, done, finished, stage.paused is True, audited)


def _chunks_done(work: Work) -> int:
    return sum(1 for chunk in work.done if not work.missing(chunk))


def engine_info(member: "Member", now: float) -> EngineInfo:
    """The engines at `now`, and what they did so far, which stays while they are away or load again."""
    engines, worker = member.engines, member.worker
    average = member.volunteering.rate.average() if member.volunteering else 0.0
    if engines is None:
        return EngineInfo(average=average)
    if engines.pool is None:
        return EngineInfo("starting", engines.preparing, average=average)
    state, units = engines.pool.state, engines.units()
    phase = "captioning" if state.phase == "ready" and worker is not None and worker.in_flight else state.phase
    return EngineInfo(
        phase=phase,
        detail=state.detail,
        device=state.device,
        rate=worker.rate.current(now) if worker else 0.0,
        average=average,
        in_flight=worker.in_flight if worker else 0,
        restarts=state.restarts,
        tokens=sum(unit.tokens for unit in units),
        running=state.load.running,
        waiting=state.load.waiting,
        kv=state.load.kv,
        notices=engines.notices,
        first_caption=member.first_caption,
        units=units,
    )


def _audit(member: "Member") -> AuditInfo:
    watch, auditing = member.watch, member.auditing
    if watch is None or auditing is None:
        return AuditInfo()
    counts = auditing.counts
    unsure = counts["unsure"] + counts["differs"]
    return AuditInfo(watch.is_verifier, counts["ok"], counts["bad"], unsure, watch.waiting)


def _network(state: NetworkState) -> NetworkInfo:
    """The swarm's own view without its counters; what it calls infinite is no limit here."""
    shared = {field.name for field in fields(NetworkState)} & set(NetworkInfo.__struct_fields__)
    limits = [rate if rate < math.inf else None for rate in (state.upload, state.download)]
    return NetworkInfo(
        **{name: getattr(state, name) for name in shared}, upload_limit=limits[0], download_limit=limits[1]
    )


def _counts(counters: Counters) -> tuple[CountInfo, ...]:
    requests = {"asked": counters.asked, "served": counters.served}
    others = {"gossip": counters.gossip, "reconciliations": counters.reconciliations, "dials": counters.dials}
    closed = {"banned": counters.bans, "trimmed": counters.trimmed, "refused": counters.refused}
    return (
        *(CountInfo(what, end, n, name) for what, of in requests.items() for (name, end), n in of.items()),
        *(CountInfo(what, end, n) for what, of in others.items() for end, n in of.items()),
        *(CountInfo("connections", end, n) for end, n in closed.items()),
    )


def _store(node: "Node", member: "Member") -> StoreInfo:
    return StoreInfo(
        role=member.keeping.role,
        statements=len(member.ledger.index),
        waiting=member.intake.waiting,
        newest=member.ledger.index.newest,
        bodies_missing=len(member.bodies),
        bytes=_size(node.paths.database),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _claims(member: "Member", me: bytes, now: float) -> tuple[ClaimInfo, ...]:
    ledger, worker = member.ledger, member.worker
    held = ledger.claims.of(me)
    if worker is None or held is None or held.tid not in ledger.works:
        return ()
    work = ledger.works[held.tid]
    lease = max(0.0, held.expires - now)
    return tuple(
        ClaimInfo(chunk, work.done.get(chunk, 0).bit_count(), work.size(chunk), lease) for chunk in worker.mine
    )


def _own_standing(member: "Member", role: str, me: bytes) -> StandingInfo | None:
    return standing_info(member.ledger.trust, me) if role == "volunteer" else None


def _contradictions(ledger: Ledger) -> tuple[ContradictionInfo, ...]:
    return tuple(
        ContradictionInfo(
            one.batch.hex(),
            peer_id_of(ledger.results[one.batch][0]),
            one.items.bit_count(),
            tuple(map(peer_id_of, one.bad)),
            tuple(map(peer_id_of, one.ok)),
        )
        for one in ledger.trust.contradictions[:CONTRADICTIONS]
    )
