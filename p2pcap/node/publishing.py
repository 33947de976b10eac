"""Handing a newer manifest to a running swarm without a node of one's own: as a guest that says it has one.

Peers hear of it in the guest's status, fetch it with all that it names, check it, and hand it on.

Always holds: what is told to be taken up is in force at some peer, which said so. Nothing waits longer than the caller
says.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import trio

from p2pcap.errors import SwarmError
from p2pcap.node.delivering import DELIVER_WITHIN
from p2pcap.node.following import not_newer
from p2pcap.node.guest import GuestService, Visit, visit
from p2pcap.node.joining import acquire_project
from p2pcap.node.logs import log_to
from p2pcap.node.run import first_error
from p2pcap.paths import NodePaths
from p2pcap.project.opened import Project
from p2pcap.project.ticket import Ticket
from p2pcap.swarm.messages import Status
from p2pcap.swarm.service import Kind


class Publisher(GuestService):
    """A guest that has a project, and hands its parts to whoever asks."""

    def __init__(self, ticket: Ticket, project: Project, lists: Mapping[bytes, bytes]) -> None:
        super().__init__(ticket)
        self._project = project
        self._lists = lists
        self._parts = {
            project.root_envelope.payload_hash: project.root_envelope.data,
            project.manifest_envelope.payload_hash: project.manifest_envelope.data,
            project.manifest.plan: project.plan_data,
        }
        if project.manifest.roots:
            self._parts[project.manifest.roots.hash] = project.roots_data

    def status(self) -> Status:
        """Which manifest it has."""
        root, manifest = self._project.version
        return msgspec.structs.replace(
            super().status(),
            root_version=root,
            manifest_version=manifest,
            manifest=self._project.manifest_envelope.payload_hash,
        )

    async def content(self, kind: Kind, hash: bytes) -> bytes | Path | None:
        """Roots, manifest, plan and item lists."""
        if kind != "blob":
            return None
        if hash in self._parts or hash not in self._lists:
            return self._parts.get(hash)
        return await trio.to_thread.run_sync(self._lists.__getitem__, hash)


def publish(
    ticket: Ticket,
    project: Project,
    lists: Mapping[bytes, bytes],
    peers: Sequence[str],
    log_file: Path,
    seconds: float = DELIVER_WITHIN,
) -> int:
    """Have one of `peers` (multiaddrs), of the ticket's, or of those they know take up the project. How many say then
    that they have it; 0 when nobody says anything in time.

    Raises SwarmError for an address that is none, and when nobody took it up because they have a newer one, or another
    of its version.
    """
    log_to(log_file)
    try:
        return trio.run(_publish, ticket, Publisher(ticket, project, lists), project, peers, seconds)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def _publish(ticket: Ticket, service: Publisher, project: Project, peers: Sequence[str], seconds: float) -> int:
    said: list[Status] = []
    with tempfile.TemporaryDirectory(prefix="p2pcap-") as folder:
        with trio.move_on_after(seconds):
            async with visit(ticket, NodePaths(Path(folder)), peers, service) as guest:
                while not _having(said := _statuses(guest), project):
                    await guest.peers_changed.wait()
    held = max(((status.root_version, status.manifest_version) for status in said), default=(0, 0))
    if not (count := _having(said, project)) and held >= project.version:
        raise SwarmError(not_newer(held, project.version))
    return count


def _statuses(guest: Visit) -> list[Status]:
    return [peer.status for peer in guest.swarm.peers() if peer.status is not None]


def _having(said: Sequence[Status], project: Project) -> int:
    """How many peers say that they have it."""
    return sum(status.manifest == project.manifest_envelope.payload_hash for status in said)


def look(ticket: Ticket, peers: Sequence[str], folder: Path, seconds: float) -> Project | None:
    """The ticket's project as the swarm has it now, None when no peer hands it over in time. `folder` is empty, and of
    no use afterwards. Raises SwarmError for an address that is none."""
    log_to(folder / "look.jsonl")
    try:
        return trio.run(_look, ticket, peers, folder, seconds)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def _look(ticket: Ticket, peers: Sequence[str], folder: Path, seconds: float) -> Project | None:
    with trio.move_on_after(seconds):
        async with visit(ticket, NodePaths(folder), peers) as guest:
            return await acquire_project(guest.swarm, ticket, guest.peers_changed, lambda text: None)
    return None
