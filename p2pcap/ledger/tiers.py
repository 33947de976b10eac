"""The tiers of authors, as the next checkpoint says them: how rarely their work is looked at, and how it ranks.

Tier 1 takes FIRST_CAPTIONS captions that count, of which FIRST_CHECKS were checked and found right; tier 2 takes
SECOND_CAPTIONS, and SECOND_SECONDS since the checkpoint that sealed the author's first one. One item that failed makes
tier 0: then only what came later counts towards a tier, and only once the quarantine is over.

Always holds: a pure function of the ledger and of the checkpoint's own time; a tier is lost only by a failed item or by
a ban.
"""

from collections.abc import Iterator

from p2pcap.codec import decode
from p2pcap.ledger.checkpoint import Checkpoint
from p2pcap.ledger.checks import (
    FIRST_CAPTIONS,
    FIRST_CHECKS,
    FUTURE,
    SECOND_CAPTIONS,
    SECOND_SECONDS,
    Doubt,
    passed_after,
)
from p2pcap.ledger.state import Ledger


def tiers(ledger: Ledger, time: int) -> dict[bytes, int]:
    """Authors above tier 0, for a checkpoint made at `time` (unix seconds)."""
    held = ledger.seals.chain[-1].tiers if ledger.seals.chain else {}
    found = {}
    clean = _clean(ledger)
    for author in {*held, *(author for author, captions in clean.items() if captions >= FIRST_CAPTIONS)}:
        doubt = ledger.verdicts.doubt(author)
        if _is_out(ledger, author, doubt):
            continue
        before = held.get(author, 0) if doubt is None else 0
        if tier := max(before, _tier(ledger, author, clean.get(author, 0), doubt, time)):
            found[author] = tier
    return found


def _is_out(ledger: Ledger, author: bytes, doubt: Doubt | None) -> bool:
    banned = ledger.rulings.ban(author) is not None or not ledger.members.is_admitted(author)
    return banned or (doubt is not None and doubt.quarantined)


def _clean(ledger: Ledger) -> dict[bytes, int]:
    """Answers that count, by author, each item of a task once."""
    found: dict[bytes, int] = {}
    for work in ledger.works.values():
        for (author, _), items in work.rows.answers():
            found[author] = found.get(author, 0) + items.bit_count()
    return found


def _tier(ledger: Ledger, author: bytes, captions: int, doubt: Doubt | None, time: int) -> int:
    passed = ledger.verdicts.tally(author).passed
    if doubt is not None:
        later = list(_later(ledger, author, doubt))
        captions = sum(items.bit_count() for _, items in later)
        passed = sum(_passed(ledger, id_, doubt).bit_count() for id_, _ in later)
    if captions < FIRST_CAPTIONS or passed < FIRST_CHECKS:
        return 0
    since = _first_sealed(ledger, author, doubt)
    return 2 if captions >= SECOND_CAPTIONS and since is not None and time - since >= SECOND_SECONDS else 1


def _later(ledger: Ledger, author: bytes, doubt: Doubt) -> Iterator[tuple[bytes, int]]:
    """The author's results that are held here, count, and were made after his last bad item was found; with the answers
    in them."""
    for id_ in ledger.results_of(author):
        held = ledger.held(id_)
        if held is not None and ledger.results[id_][1].time > doubt.since + FUTURE:
            yield id_, held.items & ~held.errors & ledger.counted(id_, author) << held.offset


def _passed(ledger: Ledger, id_: bytes, doubt: Doubt) -> int:
    return passed_after(ledger.verdicts.rulings(id_), ledger.verdicts.outcome(id_), doubt.since)


def _first_sealed(ledger: Ledger, author: bytes, doubt: Doubt | None) -> int | None:
    """When the checkpoint was made that sealed the author's first result since his last bad item."""
    ids = (id_ for id_, _ in _later(ledger, author, doubt)) if doubt is not None else ledger.results_of(author)
    number = min((ledger.seals.by_id[id_] for id_ in ids if id_ in ledger.seals.by_id), default=None)
    return decode(ledger.checkpoints[number].payload, Checkpoint).time if number is not None else None
