"""The peers that are connected, this node on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from textual import work

from p2pcap.cli.amounts import duration, size
from p2pcap.errors import P2pcapError
from p2pcap.node.client import Client
from p2pcap.node.snapshot import NodeSnapshot, PeerInfo, PeerPage
from p2pcap_tui.dialogs import Details
from p2pcap_tui.feed import Found
from p2pcap_tui.row_lines import Column, Row, Rows
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.views.paged import MOST, PagedView
from p2pcap_tui.words import Line, Span, short

COLUMNS = (
    Column("name", 10, grows=True, sort="name"),
    Column("peer", 9, sort="peer"),
    Column("role", 11, least=60, sort="role"),
    Column("engine", 7, least=90, sort="engine"),
    Column("way", 10, least=60, sort="way"),
    Column("rtt", 7, right=True, sort="rtt"),
    Column("in/s", 9, right=True, least=120),
    Column("out/s", 9, right=True, least=120),
    Column("received", 9, right=True, least=100, sort="received"),
    Column("sent", 9, right=True, least=100, sort="sent"),
    Column("score", 6, right=True, least=80, sort="score"),
    Column("since", 7, right=True, least=80, sort="since"),
)

LAST = 3
"""Captions of a peer that its details show."""

Moved = Mapping[str, tuple[float, float]]
"""Bytes a second that came from a peer and went to it, by peer id."""


@dataclass(frozen=True)
class Seen:
    """A page, and when it came (unix seconds)."""

    at: float
    page: PeerPage


def moved(before: Seen | None, now: Seen) -> Moved:
    """What the peers on both pages moved in between."""
    if before is None or now.at <= before.at:
        return {}
    seconds, old = now.at - before.at, {peer.peer_id: peer for peer in before.page.rows}
    return {
        peer.peer_id: ((peer.received - was.received) / seconds, (peer.sent - was.sent) / seconds)
        for peer in now.page.rows
        if (was := old.get(peer.peer_id)) is not None
    }


def peer_rows(page: PeerPage, snapshot: NodeSnapshot | None, moving: Moved, now: float) -> Rows:
    """The table's rows at `now`, this node's first."""
    own = [_own(snapshot)] if snapshot is not None else []
    return Rows(own, page.rows, lambda peer: _row(peer, moving, now))


def _own(snapshot: NodeSnapshot) -> Row:
    node, network = snapshot.node, snapshot.network
    ready = any(unit.phase in ("ready", "captioning") for unit in snapshot.engine.units)
    cells = [
        node.name or "-", short(node.peer_id), node.role, "✓ ready" if ready else "", "this node", "", "", "",
        size(network.received), size(network.sent), "", duration(snapshot.uptime).split()[0],
    ]  # fmt: skip
    return Row(node.peer_id, tuple((cell, "strong") for cell in cells))


def _row(peer: PeerInfo, moving: Moved, now: float) -> Row:
    came, went = moving.get(peer.peer_id, (None, None))
    cells: tuple[Span, ...] = (
        (peer.name or "-", "" if peer.name else "dim"),
        (short(peer.peer_id), "dim"),
        (peer.role, ""),
        ("✓ ready" if peer.engine_ready else "", "good"),
        (way(peer), "warn" if peer.relayed else ""),
        (f"{1000 * peer.rtt:.0f} ms" if peer.rtt is not None else "", ""),
        (size(came) if came is not None else "", ""),
        (size(went) if went is not None else "", ""),
        (size(peer.received), ""),
        (size(peer.sent), ""),
        (f"{peer.score:g}", "bad" if peer.score < 0 else "dim"),
        (duration(now - peer.since).split()[0], "dim"),
    )
    return Row(peer.peer_id, cells)


def way(peer: PeerInfo) -> str:
    """Who dialled, and whether another peer carries it: "relayed in"."""
    return f"{'relayed' if peer.relayed else 'direct'} {peer.direction}"


def details(peer: PeerInfo, now: float) -> list[Line]:
    """Everything that is known of a peer."""
    told = [
        ("name", peer.name or "none"),
        ("peer", peer.peer_id),
        ("role", peer.role or "not told"),
        ("engine", "ready" if peer.engine_ready else "not ready"),
        ("address", peer.address or "not known"),
        ("way", way(peer)),
        ("round trip", f"{1000 * peer.rtt:.1f} ms" if peer.rtt is not None else "not measured"),
        ("connected", f"{duration(now - peer.since)} ago"),
        ("received", size(peer.received)),
        ("sent", size(peer.sent)),
        ("score", f"{peer.score:g}" + ("" if peer.score >= 0 else " (it misbehaved)")),
    ]
    return [[(f"{label:<12}", "dim"), (text, "")] for label, text in told]


def last_captions(peer_id: str) -> str:
    """The SELECT for what it captioned last."""
    author = peer_id.replace("'", "''")
    return f"SELECT key, caption, error FROM captions WHERE author = '{author}' ORDER BY time DESC LIMIT {LAST}"


def caption_lines(found: Found) -> list[Line]:
    """What the SELECT found, below the details."""
    if not found.rows:
        return [[], [("no captions of it here", "dim")]]
    lines: list[Line] = [[], [("last captions", "strong")]]
    for key, caption, error in found.rows:
        lines.append([(f"{key}  ", "dim"), (str(caption) if caption is not None else f"error: {error}", "")])
    return lines


class Peers(PagedView):
    """The table."""

    NAME, DIGIT, TITLE = "peers", "2", "Peers"
    ABOUT = "who is connected, how, and how fast"
    COLUMNS, EVERY = COLUMNS, 2.0
    DOWN = frozenset({"engine", "received", "sent"})

    def __init__(self) -> None:
        super().__init__()
        self._seen: Seen | None = None

    async def rows(self) -> Sequence[Row]:
        """A page of peers."""
        sort, down, sought = self.sort, self.down, self.sought

        def question(client: Client) -> PeerPage:
            page = client.page("peers", sort=sort, down=down, sought=sought, most=MOST)
            return msgspec.json.decode(page, type=PeerPage)

        seen = Seen(self.moment.now, await self.feed.ask(question))
        moving, self._seen = moved(self._seen, seen), seen
        return peer_rows(seen.page, self.moment.snapshot, moving, seen.at)

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """Details of the peer."""
        rows = self._seen.page.rows if self._seen else ()
        peer = next((peer for peer in rows if peer.peer_id == event.row.id), None)
        if peer is not None:
            screen = Details(peer.name or peer.peer_id, details(peer, self.moment.now))
            self.ui.push_screen(screen)
            self._add_captions(screen, peer.peer_id)

    @work(exclusive=True, group="captions")
    async def _add_captions(self, screen: Details, peer_id: str) -> None:
        try:
            screen.add(caption_lines(await self.feed.select(last_captions(peer_id), LAST)))
        except P2pcapError as error:
            screen.add([[], [(str(error), "warn")]])
