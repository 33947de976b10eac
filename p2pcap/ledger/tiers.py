"""The tiers of authors, as the next checkpoint says them: how rarely their work is looked at, and how it ranks.

Tier 1 takes FIRST_CAPTIONS captions that count, and FIRST_CHECKS of the author's that were checked and found right;
tier 2 takes SECOND_CAPTIONS, and SECOND_SECONDS since the checkpoint that sealed the author's first one. A caption of
an item that another author has as well counts for the one whom an earlier checkpoint sealed, else for neither: whoever
copies others' captions is found right as often as they are, and has done nothing. One item that failed makes tier 0:
then only what came later counts towards a tier, and only once the quarantine is over.

Always holds: a pure function of the ledger and of the checkpoint's own time; a tier is lost only by a failed item or by
a ban.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial, reduce
from itertools import groupby
from math import inf
from operator import or_

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
from p2pcap.ledger.rows import Held
from p2pcap.ledger.state import Ledger


def tiers(ledger: Ledger, time: int) -> dict[bytes, int]:
    """Authors above tier 0, for a checkpoint made at `time` (unix seconds)."""
    held = ledger.seals.chain[-1].tiers if ledger.seals.chain else {}
    found = {}
    own = _own(ledger)
    clean = _by_author(ledger, own)
    for author in {*held, *(author for author, captions in clean.items() if captions >= FIRST_CAPTIONS)}:
        doubt = ledger.verdicts.doubt(author)
        if _is_out(ledger, author, doubt):
            continue
        before = held.get(author, 0) if doubt is None else 0
        captions = clean.get(author, 0) if doubt is None else _captions_since(ledger, author, own, doubt)
        if tier := max(before, _tier(ledger, author, captions, doubt, time)):
            found[author] = tier
    return found


def _is_out(ledger: Ledger, author: bytes, doubt: Doubt | None) -> bool:
    banned = ledger.rulings.ban(author) is not None or not ledger.members.is_admitted(author)
    return banned or (doubt is not None and doubt.quarantined)


def _own(ledger: Ledger) -> dict[bytes, int]:
    """By result the answers in it that count and that nobody else had before, or has in the same checkpoint: as bits of
    its chunk, each item of an author once."""
    found: dict[bytes, int] = {}
    for work in ledger.works.values():
        for chunk in range(len(ledger.project.counts)):
            found |= _own_of(ledger, work.rows.batches(chunk))
    return found


def _own_of(ledger: Ledger, batches: Mapping[bytes, Held]) -> dict[bytes, int]:
    """The same of the results of one chunk."""
    found: dict[bytes, int] = {}
    taken = 0
    ordered = sorted(batches, key=partial(_sealed, ledger))
    for _, group in groupby(ordered, key=partial(_sealed, ledger)):
        answers = {id_: _answers(ledger, id_, batches[id_]) & ~taken for id_ in group}
        mine: dict[bytes, int] = {}
        for id_, items in answers.items():
            had = mine.get(batches[id_].author, 0)
            mine[batches[id_].author] = had | items
            answers[id_] = items & ~had
        shared = _twice(mine.values())
        found |= {id_: items & ~shared for id_, items in answers.items()}
        taken = reduce(or_, mine.values(), taken)
    return found


def _twice(masks: Iterable[int]) -> int:
    """The bits that are in more than one of them."""
    once = twice = 0
    for mask in masks:
        twice |= once & mask
        once |= mask
    return twice


def _sealed(ledger: Ledger, id_: bytes) -> float:
    """The number of the checkpoint that sealed a result; those that none has come last."""
    return ledger.seals.by_id.get(id_, inf)


def _answers(ledger: Ledger, id_: bytes, held: Held) -> int:
    return held.items & ~held.errors & ledger.counted(id_, held.author) << held.offset


def _by_author(ledger: Ledger, own: Mapping[bytes, int]) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for id_, items in own.items():
        author = ledger.results[id_][0]
        found[author] = found.get(author, 0) + items.bit_count()
    return found


def _tier(ledger: Ledger, author: bytes, captions: int, doubt: Doubt | None, time: int) -> int:
    passed = ledger.verdicts.tally(author).passed
    if doubt is not None:
        passed = sum(_passed(ledger, id_, doubt).bit_count() for id_ in _later(ledger, author, doubt))
    if captions < FIRST_CAPTIONS or passed < FIRST_CHECKS:
        return 0
    since = _first_sealed(ledger, author, doubt)
    return 2 if captions >= SECOND_CAPTIONS and since is not None and time - since >= SECOND_SECONDS else 1


def _captions_since(ledger: Ledger, author: bytes, own: Mapping[bytes, int], doubt: Doubt) -> int:
    return sum(own.get(id_, 0).bit_count() for id_ in _later(ledger, author, doubt))


def _later(ledger: Ledger, author: bytes, doubt: Doubt) -> Iterator[bytes]:
    """The author's results that are held here and were made after his last bad item was found."""
    for id_ in ledger.results_of(author):
        if ledger.held(id_) is not None and ledger.results[id_][1].time > doubt.since + FUTURE:
            yield id_


def _passed(ledger: Ledger, id_: bytes, doubt: Doubt) -> int:
    return passed_after(ledger.verdicts.rulings(id_), ledger.verdicts.outcome(id_), doubt.since)


def _first_sealed(ledger: Ledger, author: bytes, doubt: Doubt | None) -> int | None:
    """When the checkpoint was made that sealed the author's first result since his last bad item."""
    ids = _later(ledger, author, doubt) if doubt is not None else ledger.results_of(author)
    number = min((ledger.seals.by_id[id_] for id_ in ids if id_ in ledger.seals.by_id), default=None)
    return decode(ledger.checkpoints[number].payload, Checkpoint).time if number is not None else None
