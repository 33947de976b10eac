"""Writes trust.json: what verifiers said, and how every implementation must see authors and results then.

    python -m tests.vectors.trust

A case has statements in the order in which they are taken in; any other order, with results first, gives the same.
What is expected stands in the cases as written by hand: of each result the items that count, as bits from its first
item on; of Ada captions, checks that passed, failed and are unsure, and whether she is in quarantine; and whether a ban
of hers is due.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from p2pcap.envelope import Envelope, seal
from p2pcap.identity import Identity
from p2pcap.ledger.checks import ALL, FUTURE
from p2pcap.ledger.rulings import Ban, Void
from tests.audited import audited, finding, slice_of
from tests.makers import ADA, BOB, COORDINATOR, NOW, make_grant

FILE = Path(__file__).parent / "trust.json"

VERA, VIC = (Identity.from_seed(letter * 32) for letter in (b"v", b"w"))
MADE = audited((1_024,), verifiers=(VERA.public, VIC.public))
PROJECT = MADE.project
GRANTS = (make_grant(PROJECT, ADA), make_grant(PROJECT, BOB))
OLD = slice_of(MADE, ADA, 0, 0)
OTHER = slice_of(MADE, ADA, 0, 1)
AT = NOW + 1_000
EARLY = slice_of(MADE, ADA, 0, 2, AT + FUTURE)
LATE = slice_of(MADE, ADA, 0, 3, AT + FUTURE + 1)
BOBS = slice_of(MADE, BOB, 0, 4)
BAD = finding(VERA, OLD, "bad", 0b1, AT)


class Case(NamedTuple):
    """`said` about the five results; `counted` of each, in the order of their slices; Ada's `standing`; whether a `ban`
    of hers is due."""

    name: str
    said: tuple[Envelope, ...]
    counted: tuple[int, int, int, int, int]
    standing: tuple[int, int, int, int, bool]
    ban: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        results = (OLD, OTHER, EARLY, LATE, BOBS)
        return {
            "name": self.name,
            "statements": [one.data.hex() for one in (*GRANTS, *results, *self.said)],
            "counted": {one.id.hex(): f"{items:016x}" for one, items in zip(results, self.counted, strict=True)},
            "author": ADA.public.hex(),
            "standing": dict(
                zip(("captions", "passed", "failed", "unsure", "quarantined"), self.standing, strict=True)
            ),
            "ban": self.ban,
        }


def cases() -> Iterator[Case]:
    whole = (ALL,) * 5
    yield Case("nothing was said", (), whole, (256, 0, 0, 0, False))
    yield Case("an item passed", (finding(VERA, OLD, "ok", 0b11),), whole, (256, 2, 0, 0, False))
    yield Case("a verifier is unsure", (finding(VERA, OLD, "unsure", 0b11),), whole, (256, 0, 0, 2, False))
    yield Case("the image was another", (finding(VERA, OLD, "differs", 0b11),), whole, (256, 0, 0, 2, False))
    yield Case("an accusation", (finding(BOB, OLD, "bad", 0b1),), whole, (256, 0, 0, 0, False))
    yield Case("an item failed", (BAD,), (0, 0, 0, 0, ALL), (256, 0, 1, 0, True))
    before = finding(VERA, OTHER, "ok", 0b111, AT - 1)
    yield Case("what passed before counts", (before, BAD), (0, 0b111, 0, 0, ALL), (256, 3, 1, 0, True))
    again = finding(VIC, OTHER, "ok", 0b1111111, AT)
    yield Case("seven at the same time clear nothing", (BAD, again), (0, 0b1111111, 0, 0, ALL), (256, 7, 1, 0, True))
    few = finding(VIC, OTHER, "ok", 0b111111, AT + 1)
    yield Case("six later ones clear nothing", (BAD, few), (0, 0b111111, 0, 0, ALL), (256, 6, 1, 0, True))
    later = finding(VIC, OTHER, "ok", 0b1111111, AT + 1)
    yield Case("seven later ones clear a result", (BAD, later), (0, ALL, 0, 0, ALL), (256, 7, 1, 0, True))
    right = finding(VERA, OLD, "ok", 0b11111110, AT + 1)
    yield Case("the bad result is never cleared", (BAD, right), (0b11111110, 0, 0, 0, ALL), (256, 7, 1, 0, True))
    most = finding(VIC, OTHER, "ok", ALL >> 1, AT + 1)
    yield Case("63 later ones do not end the quarantine", (BAD, most), (0, ALL, 0, 0, ALL), (256, 63, 1, 0, True))
    last = finding(VERA, OTHER, "ok", ALL ^ ALL >> 1, AT + 2)
    yield Case("64 end it for what came later", (BAD, most, last), (0, ALL, 0, ALL, ALL), (256, 64, 1, 0, False))
    anew = finding(VERA, OTHER, "bad", 0b1, AT + 3)
    yield Case(
        "an item about which they differ clears nothing",
        (BAD, later, anew),
        (0, 0b1111110, 0, 0, ALL),
        (256, 6, 1, 1, True),
    )
    worse = finding(VERA, EARLY, "bad", 0b1, AT + 3)
    yield Case("a new bad item begins anew", (BAD, later, worse), (0, 0b1111111, 0, 0, ALL), (256, 7, 2, 0, True))
    back = finding(VERA, OLD, "ok", 0b1, AT + 1)
    yield Case("a verifier takes his word back", (BAD, back), whole, (256, 1, 0, 0, False))
    unsure = finding(VERA, OLD, "unsure", 0b1, AT + 1)
    yield Case("who is unsure later takes nothing back", (BAD, unsure), (0, 0, 0, 0, ALL), (256, 0, 1, 0, True))
    then = finding(VERA, OTHER, "unsure", 0b1, AT + 5)
    yield Case("nor what was right", (later, then), whole, (256, 7, 0, 0, False))
    tied = finding(VIC, OLD, "ok", 0b1, AT - 5)
    yield Case("another verifier says the contrary", (BAD, tied), whole, (256, 0, 0, 1, False))
    both = finding(VIC, OLD, "bad", 0b1, AT - 5)
    yield Case("two verifiers agree", (BAD, both), (0, 0, 0, 0, ALL), (256, 0, 1, 0, True))
    yield from _bans()
    ban = seal(COORDINATOR, "ban", Ban(PROJECT.m, VERA.public, 1, 0, "all", "he lies", (), NOW))
    yield Case("the verifier is banned", (BAD, ban), whole, (256, 0, 0, 0, False))
    void = seal(COORDINATOR, "void", Void(PROJECT.m, (OTHER.id,), "", (), NOW))
    yield Case("a void outweighs a check", (later, void), (ALL, 0, ALL, ALL, ALL), (256, 7, 0, 0, False))


def _bans() -> Iterator[Case]:
    """Four bad items make a ban, by the word of two verifiers on each: so many does the project name."""
    out, failed = (0, 0, 0, 0, ALL), (256, 0, 4, 0, True)
    four = finding(VERA, OLD, "bad", 0b1111, AT)
    yield Case("one verifier alone finds four bad", (four,), out, failed)
    yield Case("two find the same four bad", (four, finding(VIC, OLD, "bad", 0b1111, AT + 1)), out, failed, True)
    three = finding(VIC, OLD, "bad", 0b111, AT + 1)
    yield Case("two find the same three bad", (four, three), out, failed)
    others = (finding(VERA, OLD, "bad", 0b11, AT), finding(VIC, OTHER, "bad", 0b11, AT + 1))
    yield Case("two find two others bad each", others, out, failed)
    yield Case("an accusation is no second word", (four, finding(BOB, OLD, "bad", 0b1111, AT + 1)), out, failed)
    back = finding(VIC, OLD, "ok", 0b1, AT + 2)
    said = (four, finding(VIC, OLD, "bad", 0b1111, AT + 1), back)
    yield Case("one of the two takes a word back", said, out, (256, 0, 3, 1, True))
    whole = finding(VERA, OLD, "bad", ALL, AT)
    yield Case("one alone finds a whole result bad", (whole,), out, (256, 0, 64, 0, True))
    gone = seal(COORDINATOR, "ban", Ban(PROJECT.m, VIC.public, 1, 0, "all", "he lies", (), NOW))
    yield Case("of two verifiers one is banned", (four, gone), out, failed, True)


def text() -> str:
    """The file's content."""
    chain = {"root": PROJECT.root_envelope.data, "manifest": PROJECT.manifest_envelope.data, "plan": PROJECT.plan_data}
    whole = {
        "project": {name: data.hex() for name, data in chain.items()},
        "cases": [case.plain() for case in cases()],
    }
    return json.dumps(whole, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="ascii")
