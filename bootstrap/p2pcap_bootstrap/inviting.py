"""Invitations: tickets with keys of their own, so that each can be counted, limited and revoked alone.

    tickets/<label>.ticket     the ticket's text; mode 0600, because whoever reads it may join

Always holds: a ticket's file is created whole, readable by its owner only, and never overwritten.
"""

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2pcap.envelope import open_envelope
from p2pcap.errors import CodecError, ConfigError, TicketError
from p2pcap.identity import Identity
from p2pcap.paths import NodePaths
from p2pcap.project.opened import coordinators
from p2pcap.project.ticket import LATEST, MAX_USES, SECRET, Invitation, Ticket
from p2pcap.project.ticket_text import MAX_TEXT
from p2pcap.swarm.addresses import parse_endpoint
from p2pcap.whole_file import sync
from p2pcap_bootstrap.folder import refusals
from p2pcap_bootstrap.workspace import Workspace

DAY = 86_400
SUFFIX = ".ticket"
LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")

GRANTS = "SELECT envelope FROM statement WHERE kind = 'grant'"
"""What is asked of the coordinator's table to count who joined."""

MAX_GRANTS = 1_000_000


@dataclass(frozen=True)
class Kept:
    """A ticket in the maintainer's folder."""

    label: str
    path: Path
    ticket: Ticket


def make(workspace: Workspace, label: str, uses: int, days: float | None, addresses: Sequence[str], now: float) -> Kept:
    """A new ticket that admits `uses` authors (0: MAX_USES) for so many days, or until the manifest expires, kept as
    `label`, or as the first of "ticket-1", "ticket-2" … that is free. Raises ConfigError, KeyFileError, UntrustedError.
    """
    project = workspace.project()
    if project.plan.policy.admits == "allowlist":
        raise ConfigError(
            f"This project admits only whom you admit by name. Run: p2pcap grant {workspace.directory} PEERID"
        )
    label = label or _free(workspace)
    if not LABEL.fullmatch(label):
        raise ConfigError(f"{label[:64]!r} is no label. Take up to 32 of a-z, 0-9, '.', '_' and '-'.")
    expires = project.manifest.expires if days is None else int(now + days * DAY)
    if not now < expires <= LATEST:
        raise ConfigError("The ticket would have expired already, or never would. Choose other --expires DAYS.")
    told = tuple(_complete(workspace, address) for address in addresses) or earlier_addresses(workspace)
    invitation = Invitation.of(secrets.token_bytes(SECRET), workspace.coordinator(), project.m, expires, uses)
    ticket = Ticket(project.title, project.hash, invitation).naming(told)
    path = _path(workspace, label)
    _write_new(path, f"{ticket}\n")
    return Kept(label, path, ticket)


def kept(workspace: Workspace) -> list[Kept]:
    """The tickets in the folder, by label. Raises TicketError for a file that holds none."""
    found = sorted((workspace.directory / "tickets").glob(f"*{SUFFIX}"))
    return [Kept(path.name.removesuffix(SUFFIX), path, _read(path)) for path in found]


def joined(grants: Iterable[bytes]) -> dict[bytes, int]:
    """By ticket key, how many authors joined with it; `grants` are the envelopes in the coordinator's table."""
    counts: dict[bytes, int] = {}
    for data in grants:
        try:
            signer = open_envelope(data).author
        except CodecError as error:
            raise ConfigError(f"The coordinator's table holds a damaged grant: {error} Run: p2pcap fsck") from error
        counts[signer] = counts.get(signer, 0) + 1
    return counts


def listed(
    workspace: Workspace, tickets: Iterable[Kept], counts: dict[bytes, int], now: float
) -> Iterator[tuple[object, ...]]:
    """A row for each ticket: label, authors who joined, how many may, days that are left, addresses. Raises
    UntrustedError, ConfigError when nothing is signed."""
    for one in tickets:
        invitation = one.ticket.invitation
        assert invitation is not None
        most = invitation.uses or "any"
        left = _left(invitation, one.ticket.root[:8], coordinators(workspace.root_in_force()), now)
        yield one.label, counts.get(invitation.key.public, 0), most, left, len(one.ticket.addresses)


def _left(invitation: Invitation, m: bytes, keys: frozenset[bytes], now: float) -> object:
    """The days in which an invitation admits; or that it does so no more, as no coordinator's key of the root in force
    signed it."""
    if invitation.invite(m, keys) is None:
        return "ended: its key was replaced"
    return max(round((invitation.expires - now) / DAY, 1), 0.0)


def earlier_addresses(workspace: Workspace) -> tuple[str, ...]:
    """The addresses of the newest ticket in the folder."""
    named = [one for one in kept(workspace) if one.ticket.addresses]
    newest = max(named, key=lambda one: one.path.stat().st_mtime, default=None)
    return newest.ticket.addresses if newest is not None else ()


def _complete(workspace: Workspace, address: str) -> str:
    """The address with the coordinator's peer id, unless it names a peer. Raises ConfigError, SwarmError."""
    if "/p2p/" not in address.removesuffix("/p2p-circuit") and not address.startswith("/dnsaddr/"):
        key = NodePaths(workspace.node).key
        if not key.exists():
            raise ConfigError(
                f"{address} names no peer, and the coordinator has not run here yet. Add /p2p/ and its peer id."
            )
        address = f"{address}/p2p/{Identity.load(key).peer_id}"
    if not address.startswith("/dnsaddr/"):
        parse_endpoint(address)
    return address


def _free(workspace: Workspace) -> str:
    number = 1
    while _path(workspace, f"ticket-{number}").exists():
        number += 1
    return f"ticket-{number}"


def _path(workspace: Workspace, label: str) -> Path:
    return workspace.directory / "tickets" / f"{label}{SUFFIX}"


def _read(path: Path) -> Ticket:
    try:
        with path.open(errors="replace") as file:
            ticket = Ticket.parse(file.read(MAX_TEXT))
    except OSError as error:
        raise TicketError(f"{path} cannot be read: {error.strerror}. Check its owner and mode.") from error
    except TicketError as error:
        raise TicketError(f"{path}: {error}") from error
    if ticket.invitation is None:
        raise TicketError(f"{path} carries no invitation. Move it away: that folder is for those that p2pcap made.")
    return ticket


def _write_new(path: Path, text: str) -> None:
    """Raises ConfigError, also when there is such a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with refusals(path.parent):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write(temporary, text.encode())
            try:
                os.link(temporary, path)  # never replaces another, as a rename would
            except FileExistsError as error:
                raise ConfigError(f"There is a ticket called {path.stem} already. Choose another --name.") from error
            sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


__all__ = ["DAY", "GRANTS", "MAX_GRANTS", "MAX_USES", "Kept", "earlier_addresses", "joined", "kept", "listed", "make"]
