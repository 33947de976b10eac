"""Bans and voids that follow from what verifiers found: the coordinator's node signs them by itself.

A ban is due when, of CHECKS items of an author in one stage that were checked one after the other, as many failed as
the stage's calibration says no honest author reaches (`bans_at`), or when all items of one result failed. The items are
taken in blocks of CHECKS, in the order of time: so an honest author's risk is that of the calibration for each block,
however long he goes on. What a lifted ban was for is forgiven: only what was found later counts.

Where the project names several verifiers an item counts as bad here only by the word of WITNESSES of them: one who lies
can keep an honest author's work from counting until another one looks, and get nobody banned.

Always holds: a pure function of the ledger; what was signed is not due again. Every ruling names findings that show
why.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from p2pcap.ledger.checks import WITNESSES, Word, bits, pieces
from p2pcap.ledger.rulings import MAX_VOIDED, Ban, Void
from p2pcap.ledger.state import Ledger
from p2pcap.project.audit import CHECKS

GROSS = 4
"""Items that a result has at least that fails as a whole."""

EVIDENCE = 4
"""Findings that a ruling names at most."""


class Check(NamedTuple):
    """An item that was looked at: when last, in which result, which bit it is there, and whether it failed by the word
    of enough verifiers."""

    time: int
    batch: bytes
    bit: int
    failed: bool


def due(ledger: Ledger, now: int) -> list[Ban | Void]:
    """What is to be signed, dated `now` (unix seconds). Nothing while the plan says that people alone ban."""
    if ledger.project.plan.policy.bans is False:
        return []
    authors = sorted(author for author in ledger.verdicts.doubted if ledger.rulings.ban(author) is None)
    return [ruling for author in authors for ruling in _due_of(ledger, author, now)]


def _due_of(ledger: Ledger, author: bytes, now: int) -> Iterator[Ban | Void]:
    last = ledger.rulings.last(author)
    checks = list(_checks(ledger, author, last.time if last is not None else -1))
    gross = {batch: found for batch, found in _by_batch(checks).items() if _is_gross(ledger, batch, found)}
    faults = [*_blocks(ledger, checks), *gross.values()]
    if not faults:
        return
    worst = max(faults, key=lambda block: sum(check.failed for check in block))
    failed = [check for check in worst if check.failed]
    why, evidence = f"{len(failed)} of {len(worst)} checked captions are wrong", _evidence(ledger, failed)
    version = ledger.rulings.version(author) + 1
    yield Ban(ledger.project.m, author, version, ledger.seals.head, "unsealed", why, evidence, now)
    counting = [batch for batch in gross if batch not in ledger.rulings.voided]
    for start in range(0, len(counting), MAX_VOIDED):
        part = tuple(counting[start : start + MAX_VOIDED])
        shown = _evidence(ledger, [check for batch in part for check in gross[batch]])
        yield Void(ledger.project.m, part, "every caption in it is wrong", shown, now)


def witnesses(ledger: Ledger) -> int:
    """Verifiers whose word on an item it takes for a ban; those who are banned themselves are none."""
    able = sum(ledger.rulings.ban(key) is None for key in ledger.project.named_verifiers)
    return max(ledger.project.verifiers_needed, min(WITNESSES, able))


def _checks(ledger: Ledger, author: bytes, after: int) -> Iterator[Check]:
    """The author's items in audited stages that were last looked at later than `after`."""
    needed = witnesses(ledger)
    for id_ in ledger.results_of(author):
        outcome = ledger.verdicts.outcome(id_)
        if outcome.checked and ledger.results[id_][1].tid in ledger.project.audits:
            words = ledger.verdicts.rulings(id_)
            for bit in bits(outcome.checked):
                time = max(word.time for word in words if word.items & bit)
                if time > after:
                    failed = bool(outcome.failed & bit) and len(_accusers(words, bit)) >= needed
                    yield Check(time, id_, bit, failed)


def _blocks(ledger: Ledger, checks: Iterable[Check]) -> Iterator[Sequence[Check]]:
    """The blocks in which as many failed as make a ban in their stage."""
    stages: dict[bytes, list[Check]] = {}
    for check in checks:
        stages.setdefault(ledger.results[check.batch][1].tid, []).append(check)
    for tid, looked in stages.items():
        looked.sort()
        for block in (looked[start : start + CHECKS] for start in range(0, len(looked), CHECKS)):
            if sum(check.failed for check in block) >= ledger.project.audits[tid].bans_at:
                yield block


def _by_batch(checks: Iterable[Check]) -> dict[bytes, list[Check]]:
    found: dict[bytes, list[Check]] = {}
    for check in checks:
        found.setdefault(check.batch, []).append(check)
    return found


def _is_gross(ledger: Ledger, batch: bytes, checks: Iterable[Check]) -> bool:
    items = ledger.results[batch][1].items.bit_count()
    return items >= GROSS and sum(check.failed for check in checks) == items


def _evidence(ledger: Ledger, failed: Iterable[Check]) -> tuple[bytes, ...]:
    """The ids of some findings that show these, of as many results as possible."""
    by_batch: dict[bytes, dict[bytes, None]] = {}
    for check in failed:
        by_batch.setdefault(check.batch, {}).update(dict.fromkeys(_against(ledger, check)))
    turns = zip_longest(*by_batch.values())
    ids = (id_ for turn in turns for id_ in turn if id_ is not None)
    return tuple(dict.fromkeys(ids))[:EVIDENCE]


def _against(ledger: Ledger, check: Check) -> list[bytes]:
    """The findings of those who say now that an item is bad."""
    words = ledger.verdicts.rulings(check.batch)
    accusers = _accusers(words, check.bit)
    bad = (word for word in words if word.verdict == "bad" and word.items & check.bit)
    return [word.id for word in bad if word.author in accusers]


def _accusers(words: Sequence[Word], bit: int) -> set[bytes]:
    """Who says now that an item is bad."""
    return {piece.author for piece in pieces(words) if piece.verdict == "bad" and piece.items & bit}
