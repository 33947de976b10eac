"""Handing statements to the swarm without a node of one's own: as a guest that pushes them to a peer and leaves.

Always holds: what is told to be delivered is held by a peer that showed it on request. Nothing waits longer than the
caller says.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog
import trio

from p2pcap.envelope import Envelope
from p2pcap.errors import SwarmError
from p2pcap.identity import Identity
from p2pcap.node.guest import Visit, visit
from p2pcap.node.logs import log_to
from p2pcap.node.run import first_error
from p2pcap.paths import NodePaths
from p2pcap.project.ticket import Ticket
from p2pcap.swarm.discovery.book import load_book
from p2pcap.swarm.messages import STATEMENTS_PAGE

DELIVER_WITHIN = 30.0
"""Seconds in which some peer must have taken what is delivered."""

REMEMBERED = 16
"""Addresses of remembered peers that are tried."""

log = structlog.get_logger()


def remembered(paths: NodePaths, now: float) -> list[str]:
    """Where the peers that the node in `paths` met were reached, likeliest first."""
    own = Identity.load(paths.key).peer_id if paths.key.exists() else ""
    return [str(endpoint) for endpoint in load_book(paths.peers, own, now).start(now)[:REMEMBERED]]


def deliver(
    ticket: Ticket, peers: Sequence[str], envelopes: Sequence[Envelope], log_file: Path, seconds: float = DELIVER_WITHIN
) -> frozenset[bytes]:
    """Hand these to one of `peers` (multiaddrs), of the ticket's, or of those they know. The ids of what it holds then.

    Raises SwarmError for an address that is none.
    """
    log_to(log_file)
    try:
        return trio.run(_deliver, ticket, peers, envelopes, seconds)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def _deliver(
    ticket: Ticket, peers: Sequence[str], envelopes: Sequence[Envelope], seconds: float
) -> frozenset[bytes]:
    held: set[bytes] = set()
    with tempfile.TemporaryDirectory(prefix="p2pcap-") as folder:
        with trio.move_on_after(seconds):
            async with visit(ticket, NodePaths(Path(folder)), peers) as guest:
                await _to_some_peer(guest, envelopes, held)
    return frozenset(held)


async def _to_some_peer(guest: Visit, envelopes: Sequence[Envelope], held: set[bytes]) -> None:
    tried: set[str] = set()
    while len(held) < len(envelopes):
        members = [peer.peer_id for peer in guest.swarm.peers() if peer.status and peer.status.manifest_version]
        new = [peer for peer in members if peer not in tried]
        if not new:
            await guest.peers_changed.wait()
            continue
        tried.add(new[0])
        try:
            held |= await _to_peer(guest, new[0], envelopes)
        except SwarmError as error:
            log.info("not delivered", peer=new[0], reason=str(error))


async def _to_peer(guest: Visit, peer: str, envelopes: Sequence[Envelope]) -> set[bytes]:
    """The ids of those that the peer holds after they were pushed to it."""
    await guest.swarm.push(peer, [envelope.data for envelope in envelopes])
    ids = [envelope.id for envelope in envelopes]
    held: set[bytes] = set()
    for start in range(0, len(ids), STATEMENTS_PAGE):
        shown = set(await guest.swarm.statements(peer, ids[start : start + STATEMENTS_PAGE]))
        held |= {envelope.id for envelope in envelopes if envelope.data in shown}
    return held
