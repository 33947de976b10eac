"""What rulings would change, worked out before anybody signs them.

Always holds: the ledger is not changed, and what is told here is what the ledger says after it has taken the rulings
in, as far as bodies are held here: a result whose body is elsewhere has no rows on this node.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from p2pcap.ledger.counting import NOW, Supposed
from p2pcap.ledger.rulings import Ban, Redact, Rulings, Void
from p2pcap.ledger.state import Ledger

Ruled = Sequence[tuple[bytes, bytes, Ban | Void | Redact]]
"""Rulings that nobody has heard of yet: each with the id it will have and its author."""

Place = tuple[bytes, int]
"""A task and a chunk."""


@dataclass(frozen=True)
class Effect:
    """`results` count no more, or no more whole, and with them so many `rows` by author. `opened` and `closed` count
    images, once for each task: those that have no row any more, and those that have one again. `redacted` are images
    that are closed for good. `out` are the authors who are admitted no more."""

    results: int = 0
    rows: Mapping[bytes, int] = field(default_factory=dict)
    opened: int = 0
    closed: int = 0
    redacted: int = 0
    out: Sequence[bytes] = ()


def effect_of(ledger: Ledger, rulings: Ruled) -> Effect:
    """What these rulings would change, all together."""
    trial = _trial(ledger, rulings)
    then = _then(ledger, trial, rulings)
    dropped = {id_ for _, _, ruling in rulings if isinstance(ruling, Redact) for id_ in ledger.condemned(ruling)}
    touched = dropped | {id_ for _, _, ruling in rulings for id_ in _named(ledger, ruling)}
    touched |= ledger.verdicts.changed(then.verdicts) if then.verdicts is not None else set()
    counted = {id_: 0 if id_ in dropped else _counted(ledger, id_, then) for id_ in touched}
    changed = {id_ for id_ in touched if counted[id_] != _counted(ledger, id_, NOW)}
    lost = {id_: gone for id_ in changed if (gone := _counted(ledger, id_, NOW) & ~counted[id_])}
    redacted = _redacted(rulings)
    opened, closed = _moved(ledger, then, counted, changed, redacted)
    newly = sum((items & ~redacted_in(ledger, chunk)).bit_count() for chunk, items in redacted.items())
    return Effect(len(lost), _rows_of(ledger, lost), opened, closed, newly, _out(ledger, trial, rulings))


def redacted_in(ledger: Ledger, chunk: int) -> int:
    """The images of a chunk that are closed for good; all tasks have the same."""
    return next(iter(ledger.works.values())).rows.redacted(chunk)


def _trial(ledger: Ledger, rulings: Ruled) -> Rulings:
    """The ledger's rulings and these."""
    trial = ledger.rulings
    for number, (id_, _, ruling) in enumerate(rulings):
        if number == 0:
            trial = trial.after(id_, ruling)
        else:
            trial.add(id_, ruling)
    return trial


def _then(ledger: Ledger, trial: Rulings, rulings: Ruled) -> Supposed:
    """The moment after these rulings; a ban of a verifier takes his verdicts away."""
    about = {who for _, _, ruling in rulings if isinstance(ruling, Ban) for who in ledger.banned_by(ruling)}
    if not any(map(ledger.verdicts.speaks, about)):
        return Supposed(trial)
    return Supposed(trial, ledger.verdicts.under(ledger.counting.rules(Supposed(trial))))


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


def _counted(ledger: Ledger, id_: bytes, then: Supposed) -> int:
    """The items of a result that count, as bits of its chunk."""
    author, result = ledger.results[id_]
    return result.items & ledger.counting.counted(id_, author, result, then) << result.offset


def _moved(
    ledger: Ledger, then: Supposed, counted: Mapping[bytes, int], changed: Iterable[bytes], redacted: Mapping[int, int]
) -> tuple[int, int]:
    """How many images lose their row and are to have one again, and how many get one."""
    opened = closed = 0
    for tid, chunk in {_place(ledger, id_) for id_ in changed}:
        rows = ledger.works[tid].rows
        after = 0
        for id_ in rows.batches(chunk):
            after |= counted[id_] if id_ in counted else _counted(ledger, id_, then)
        before = rows.done.get(chunk, 0)
        opened += (before & ~after & ~redacted.get(chunk, 0) & ~rows.redacted(chunk)).bit_count()
        closed += (after & ~before).bit_count()
    return opened, closed


def _place(ledger: Ledger, id_: bytes) -> Place:
    result = ledger.results[id_][1]
    return result.tid, result.chunk


def _rows_of(ledger: Ledger, lost: Mapping[bytes, int]) -> dict[bytes, int]:
    """Rows of these results by author; an image that an author did twice for one task is one row."""
    bits: dict[tuple[bytes, Place], int] = {}
    for id_, items in lost.items():
        held = ledger.held(id_)
        key = (ledger.results[id_][0], _place(ledger, id_))
        bits[key] = bits.get(key, 0) | (held.items & items if held is not None else 0)
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
