"""Roots and proofs against RFC 9162's own words and the known answers of Certificate Transparency."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.ledger import merkle

ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Of the first n entries: the reference tree in Certificate Transparency's tests."""

PROOFS = {
    (0, 8): ["96a296d2", "5f083f0a", "6b47aaf2"],
    (5, 8): ["bc1a0643", "ca854ea1", "d37ee418"],
    (2, 3): ["fac54203"],
    (1, 5): ["6e340b9c", "5f083f0a", "bc1a0643"],
}
"""First four bytes of each hash, for (leaf, size); from the same tests."""

some_entries = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


def by_definition(entries: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, over the entries themselves."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + by_definition(entries[:k]) + by_definition(entries[k:])).digest()


def hashed(entries: list[bytes]) -> list[bytes]:
    return [merkle.leaf(entry) for entry in entries]


@pytest.mark.parametrize("count", range(9))
def test_known_roots(count: int) -> None:
    assert merkle.root(hashed(ENTRIES[:count])).hex() == ROOTS[count]


@pytest.mark.parametrize(("place", "starts"), PROOFS.items())
def test_known_proofs(place: tuple[int, int], starts: list[str]) -> None:
    index, size = place
    assert [hash_.hex()[:8] for hash_ in merkle.proof(hashed(ENTRIES[:size]), index)] == starts


@given(some_entries)
def test_the_root_is_the_defined_one(entries: list[bytes]) -> None:
    assert merkle.root(hashed(entries)) == by_definition(entries)


@pytest.mark.parametrize("size", [*range(1, 20), 63, 64, 65])
def test_each_leaf_has_a_proof(size: int) -> None:
    leaves = hashed([b"%d" % index for index in range(size)])
    for index, leaf in enumerate(leaves):
        path = merkle.proof(leaves, index)
        assert len(path) <= size.bit_length()
        assert merkle.proven_root(leaf, index, size, path) == merkle.root(leaves)


@given(some_entries, st.data())
def test_a_proof_holds_for_nothing_else(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [merkle.leaf(b"%d %b" % (index, entry)) for index, entry in enumerate(entries)]
    size, root = len(leaves), merkle.root(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.proof(leaves, index)
    assert merkle.proven_root(merkle.leaf(b"another"), index, size, path) != root
    for other in range(size):
        assert other == index or merkle.proven_root(leaves[index], other, size, path) != root
    for at in range(len(path)):
        flipped = bytes([path[at][0] ^ 1]) + path[at][1:]
        assert merkle.proven_root(leaves[index], index, size, [*path[:at], flipped, *path[at + 1 :]]) != root
        assert merkle.proven_root(leaves[index], index, size, [*path[:at], *path[at + 1 :]]) != root
    assert merkle.proven_root(leaves[index], index, size, [*path, bytes(32)]) is None


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0), (7, 4)])
def test_a_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    leaves = hashed(ENTRIES[:size])
    assert merkle.proven_root(merkle.leaf(b""), index, size, []) is None
    with pytest.raises(IndexError):
        merkle.proof(leaves, index)


def test_a_leaf_is_no_node() -> None:
    """Without the prefixes two leaves' hashes, joined, would be an entry with the root of both."""
    left, right = hashed(ENTRIES[:2])
    assert merkle.root([merkle.leaf(left + right)]) != merkle.root([left, right])
