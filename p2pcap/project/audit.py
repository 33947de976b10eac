"""How a stage's answers are checked: what a calibration measured, and the limits that it set.

A verifier scores a claimed answer with its own engine, token by token. Where honest answers end and wrong ones begin
depends on the model and the prompt, so the maintainer measures it (`p2pcap project calibrate`) and signs what came out.

Always holds: a calibration is part of the stage and not of its task, so calibrating again leaves the task's id, and
with it every caption, as it is.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from p2pcap.project.record import Milli, Record

AuditMethod = Literal["tokens", "agreement"]
"""tokens: the model reads the claimed tokens and says how likely each was; agreement: the verifier captions the image
itself and compares the texts."""

EngineClass = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
Share = Annotated[int, msgspec.Meta(ge=0, le=1_000)]
"""Thousandths of a whole."""

Items = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
CheatName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]

CHECKS = 1_000
"""Checks of one author that `bans_at` is about."""

MAX_CHEATS, MAX_CLASSES, MAX_LIMITS = 16, 64, 16

NO_LIMIT = 100_000
"""A margin that no token reaches; a bound of it asks nothing."""


class Bound(Record, frozen=True):
    """An answer is beyond it when the mean of its capped margins is above `mean`, or one margin is above `worst`, or
    fewer than `likeliest` of its tokens are the likeliest ones. Margins are in thousandths of a natural logarithm."""

    mean: Milli
    worst: Milli
    likeliest: Share


class Limits(Record, frozen=True):
    """Where the answers to one prompt become unsure and where bad, by the margins of their tokens: by how much the
    model held another token to be likelier. `cap`: a greater margin counts as this in the mean. `plain` is `bad` for an
    answer whose tokens nobody told: they were cut anew from its text, perhaps in another way than the model's."""

    cap: Milli
    unsure: Bound
    bad: Bound
    plain: Bound


class Likeness(Record, frozen=True):
    """Where the answers to one prompt become unsure and where bad, by how alike they are to the verifier's own: less
    than so much of 1,000."""

    unsure: Share
    bad: Share


class Honest(Record, frozen=True):
    """Honest items that were measured, and how many of them these limits call bad or unsure."""

    items: Items
    bad: Items
    unsure: Items


class Cheat(Record, frozen=True):
    """A way to cheat: items of it that were measured, and how many of them these limits call bad."""

    name: CheatName
    items: Items
    caught: Items


class Audit(Record, frozen=True):
    """The calibration of one stage.

    `limits` (method "tokens") or `likeness` (method "agreement") has an entry for each prompt of the task, in order.
    `bans_at`: how many bad items in CHECKS checks make a ban: an honest author reaches that with a probability of
    10⁻⁵ at most, by the upper confidence bound of the measured rate (p2pcap.audit.calibrating). `classes`: the engine
    classes that were measured; of another class only what is far beyond the limits is bad. Left out: all are alike.
    """

    method: AuditMethod
    honest: Honest
    cheats: Annotated[tuple[Cheat, ...], msgspec.Meta(max_length=MAX_CHEATS)]
    bans_at: Annotated[int, msgspec.Meta(ge=1, le=CHECKS)]
    limits: Annotated[tuple[Limits, ...], msgspec.Meta(min_length=1, max_length=MAX_LIMITS)] | UnsetType = UNSET
    likeness: Annotated[tuple[Likeness, ...], msgspec.Meta(min_length=1, max_length=MAX_LIMITS)] | UnsetType = UNSET
    classes: Annotated[tuple[EngineClass, ...], msgspec.Meta(min_length=1, max_length=MAX_CLASSES)] | UnsetType = UNSET

    @property
    def prompts(self) -> int:
        """Of how many prompts it tells the limits of its method; 0 when it has those of another."""
        limits = self.limits if self.method == "tokens" else self.likeness
        return 0 if limits is UNSET else len(limits)

    def knows(self, engine_class: bytes) -> bool:
        """Whether engines of that class were measured."""
        return self.classes is UNSET or engine_class in self.classes
