"""False answers, made of honest ones: what somebody would hand in who did not ask the model about the image. Pure.

They are what a calibration measures its limits by. How well somebody cheats is unknown; these are the cheap ways, from
the crudest to a single changed word.

Always holds: the same answers and the same seed make the same false ones, and a false item is never the honest one.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from p2pcap.engine.base import Output

Answers = tuple[Output, ...]
"""An item's answers, in the order of the prompts."""

Ids = tuple[int, ...]
T = TypeVar("T")

False_ = list[Ids] | None
"""The token ids of an item's false answers; None where nothing false can be made of the honest ones."""


def others(items: Sequence[Answers]) -> list[False_]:
    """For each item the answers of the item after it."""
    after = [*items[1:], *items[:1]]
    return [_differing(item, _ids(other)) for item, other in zip(items, after, strict=True)]


def copied(items: Sequence[Answers]) -> list[False_]:
    """For each item the answers of the one half of them away.

    They stand for one answer that somebody gives about every image. How likely a text looks elsewhere is its own
    property: if items shared texts, they would say less of the next text than so many items should.
    """
    far = half_away(items)
    return [_differing(item, _ids(other)) for item, other in zip(items, far, strict=True)]


def half_away(items: Sequence[T]) -> list[T]:
    """In the place of each the one half of them away."""
    half = len(items) // 2
    return [*items[half:], *items[:half]]


def truncated(items: Sequence[Answers], rng: random.Random) -> list[False_]:
    """The first part of each item's longest answer, with its last token behind it: how an answer ends is no secret."""
    return [_truncated(item, rng) for item in items]


def at_random(items: Sequence[Answers], rng: random.Random) -> list[False_]:
    """As many tokens, of those that answers have and as often as they have them, without any order; the last one
    stays."""
    known = [token for item in items for one in item for token in one.ids[:-1]]
    return [
        _differing(item, [(*rng.choices(known, k=len(one.ids) - 1), *one.ids[-1:]) for one in item]) if known else None
        for item in items
    ]


def edited(text: str, words: Mapping[str, int], rng: random.Random) -> str | None:
    """The text with one word changed for another of `words`; None when there is nothing to change."""
    own = text.split(" ")
    places = [place for place, word in enumerate(own) if word.strip()]
    if not places:
        return None
    place = rng.choice(places)
    instead = [word for word in words if word != own[place]]
    if not instead:
        return None
    (other,) = rng.choices(instead, [words[word] for word in instead])
    return " ".join([*own[:place], other, *own[place + 1 :]])


def words_of(items: Sequence[Answers], prompt: int) -> dict[str, int]:
    """The words of all answers to one prompt, and how often they come: of rare ones, which look most out of place, more
    items have more, and the words drawn must not depend on how many items there are."""
    found = Counter(word for item in items for word in item[prompt].text.split(" ") if word.strip())
    return dict(sorted(found.items()))


def longest(item: Answers) -> int:
    """The prompt whose answer has most tokens: there is most to leave out, or to change."""
    return max(range(len(item)), key=lambda number: len(item[number].ids))


def _truncated(item: Answers, rng: random.Random) -> False_:
    number, made = longest(item), _ids(item)
    ids = made[number]
    if len(ids) < 3:
        return None
    made[number] = (*ids[: rng.randrange(1, len(ids) - 1)], ids[-1])
    return _differing(item, made)


def _ids(item: Answers) -> list[Ids]:
    return [one.ids for one in item]


def _differing(item: Answers, made: list[Ids]) -> False_:
    return made if made != _ids(item) and all(made) else None
