"""Merkle roots and inclusion proofs over a list of byte strings, as RFC 9162 section 2.1 defines them, with SHA-256.

A body's rows hang under one signed root, so a single exported row can be checked without the other rows of its slice.
"""

import hashlib
from collections.abc import Sequence


def leaf(data: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\0" + data).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes. The root of nothing is the hash of nothing."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return _node(root(leaves[:split]), root(leaves[split:]))


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that, with leaf `index`, give the root; lowest first. Raises IndexError outside the list."""
    if not 0 <= index < len(leaves):
        raise IndexError("no such leaf")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*proof(leaves[:split], index), root(leaves[split:])]
    return [*proof(leaves[split:], index - split), root(leaves[:split])]


def proven_root(hash_: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that leaf `hash_` at `index` of `size` leaves reaches over `path`; None when the path does not fit."""
    if not 0 <= index < size:
        return None
    position, last, node = index, size - 1, hash_
    for sibling in path:
        if last == 0:
            return None
        if position & 1 or position == last:
            node = _node(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = _node(node, sibling)
        position, last = position >> 1, last >> 1
    return node if last == 0 else None


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _split(count: int) -> int:
    """The largest power of two below `count` (at least 2)."""
    return 1 << (count - 1).bit_length() - 1
