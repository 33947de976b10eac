"""The chain of roots: nobody who lacks the keys moves it, and nothing in it is left out, swapped or played again."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from p2pcap.codec import encode
from p2pcap.envelope import seal
from p2pcap.errors import UntrustedError
from p2pcap.identity import Identity
from p2pcap.project.records import MAX_ROOTS, FormerKey, Role, Roles, Root, RootChain
from p2pcap.project.roots import (
    MAX_VERSIONS,
    check_root,
    follow,
    last_of,
    missing,
    open_chain,
    open_first,
    read_chain,
    root_hash,
    write_chain,
)
from tests.chains import HELM, KEYS, NEW_HELM, after, forged, plain, root_of, signed

A, B, C, D, E = KEYS[:5]
FIRST = root_of([A])
FORMER = FormerKey(HELM.public, 7, b"h" * 32)


def named(data: bytes, version: int) -> RootChain:
    return RootChain(version, hashlib.sha256(data).digest(), len(data))


def test_the_first_root_is_the_one_the_ticket_names() -> None:
    [envelope] = signed(FIRST, A)
    assert open_first(envelope, root_hash(FIRST)) == FIRST
    for expected in (bytes(32), root_hash(root_of([B]))):
        with pytest.raises(UntrustedError, match="not the one the ticket names"):
            open_first(envelope, expected)


def test_the_hash_alone_is_not_enough_for_a_first_root() -> None:
    for envelope in (*signed(FIRST, B), forged(signed(FIRST, A)[0])):
        with pytest.raises(UntrustedError, match="not signed by its own key"):
            open_first(envelope, root_hash(FIRST))


def test_a_first_root_has_as_many_signatures_as_it_asks_for() -> None:
    """As in TUF: what a project says of its maintainers, they have said themselves."""
    root = root_of([A, B, C], 2)
    assert open_first(signed(root, B)[0], root_hash(root)) == root
    assert last_of([signed(root, B, C)], root_hash(root)) == root
    second = after(root, [A, B, C], 2)
    for chain in ([signed(root, B)], [signed(root, B, D)], [signed(root, B), signed(second, A, B)]):
        with pytest.raises(UntrustedError, match="Root 1 has 1 of the 2 signatures that root 1 asks for"):
            last_of(chain, root_hash(root))


def test_a_later_root_is_no_first_one() -> None:
    second = after(FIRST, [A])
    with pytest.raises(UntrustedError, match="not the project's first"):
        open_first(signed(second, A)[0], root_hash(second))


def test_another_statement_is_no_root() -> None:
    envelope = seal(A, "manifest", FIRST)
    with pytest.raises(UntrustedError):
        open_first(envelope, envelope.payload_hash)
    with pytest.raises(UntrustedError, match="over different roots"):
        follow(FIRST, [seal(A, "manifest", after(FIRST, [A]))])


def test_keys_change_step_by_step() -> None:
    roots = [FIRST]
    for holders, helm in (([A, B], HELM), ([B], HELM), ([C], NEW_HELM)):
        roots.append(after(roots[-1], holders, helm=helm))
    chain = [signed(root, *signers) for root, signers in zip(roots, ([A], [A], [B], [B, C]), strict=True)]
    assert last_of(chain, root_hash(FIRST)) == roots[-1]
    data = write_chain(chain)
    assert open_chain(data, named(data, 4), root_hash(FIRST)) == roots[-1]
    assert read_chain(data) == chain


@pytest.mark.parametrize(
    ("signers", "why"),
    [
        pytest.param([C], "root 1 asks", id="only the new one's own"),
        pytest.param([A], "root 1 asks", id="one of the two the old one asks for"),
        pytest.param([A, B], "root 2 asks", id="only the old one's"),
        pytest.param([A, C], "root 1 asks", id="half of each"),
        pytest.param([A, B, E], "root 2 asks", id="a key of neither stands for none"),
    ],
)
def test_both_thresholds_count(signers: list[Identity], why: str) -> None:
    old = root_of([A, B], 2)
    new = after(old, [C, D], 2)
    with pytest.raises(UntrustedError, match=why):
        follow(old, signed(new, *signers))
    assert follow(old, signed(new, A, B, C, D, E)) == new


def test_a_signature_counts_for_both_when_the_key_stays() -> None:
    old = root_of([A, B, C], 2)
    assert follow(old, signed(after(old, [B, C, D], 2), B, C)).version == 2


def test_a_signature_that_does_not_hold_is_worth_nothing() -> None:
    new = after(FIRST, [A])
    with pytest.raises(UntrustedError, match="0 of the 1"):
        follow(FIRST, [forged(envelope) for envelope in signed(new, A)])
    assert follow(FIRST, [forged(signed(new, B)[0]), *signed(new, A)]) == new


def test_one_key_signs_once() -> None:
    old = root_of([A, B], 2)
    new = after(old, [A, B], 2)
    for twice in (signed(new, A, A), [*signed(new, A, B), forged(signed(new, A)[0])]):
        with pytest.raises(UntrustedError, match="signed root 2 twice"):
            follow(old, twice)


def test_signatures_of_one_version_are_over_one_root() -> None:
    old = root_of([A, B], 2)
    one, other = after(old, [A, B], 2), after(old, [A, B], 2, NEW_HELM)
    with pytest.raises(UntrustedError, match="root 2 are over different roots"):
        follow(old, [*signed(one, A), *signed(other, B)])
    first = [*signed(old, A), *signed(root_of([B]), B)]
    with pytest.raises(UntrustedError, match="root 1 are over different roots"):
        last_of([first], root_hash(old))


@pytest.mark.parametrize("version", [1, 3, 4, 2**31 - 1])
def test_no_version_is_left_out_or_comes_again(version: int) -> None:
    new = after(FIRST, [A], version=version)
    new = plain(new) if version == 1 else new
    with pytest.raises(UntrustedError, match="stands where 2 should"):
        follow(FIRST, signed(new, A))


def test_a_root_of_another_project_with_the_same_keys_does_not_follow() -> None:
    other = root_of([A], name="Faces")
    with pytest.raises(UntrustedError, match="made to follow another root 1"):
        follow(FIRST, signed(after(other, [A], helm=NEW_HELM), A))


def test_a_root_that_follows_none_is_no_later_one() -> None:
    with pytest.raises(UntrustedError, match="says nothing of the root before it"):
        follow(FIRST, signed(plain(after(FIRST, [A])), A))
    first = structs.replace(FIRST, before=bytes(32))
    with pytest.raises(UntrustedError, match="says nothing of the root before it"):
        open_first(signed(first, A)[0], root_hash(first))


def test_a_retired_root_key_signs_nothing_any_more() -> None:
    second = after(FIRST, [B])
    third = after(second, [A])
    chain = [signed(FIRST, A), signed(second, A, B), signed(third, A)]
    with pytest.raises(UntrustedError, match="0 of the 1 signatures that root 2 asks"):
        last_of(chain, root_hash(FIRST))


def test_a_chain_is_the_one_the_manifest_names() -> None:
    second = after(FIRST, [A])
    old, new = write_chain([signed(FIRST, A)]), write_chain([signed(FIRST, A), signed(second, A)])
    expected = root_hash(FIRST)
    assert open_chain(new, named(new, 2), expected) == second
    longer, other = structs.replace(named(new, 2), length=1), structs.replace(named(new, 2), hash=bytes(32))
    for data, wanted in ((old, named(new, 2)), (new + b"\0", named(new, 2)), (new, longer), (new, other)):
        with pytest.raises(UntrustedError, match="not those that the manifest names"):
            open_chain(data, wanted, expected)
    for data, version in ((old, 2), (new, 1), (new, 3)):
        with pytest.raises(UntrustedError, match=f"The manifest names root {version}"):
            open_chain(data, named(data, version), expected)


def test_a_chain_of_another_project_is_refused() -> None:
    data = write_chain([signed(FIRST, A), signed(after(FIRST, [A]), A)])
    with pytest.raises(UntrustedError, match="not the one the ticket names"):
        open_chain(data, named(data, 2), root_hash(root_of([B])))


def test_a_chain_may_have_all_its_versions_and_no_more() -> None:
    roots = [FIRST]
    while len(roots) <= MAX_VERSIONS:
        roots.append(after(roots[-1], [A]))
    chain = [signed(root, A) for root in roots]
    data = write_chain(chain[:MAX_VERSIONS])
    assert len(data) < MAX_ROOTS
    assert open_chain(data, named(data, MAX_VERSIONS), root_hash(FIRST)) == roots[MAX_VERSIONS - 1]
    with pytest.raises(UntrustedError, match="cannot be read"):
        read_chain(write_chain(chain))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(encode([]), id="no version"),
        pytest.param(encode([[]]), id="no signature"),
        pytest.param(encode([[b""]]), id="an empty one"),
        pytest.param(encode([[b"x" * 100]]), id="no envelope"),
        pytest.param(encode([[bytes(1_629)]]), id="one that is too long"),
        pytest.param(encode([[seal(key, "root", FIRST).data for key in KEYS[:33]]]), id="33 signatures"),
        pytest.param(encode({"1": []}), id="a map"),
        pytest.param(encode([[seal(A, "root", FIRST).data]]) + b"\0", id="a byte more"),
        pytest.param(b"\x9f" + encode([seal(A, "root", FIRST).data]) + b"\xff", id="not canonical"),
        pytest.param(encode([[bytes(1_600)] * 32] * 21), id="over a megabyte"),
    ],
)
def test_what_is_no_chain_is_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError, match="cannot be read"):
        read_chain(data)


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError):
        open_chain(data, named(data, 1), root_hash(FIRST))


WHOLE = write_chain([signed(FIRST, A), signed(after(FIRST, [A, B], 2), A, B)])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found_even_by_whoever_signs_the_manifest(at: int, flip: int) -> None:
    """A coordinator's key names the blob's hash; it must not be able to make a root of it."""
    data = WHOLE[:at] + bytes([WHOLE[at] ^ flip]) + WHOLE[at + 1 :]
    with pytest.raises(UntrustedError):
        open_chain(data, named(data, 2), root_hash(FIRST))


def role(**changes: object) -> Callable[[Root], Root]:
    return lambda root: structs.replace(root, roles=structs.replace(root.roles, **changes))


def former(*keys: FormerKey) -> Callable[[Root], Root]:
    return lambda root: structs.replace(root, former=keys)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (role(root=Role((3,))), "keys that it does not hold"),
        (role(verifier=Role((0, 3))), "keys that it does not hold"),
        (role(checkpoint=Role((31,))), "keys that it does not hold"),
        (lambda root: structs.replace(root, keys=(A.public, A.public, HELM.public)), "holds a key twice"),
        (role(root=Role((0, 0), 2)), "a key twice in one role"),
        (role(verifier=Role((1, 1))), "a key twice in one role"),
        (role(root=Role((0, 1), 3)), "more signatures than it names keys"),
        (role(verifier=Role((0, 1), 3)), "more signatures than it names keys"),
        (role(coordinator=Role((1, 2), 2)), "several coordinators"),
        (role(checkpoint=Role((1, 2), 2)), "several coordinators"),
        (former(FORMER), "a former key in force"),
        (former(structs.replace(FORMER, key=A.public)), "a former key in force"),
        (former(*[structs.replace(FORMER, key=E.public)] * 2), "a former key twice"),
        (former(FormerKey(E.public, 0, b"h" * 32)), "by half"),
        (former(FormerKey(E.public, 7, bytes(32))), "by half"),
    ],
)
def test_a_root_that_contradicts_itself_is_refused(change: Callable[[Root], Root], why: str) -> None:
    root = change(root_of([A, B], 2))
    with pytest.raises(UntrustedError, match=why):
        open_first(signed(root, A)[0], root_hash(root))
    with pytest.raises(UntrustedError, match=why):
        check_root(root)
    later = change(after(FIRST, [A, B], 2))
    with pytest.raises(UntrustedError, match=why):
        follow(FIRST, signed(later, A, B))


def test_former_keys_are_kept_with_what_they_sealed() -> None:
    gone = (FORMER, FormerKey(E.public, 0, bytes(32)))
    second = after(FIRST, [A], helm=NEW_HELM, former=gone)
    assert follow(FIRST, signed(second, A)).former == gone


def test_what_is_missing_is_told_for_both_versions() -> None:
    old = root_of([A, B], 2)
    new = after(old, [C, D, E], 3)
    assert missing(signed(new, A), old, new) == {1: 1, 2: 3}
    assert missing(signed(new, A, B, C), old, new) == {2: 2}
    assert missing(signed(new, A, B, C, D, E), old, new) == {}


def test_roles_are_the_roots_own() -> None:
    """A coordinator of another version signs no manifest: the key in force is the last root's."""
    second = after(FIRST, [A], helm=NEW_HELM)
    assert second.roles == Roles(Role((0,)), Role((1,)))
    assert HELM.public not in second.keys
