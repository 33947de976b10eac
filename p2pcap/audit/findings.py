"""From what the items of a result are to what a verifier signs about it. Pure."""

from collections.abc import Mapping

from p2pcap.audit.checking import Method, Outcome, Word
from p2pcap.ledger.rulings import Finding

MAX_SCORES = 256
"""Bytes of `Finding.scores`."""


def findings(m: bytes, batch: bytes, outcomes: Mapping[int, Outcome], now: float) -> list[Finding]:
    """The findings on the result `batch` of the project with the prefix `m`, whose items are these, by place from its
    offset on: one for each word and method. `now` is unix seconds."""
    groups: dict[tuple[Word, Method], list[int]] = {}
    for place in sorted(outcomes):
        groups.setdefault((outcomes[place].word, outcomes[place].method), []).append(place)
    return [
        Finding(
            m=m,
            batch=batch,
            items=sum(1 << place for place in places).to_bytes(8, "little"),
            verdict=word,
            method=method,
            scores=_scores([outcomes[place].numbers for place in places]),
            time=int(now),
        )
        for (word, method), places in groups.items()
    ]


def _scores(numbers: list[bytes]) -> bytes:
    """The items' numbers in their order, those that fit as a whole."""
    scores = b""
    for one in numbers:
        if len(scores) + len(one) > MAX_SCORES:
            break
        scores += one
    return scores
