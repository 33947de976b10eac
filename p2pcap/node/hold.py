"""A reason for which a volunteer's node holds back: what pauses, manners, and whoever shows them speak in."""

import msgspec

MANNERLY = 30.0
"""Seconds for the slices in hand when manners ask for a pause."""


class Hold(msgspec.Struct, frozen=True):
    """Why the node captions and checks nothing, in words. `until` is when that ends by itself, in unix seconds (None:
    it does not, or nobody knows). What is in hand may take `within` seconds more; 0 drops it, infinity waits for it."""

    why: str
    until: float | None = None
    within: float = MANNERLY
