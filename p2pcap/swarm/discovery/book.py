"""Peers remembered from last time, so that a node can come back when whoever was in its ticket is gone.

Only peers that proved to be of this project are remembered, with the addresses they said they can be dialled at. The
book itself is pure; `load_book` and `keep_book` are all that touches the disk.

Always holds: at most MAX_PEERS peers with MAX_ADDRESSES addresses each; the file is replaced whole or not at all; a
damaged file costs the memory in it and nothing else.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import trio
from msgspec import Meta

from p2pcap.errors import SwarmError
from p2pcap.swarm.addresses import MAX_LENGTH, Endpoint, parse_endpoints
from p2pcap.whole_file import replace_whole

MAX_PEERS = 256
MAX_ADDRESSES = 8
FORGET_SECONDS = 60 * 86_400.0
DAY = 86_400.0
TRIED = 7
"""Days on which a peer was met that make it as good as any. Where there is no room, who was met on fewer goes first, so
that newcomers in numbers drive out each other and not those who have been there."""
KEPT = 32
"""Peers, those met on the most days, that are not forgotten for their date."""
NEWS_SECONDS = 3_600.0
"""Meeting a peer again is worth writing down when it was not met for so long."""

MAX_FILE = 1 << 20
"""Bytes. A full book of the longest addresses has two thirds of that."""
SAVE_SECONDS = 30.0

log = structlog.get_logger(__name__)

Unix = Annotated[float, Meta(ge=0, lt=2**40)]


class Remembered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One peer: transport addresses without its id, when it was last met (unix seconds), on how many days."""

    peer: Annotated[str, Meta(max_length=64)]
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=MAX_LENGTH)], ...], Meta(max_length=MAX_ADDRESSES)]
    seen: Unix
    days: Annotated[int, Meta(ge=1, lt=2**31)] = 1


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    peers: Annotated[list[Remembered], Meta(max_length=MAX_PEERS)]


class Book:
    """The peers worth coming back to; times in unix seconds."""

    def __init__(self, own: str, entries: Iterable[Remembered] = ()) -> None:
        self._own = own
        self._entries = {entry.peer: entry for entry in entries if entry.peer != own}
        self.changes = 0
        """How often something worth saving changed since the book was loaded."""

    @property
    def entries(self) -> tuple[Remembered, ...]:
        """Whom to dial first at the next start: by the day they were last met, then by the days they were there."""
        return tuple(sorted(self._entries.values(), key=lambda entry: (-(entry.seen // DAY), -entry.days, entry.peer)))

    def met(self, peer: str, addresses: Sequence[Endpoint], now: float) -> None:
        """`peer` told its status and is of this project; these are all addresses it can be dialled at, best first."""
        transports = dict.fromkeys(endpoint.transport for endpoint in addresses if endpoint.peer == peer)
        if peer == self._own or not transports:
            return
        old = self._entries.get(peer)
        new = Remembered(peer, tuple(transports)[:MAX_ADDRESSES], now, _days(old, now))
        self._entries[peer] = new
        if old is None or old.addresses != new.addresses or now - old.seen > NEWS_SECONDS:
            self.changes += 1
        if len(self._entries) > MAX_PEERS:
            self.forget(min(self._entries.values(), key=lambda entry: (min(entry.days, TRIED), entry.seen)).peer)

    def forget(self, peer: str) -> None:
        """`peer` proved to be of another project, or misbehaved."""
        if self._entries.pop(peer, None) is not None:
            self.changes += 1

    def expire(self, now: float) -> None:
        """Forget whom nobody met for FORGET_SECONDS, but for the KEPT best: it may be the clock that is wrong."""
        best = {entry.peer for entry in sorted(self.entries, key=lambda entry: -entry.days)[:KEPT]}
        for entry in self.entries:
            if now - entry.seen > FORGET_SECONDS and entry.peer not in best:
                self.forget(entry.peer)

    def start(self, now: float) -> list[Endpoint]:
        """What to hand to the dialer at start, likeliest first."""
        self.expire(now)
        texts = (f"{address}/p2p/{entry.peer}" for entry in self.entries for address in entry.addresses)
        return parse_endpoints(texts)


def _days(old: Remembered | None, now: float) -> int:
    if old is None:
        return 1
    return old.days + (now // DAY > old.seen // DAY)


def load_book(path: Path, own: str, now: float) -> Book:
    """The book at `path`; an empty one when there is none, or it is damaged and was set aside. Never raises."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE)  # what a larger one holds is damaged by that
    except FileNotFoundError:
        return Book(own)
    except OSError as error:
        log.warning("peers_unreadable", path=str(path), reason=error.strerror or str(error))
        return Book(own)
    try:
        book = Book(own, msgspec.json.decode(data, type=_File).peers)
    except ValueError as error:  # msgspec's errors are ValueErrors
        _set_aside(path, str(error))
        return Book(own)
    book.expire(now)
    return book


def _set_aside(path: Path, reason: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except OSError as error:
        reason = f"{reason}; {error.strerror}"
    log.warning("peers_damaged", path=str(path), kept=str(aside), reason=reason)


def save_book(path: Path, entries: Sequence[Remembered]) -> None:
    """Replace the file by these entries, on the disk when it returns. Raises SwarmError."""
    try:
        replace_whole(path, msgspec.json.encode(_File(list(entries))))
    except OSError as error:
        raise SwarmError(f"{path} cannot be written: {error.strerror}. See that there is room.") from error


async def keep_book(path: Path, book: Book, every: float = SAVE_SECONDS) -> None:
    """Save the book when it changed, at most once in `every` seconds, and once more when cancelled."""
    saved = 0
    try:
        while True:
            await trio.sleep(every)
            saved = await _saved(path, book, saved)
    finally:
        with trio.CancelScope(shield=True):
            await _saved(path, book, saved)


async def _saved(path: Path, book: Book, saved: int) -> int:
    changes = book.changes
    if changes == saved:
        return saved
    try:
        await trio.to_thread.run_sync(save_book, path, book.entries)
    except SwarmError as error:
        log.warning("peers_not_saved", reason=str(error))
        return saved
    return changes
