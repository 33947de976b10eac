"""Rulings from the maintainer's folder: who is meant, what it would change, signed, and on its way to the swarm.

What a ruling changes is worked out by the coordinator's node, when it runs, and else from its database. A signed
statement lies in the folder "outbox" until the coordinator's node holds it. When that does not run, any peer that
answers is told at once, and the next `bootstrap serve` takes it in: the peer may have left by then.

Always holds: what was signed is not lost, whatever is killed, unless the coordinator's node refuses it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from p2pcap.codec import decode
from p2pcap.envelope import MAX_ENVELOPE, Envelope, open_envelope
from p2pcap.errors import CodecError, ConfigError
from p2pcap.identity import Identity, public_half
from p2pcap.ledger.drafting import Asked, RedactAsked
from p2pcap.ledger.judgement import Verdict
from p2pcap.ledger.rulings import Ban
from p2pcap.ledger.state import Ledger
from p2pcap.ledger.validate import validate
from p2pcap.node import drafts
from p2pcap.node.client import Client
from p2pcap.node.drafts import Draft
from p2pcap.node.restart import rebuild
from p2pcap.node.submitting import MAX_SUBMITTED
from p2pcap.paths import NodePaths, RunningNode, running_node
from p2pcap.project.items import Item
from p2pcap.project.opened import Project, coordinators, open_list
from p2pcap.project.ticket import Ticket
from p2pcap.whole_file import replace_whole
from p2pcap_bootstrap.folder import refusals
from p2pcap_bootstrap.serving import make_ticket
from p2pcap_bootstrap.workspace import Workspace


@dataclass(frozen=True)
class Delivery:
    """Where statements went: how many the coordinator's `node` holds, how many a `peer` and the outbox, how many only
    the outbox (`kept`), and why some were `refused`."""

    node: int = 0
    peer: int = 0
    kept: int = 0
    refused: tuple[str, ...] = ()


# what it would change


def draft(workspace: Workspace, asked: Asked, signer: bytes, now: float) -> Draft:
    """The ruling asked for, as `signer` would sign it at `now`, and what it would change. Raises ConfigError."""
    asked = drafts.decode_asked(msgspec.to_builtins(asked))
    node = running_node(workspace.node)
    if node is not None:
        with Client(node.socket) as client:
            return drafts.decode_draft(client.draft(msgspec.to_builtins(asked), signer.hex()))
    project = workspace.project()
    if not has_table(workspace):
        ledger = _with_outbox(Ledger(project), workspace, now)
        return drafts.draft(ledger, asked, signer)
    return _from_file(workspace, project, asked, signer, now)


def has_table(workspace: Workspace) -> bool:
    """Whether the coordinator's node has run here: without its database nobody is known by name."""
    return NodePaths(workspace.node).database.exists()


def _from_file(workspace: Workspace, project: Project, asked: Asked, signer: bytes, now: float) -> Draft:
    from p2pcap.store.database import reading
    from p2pcap.store.reads import load

    with reading(NodePaths(workspace.node).database) as readers, readers.lend() as cursor:
        asked = drafts.with_places(cursor, asked)
        ledger = _with_outbox(rebuild(load(cursor), project), workspace, now)
        made = drafts.draft(ledger, asked, signer)
        return drafts.with_captions(cursor, made)


def _with_outbox(ledger: Ledger, workspace: Workspace, now: float) -> Ledger:
    """The ledger as it will be once what waits in the outbox is handed in."""
    for envelope in Outbox(workspace).waiting():
        judgement = validate(ledger, envelope.data, now)
        if judgement.verdict is Verdict.ACCEPT:
            ledger.add(envelope, judgement.record)
    return ledger


def sign(coordinator: Identity, draft: Draft) -> list[Envelope]:
    """The draft's statements, signed."""
    return [
        Envelope(made.kind, made.payload, coordinator.public, coordinator.sign(made.kind, made.payload))
        for made in draft.statements
    ]


def against_own(workspace: Workspace, draft: Draft) -> str:
    """What a draft would turn against that is the maintainer's own, in words; empty for nothing."""
    bans = [decode(made.payload, Ban) for made in draft.statements if made.kind == "ban"]
    banned, node = {ban.author for ban in bans if ban.scope != "none"}, NodePaths(workspace.node).key
    if banned & coordinators(workspace.root_in_force()):
        return "this is the coordinator's own key"
    if node.exists() and public_half(node) in banned:
        return "this is the key of the coordinator's own node"
    return ""


def retire_ticket(workspace: Workspace, key: bytes) -> bool:
    """Put the key of the folder's own ticket aside when `key`, which is revoked, is that ticket's: the next serve makes
    another. Whether it was. Raises ConfigError when the disk refuses."""
    invitation = make_ticket(workspace, workspace.project()).invitation
    if invitation is None or invitation.key.public != key:
        return False
    with refusals(workspace.ticket_key.parent):
        workspace.ticket_key.rename(workspace.ticket_key.with_name(f"ticket-{key.hex()[:16]}.revoked"))
    return True


# images by their names


def find_images(workspace: Workspace, project: Project, names: Sequence[str], reason: str, time: int) -> RedactAsked:
    """The question that redacts the images of these names: CHUNK:ITEM, the SHA-256 of the bytes, or the key.

    Raises ConfigError for a name that no image has, UntrustedError when an item list is gone.
    """
    placed = {name: place for name in names if (place := _as_place(name)) is not None}
    hashes = {bytes.fromhex(name) for name in names if _is_hash(name)}
    keys = {name for name in names if name not in placed and not _is_hash(name)}
    places, seen = dict.fromkeys(placed.values()), set[str | bytes]()
    for place, item in _items(workspace, project) if keys or hashes else ():
        if item.key in keys or item.hash in hashes:
            places[place] = None
            seen |= {item.key, item.hash}
    if unknown := sorted(keys - seen):
        raise ConfigError(f"No image of the project has the key {unknown[0]!r}. See `key` in p2pcap query.")
    images = tuple(hash_.hex() for hash_ in sorted(hashes - seen))
    return RedactAsked(tuple(places), images, reason=reason, time=time)


def _items(workspace: Workspace, project: Project) -> Iterator[tuple[tuple[int, int], Item]]:
    lists = workspace.lists(project)
    for number, chunk in enumerate(project.chunks(lists.__getitem__)):
        for offset, item in enumerate(open_list(lists[chunk.items], chunk).items):
            yield (number, offset), item


def _as_place(name: str) -> tuple[int, int] | None:
    chunk, mark, item = name.partition(":")
    return (int(chunk), int(item)) if mark and chunk.isdecimal() and item.isdecimal() and len(name) < 16 else None


def _is_hash(name: str) -> bool:
    try:
        return len(bytes.fromhex(name)) == 32 and len(name) == 64
    except ValueError:
        return False


# on its way


class Outbox:
    """Signed statements that nobody is known to hold yet, a file each, in the order in which they were signed."""

    def __init__(self, workspace: Workspace) -> None:
        self.folder = workspace.directory / "outbox"

    def put(self, envelopes: Sequence[Envelope], now: float) -> list[Path]:
        """Write them to disk. Raises ConfigError when the disk refuses, and then none is there."""
        paths = [self.folder / _name(envelope, now, number) for number, envelope in enumerate(envelopes)]
        written: list[Path] = []
        try:
            with refusals(self.folder):
                self.folder.mkdir(mode=0o700, exist_ok=True)
                for path, envelope in zip(paths, envelopes, strict=True):
                    replace_whole(path, envelope.data)
                    written.append(path)
        except ConfigError:
            self.remove(written)
            raise
        return paths

    def remove(self, paths: Sequence[Path]) -> None:
        """These are where they belong. Raises ConfigError when the disk refuses."""
        with refusals(self.folder):
            for path in paths:
                path.unlink(missing_ok=True)

    def waiting(self) -> Iterator[Envelope]:
        """What lies there, in order. What is no statement is passed over; whoever hands it in says so."""
        for path in sorted(self.folder.glob("*.cbor")):
            try:
                with path.open("rb") as file:
                    yield open_envelope(file.read(MAX_ENVELOPE + 1))
            except (OSError, CodecError):
                continue


def _name(envelope: Envelope, now: float, number: int) -> str:
    """In the order of names the earlier comes first, however quickly one command follows another."""
    return f"{int(now * 1e6):018d}-{number:06d}-{envelope.kind}-{envelope.id.hex()[:16]}.cbor"


def hand_over(workspace: Workspace, envelopes: Sequence[Envelope], peers: Sequence[str], now: float) -> Delivery:
    """Hand signed statements to the swarm: to the coordinator's node, or to one of `peers` (multiaddrs) or of those its
    node remembers. Raises ConfigError when the disk refuses."""
    outbox = Outbox(workspace)
    paths = outbox.put(envelopes, now)
    node = running_node(workspace.node)
    if node is not None:
        return _to_node(node, outbox, envelopes, paths)
    held = _to_peers(workspace, envelopes, peers, now)
    return Delivery(peer=len(held), kept=len(envelopes) - len(held))


def _to_node(node: RunningNode, outbox: Outbox, envelopes: Sequence[Envelope], paths: Sequence[Path]) -> Delivery:
    held, refused = 0, []
    for start in range(0, len(envelopes), MAX_SUBMITTED):
        page = envelopes[start : start + MAX_SUBMITTED]
        with Client(node.socket) as client:
            outcomes = client.submit([envelope.data for envelope in page])
        outbox.remove(paths[start : start + len(page)])
        held += sum(took for took, _ in outcomes)
        refused += [reason for took, reason in outcomes if not took]
    return Delivery(node=held, refused=tuple(dict.fromkeys(refused)))


def _to_peers(
    workspace: Workspace, envelopes: Sequence[Envelope], peers: Sequence[str], now: float
) -> frozenset[bytes]:
    """The ids of those that some peer holds now. Raises SwarmError for an address in `peers` that is none."""
    from p2pcap.node.delivering import deliver, remembered

    paths = NodePaths(workspace.node)
    known = (*peers, *remembered(paths, now))
    if not known:
        return frozenset()
    project = workspace.project()
    return deliver(Ticket(project.title, project.hash, None), known, envelopes, paths.log)
