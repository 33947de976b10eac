"""A joiner's first minutes: from a ticket to a verified project and a grant of its own.

The ticket pins the root's hash, so it does not matter which peer hands over root, manifest and plan.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from p2pcap.codec import MAX_BLOB
from p2pcap.envelope import MAX_ENVELOPE, Envelope, open_envelope, seal
from p2pcap.errors import CodecError, StoreError, TicketError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.ledger.grants import grant_for
from p2pcap.node.change import Change
from p2pcap.node.fetching import fetch_one, hash_holds
from p2pcap.project.opened import Project, open_manifest, open_project, open_root, payload_hash
from p2pcap.project.ticket import Ticket
from p2pcap.store.store import Store
from p2pcap.store.writes import PutProject
from p2pcap.swarm.swarm import Swarm

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
        await trio.Path(file).write_text(f"{ticket}\n")
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
    told = {(s.manifest_version, s.manifest) for s in statuses if s.root == ticket.root and s.manifest_version}
    for _, manifest_hash in sorted(told, reverse=True):
        root = await _statement(swarm, ticket.root)
        manifest = await _statement(swarm, manifest_hash)
        if root is None or manifest is None:
            continue
        try:
            named = open_manifest(manifest, open_root(root, ticket.root), ticket.root)
            plan = await fetch_one(swarm, named.plan, hash_holds, min(named.length, MAX_BLOB))
            if plan is not None:
                return open_project(root, manifest, plan, ticket.root)
        except UntrustedError as error:
            log.warning("project refused", reason=str(error))
    return None


async def _statement(swarm: Swarm, hash_: bytes) -> Envelope | None:
    def verify(wanted: bytes, data: bytes) -> bool:
        try:
            return payload_hash(open_envelope(data)) == wanted
        except CodecError:
            return False

    data = await fetch_one(swarm, hash_, verify, MAX_ENVELOPE)
    return open_envelope(data) if data is not None else None


def own_grant(identity: Identity, ticket: Ticket, project: Project, name: str) -> Envelope:
    """This node's admission, signed with the ticket's key. Raises TicketError when the ticket no longer admits."""
    now = int(time.time())
    ticket_key = Identity.from_seed(ticket.seed)
    if now > ticket.invite.expires:
        raise TicketError("The ticket has expired. Ask the maintainer for a new one.")
    if ticket.invite.key != ticket_key.public or not ticket.invite.holds(project.m, project.coordinators):
        raise TicketError(
            "The ticket's invitation is not signed by the project's coordinator. Ask the maintainer for a new one."
        )
    return seal(ticket_key, "grant", grant_for(identity, project.m, name, now, ticket.invite))
