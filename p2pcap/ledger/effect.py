"""What rulings would change, worked out before anybody signs them.

Always holds: the ledger is not changed, and what is told here is what the ledger says after it has taken the rulings
in, as far as bodies are held here: a result whose body is elsewhere has no rows on this node.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from p2pcap.ledger.rulings import Ban, Redact, Rulings, Void
from p2pcap.ledger.state import Ledger

Ruled = Sequence[tuple[bytes, bytes, Ban | Void | Redact]]
"""Rulings that nobody has heard of yet: each with the id it will have and its author."""

Place = tuple[bytes, int]
"""A task and a chunk."""


@dataclass(frozen=True)
class Effect:
    """`results` count no more, and with them so many `rows` by author. `opened` and `closed` count images, once for
    each task: those that have no row any more, and those that have one again. `redacted` are images that are closed for
    good. `out` are the authors who are admitted no more."""

    results: int = 0
    rows: Mapping[bytes, int] = field(default_factory=dict)
    opened: int = 0
    closed: int = 0
    redacted: int = 0
    out: Sequence[bytes] = ()


def effect_of(ledger: Ledger, rulings: Ruled) -> Effect:
    """What these rulings would change, all together."""
    trial = _trial(ledger, rulings)
    dropped = {id_ for _, _, ruling in rulings if isinstance(ruling, Redact) for id_ in ledger.condemned(ruling)}
    touched = dropped | {id_ for _, _, ruling in rulings for id_ in _named(ledger, ruling)}
    changed = {id_ for id_ in touched if _counts(ledger, trial, dropped, id_) != _counted(ledger, id_)}
    lost = [id_ for id_ in changed if _counted(ledger, id_)]
    redacted = _redacted(rulings)
    opened, closed = _moved(ledger, trial, dropped, changed, redacted)
    newly = sum((items & ~redacted_in(ledger, chunk)).bit_count() for chunk, items in redacted.items())
    return Effect(len(lost), _rows_of(ledger, lost), opened, closed, newly, _out(ledger, trial, rulings))


def redacted_in(ledger: Ledger, chunk: int) -> int:
    """The images of a chunk that are closed for good; all tasks have the same."""
    return next(iter(ledger.works.values())).rows.redacted(chunk)


def _trial(ledger: Ledger, rulings: Ruled) -> Rulings:
    """The ledger's rulings and these."""
    trial = ledger.rulings
    for number, ruled in enumerate(rulings):
        if number == 0:
            trial = trial.after(*ruled)
        else:
            trial.add(*ruled)
    return trial


def _out(ledger: Ledger, trial: Rulings, rulings: Ruled) -> list[bytes]:
    """Who is admitted now, and by a ticket that is revoked."""
    about = {author for _, _, ruling in rulings if isinstance(ruling, Ban) for author in ledger.banned_by(ruling)}
    members = ledger.members
    return sorted(who for who in about if members.is_admitted(who) and not members.is_admitted(who, trial))


def _named(ledger: Ledger, ruling: Ban | Void | Redact) -> Iterator[bytes]:
    """The results a ban or a void is about, of those that are known."""
    match ruling:
        case Void():
            yield from (id_ for id_ in ruling.batches if id_ in ledger.results)
        case Ban():
            yield from (id_ for author in ledger.banned_by(ruling) for id_ in ledger.results_of(author))


def _counted(ledger: Ledger, id_: bytes) -> bool:
    return ledger.counts(id_, ledger.results[id_][0])


def _counts(ledger: Ledger, trial: Rulings, dropped: set[bytes], id_: bytes) -> bool:
    author = ledger.results[id_][0]
    ruled = id_ not in dropped and trial.counts(id_, author, ledger.seals.by_id.get(id_))
    return ruled and ledger.members.is_admitted(author, trial)


def _moved(
    ledger: Ledger, trial: Rulings, dropped: set[bytes], changed: set[bytes], redacted: Mapping[int, int]
) -> tuple[int, int]:
    """How many images lose their row and are to have one again, and how many get one."""
    opened = closed = 0
    for tid, chunk in {_place(ledger, id_) for id_ in changed}:
        rows = ledger.works[tid].rows
        after = 0
        for id_, held in rows.batches(chunk).items():
            if _counts(ledger, trial, dropped, id_):
                after |= held.items
        before = rows.done.get(chunk, 0)
        opened += (before & ~after & ~redacted.get(chunk, 0) & ~rows.redacted(chunk)).bit_count()
        closed += (after & ~before).bit_count()
    return opened, closed


def _place(ledger: Ledger, id_: bytes) -> Place:
    result = ledger.results[id_][1]
    return result.tid, result.chunk


def _rows_of(ledger: Ledger, lost: Iterable[bytes]) -> dict[bytes, int]:
    """Rows of these results by author; an image that an author did twice for one task is one row."""
    bits: dict[tuple[bytes, Place], int] = {}
    for id_ in lost:
        held = ledger.held(id_)
        key = (ledger.results[id_][0], _place(ledger, id_))
        bits[key] = bits.get(key, 0) | (held.items if held is not None else 0)
    rows: dict[bytes, int] = {}
    for (author, _), items in bits.items():
        rows[author] = rows.get(author, 0) + items.bit_count()
    return rows


def _redacted(rulings: Ruled) -> dict[int, int]:
    """The items these redactions name, by chunk."""
    items: dict[int, int] = {}
    for _, _, ruling in rulings:
        if isinstance(ruling, Redact):
            items[ruling.chunk] = items.get(ruling.chunk, 0) | ruling.items
    return items
