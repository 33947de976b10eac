"""A joiner's first minutes: from a ticket to a verified project and a grant of its own.

The ticket pins the root's hash, so it does not matter which peer hands over root, manifest and plan.
"""

import math
from collections.abc import Callable
from pathlib import Path

import structlog
import trio
from msgspec import UNSET

from p2pcap.codec import MAX_BLOB
from p2pcap.envelope import MAX_ENVELOPE, Envelope, open_envelope
from p2pcap.errors import CodecError, StoreError, UntrustedError
from p2pcap.node.change import Change
from p2pcap.node.fetching import fetch_one, hash_holds
from p2pcap.project.opened import (
    Project,
    check_manifest,
    open_project,
    payload_hash,
    read_manifest,
    root_in_force,
)
from p2pcap.project.ticket import Ticket
from p2pcap.store.store import Store
from p2pcap.store.writes import PutProject
from p2pcap.swarm.swarm import Swarm
from p2pcap.whole_file import replace_whole

FIRST_CONTACT = 20.0
"""Seconds without any peer after which a first joiner says what may be wrong."""

ANSWER_WITHIN = 15.0
"""As FIRST_CONTACT, when there are peers and none of them hands the project over."""

log = structlog.get_logger()


async def acquire_project(swarm: Swarm, ticket: Ticket, peers_changed: Change, say: Callable[[str], None]) -> Project:
    """The ticket's project, from whichever peer has it, however long that takes.

    Says once what is wrong when no peer connects within FIRST_CONTACT seconds, or none of those that do hands the
    project over within ANSWER_WITHIN.
    """
    patience = trio.current_time() + FIRST_CONTACT
    while True:
        project = await _from_peers(swarm, ticket)
        if project is not None:
            return project
        if swarm.peers():
            patience = min(patience, trio.current_time() + ANSWER_WITHIN)
        if trio.current_time() >= patience:
            say(_trouble(swarm, ticket))
            patience = math.inf
        with trio.move_on_after(1):
            await peers_changed.wait()


async def keep_project(store: Store, project: Project, ticket: Ticket, file: Path, now: float) -> None:
    """Make the project durable, and the ticket in its `file`, so that the node can go on without any peer. Raises
    StoreError."""
    await store.commit(PutProject(project, now))
    try:
        await trio.to_thread.run_sync(replace_whole, file, f"{ticket}\n".encode())
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}. See that there is room.") from error


def _trouble(swarm: Swarm, ticket: Ticket) -> str:
    if swarm.peers():
        return (
            "The peers that answer do not serve this ticket's project. Ask the maintainer for a new ticket, or wait: "
            "this node goes on trying."
        )
    where = ", ".join(ticket.addresses) or "no address at all"
    return (
        f"No peer of the project answers (the ticket names {where}). Check that the coordinator runs and that you are "
        "online, or name a peer with --peer. This node goes on trying."
    )


async def _from_peers(swarm: Swarm, ticket: Ticket) -> Project | None:
    statuses = [peer.status for peer in swarm.peers() if peer.status is not None]
    told = {(s.root_version, s.manifest_version, s.manifest) for s in statuses if s.root == ticket.root}
    for _, version, manifest_hash in sorted(told, reverse=True):
        if version:
            try:
                project = await fetch_project(swarm, ticket.root, manifest_hash)
            except UntrustedError as error:
                log.warning("project refused", reason=str(error))
                continue
            if project is not None:
                return project
    return None


async def fetch_project(swarm: Swarm, expected: bytes, manifest_hash: bytes) -> Project | None:
    """The project with the root hash `expected` as the manifest with this hash has it, from connected peers; None when
    they do not have all of it now. Raises UntrustedError when what they have does not verify."""
    root = await _statement(swarm, expected)
    manifest = await _statement(swarm, manifest_hash)
    if root is None or manifest is None:
        return None
    named, roots = read_manifest(manifest, expected), b""
    if named.roots is not UNSET:
        found = await fetch_one(swarm, named.roots.hash, hash_holds, named.roots.length)
        if found is None:
            return None
        roots = found
    check_manifest(manifest, root_in_force(root, named, roots, expected))  # a plan may be large: it comes after
    plan = await fetch_one(swarm, named.plan, hash_holds, min(named.length, MAX_BLOB))
    return open_project(root, manifest, plan, expected, roots) if plan is not None else None


async def _statement(swarm: Swarm, hash_: bytes) -> Envelope | None:
    def verify(wanted: bytes, data: bytes) -> bool:
        try:
            return payload_hash(open_envelope(data)) == wanted
        except CodecError:
            return False

    data = await fetch_one(swarm, hash_, verify, MAX_ENVELOPE)
    return open_envelope(data) if data is not None else None
