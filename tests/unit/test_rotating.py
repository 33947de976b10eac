"""Keys of a project are replaced step by step, by as many people as must agree, and none of it half."""

import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import UNSET

from p2pcap.encryption import LEAST
from p2pcap.envelope import seal
from p2pcap.errors import ConfigError, KeyFileError, UntrustedError
from p2pcap.identity import Identity, is_encrypted
from p2pcap.project.opened import payload_hash
from p2pcap.project.records import FormerKey, Root
from p2pcap.project.roots import open_chain, read_chain, write_chain
from p2pcap_bootstrap.cosigning import (
    Rotation,
    differences,
    finish,
    read_partial,
    sign_partial,
)
from p2pcap_bootstrap.rotating import NOTHING, Changes, Last, next_root, rotate
from p2pcap_bootstrap.workspace import Workspace
from tests.chains import HELM, KEYS, forged, root_of
from tests.makers import NOW
from tests.unit.coordinator import sign_again, signed_project, tree

ANN, BEN, CAT = KEYS[:3]
"""Others who hold root keys."""

LAST: Last = (41, b"h" * 32)
YEAR = 365 * 86_400


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signed_project(tmp_path_factory.mktemp("signed"), images=3).directory.parent


@pytest.fixture
def workspace(signed_once: Path, tmp_path: Path) -> Workspace:
    """A signed project."""
    shutil.copytree(signed_once, tmp_path / "base")
    return Workspace(tmp_path / "base" / "project")


def turn(workspace: Workspace, last: Last = NOTHING, **changes: object) -> Rotation:
    return rotate(workspace, Changes(**changes), last, NOW)  # type: ignore[arg-type]


def in_force(workspace: Workspace) -> Root:
    """The root, as a volunteer reads it from the blob of all versions."""
    named = workspace.roots()
    assert named is not None
    root = workspace.root()
    assert root is not None
    return open_chain(named[1], named[0], payload_hash(root))


def test_a_new_coordinator_key_takes_over(workspace: Workspace) -> None:
    old = workspace.coordinator()
    rotation = turn(workspace, LAST, coordinator=True)
    assert (rotation.partial, rotation.missing) == (None, {})
    new = workspace.coordinator()
    root = in_force(workspace)
    assert root == rotation.root == workspace.root_in_force()
    assert (root.version, root.expires) == (2, NOW + YEAR)
    assert old.public not in root.keys
    assert root.keys[root.roles.coordinator.keys[0]] == new.public
    assert root.former == (FormerKey(old.public, *LAST),)
    assert workspace.coordinator_key.name == "coordinator-2.key"
    assert stat.S_IMODE(workspace.coordinator_key.stat().st_mode) == 0o600
    assert Identity.load(workspace.keys / "coordinator.key") == old


def test_what_was_signed_still_opens_until_it_is_signed_again(workspace: Workspace) -> None:
    before = workspace.project()
    turn(workspace, LAST, coordinator=True)
    assert workspace.project() == before
    sign_again(workspace)
    after = workspace.project()
    assert after.root.version == 2
    assert after.hash == before.hash
    assert after.version > before.version
    assert after.former == {before.root.keys[1]: FormerKey(before.root.keys[1], *LAST)}
    turn(workspace, (42, b"i" * 32), coordinator=True)
    assert workspace.project() == after


def test_a_chain_of_rotations(workspace: Workspace) -> None:
    coordinators = [workspace.coordinator().public]
    for number in range(1, 5):
        turn(workspace, (number, bytes([number]) * 32), coordinator=True)
        coordinators.append(workspace.coordinator().public)
    turn(workspace, root=True)
    turn(workspace)
    root = in_force(workspace)
    assert root.version == 7
    assert root.former is not UNSET
    assert [(each.key, each.checkpoint) for each in root.former] == [*zip(coordinators[:-1], range(1, 5), strict=True)]
    assert len(set(coordinators)) == 5


def test_a_new_root_key_is_signed_by_both(workspace: Workspace) -> None:
    old = Identity.load(workspace.root_key)
    turn(workspace, root=True)
    new = Identity.load(workspace.keys / "root-2.key")
    assert {envelope.author for envelope in workspace.chain()[1]} == {old.public, new.public}
    assert in_force(workspace).former is UNSET
    workspace.root_key.unlink()
    assert turn(workspace).partial is None


def test_without_a_root_key_nothing_is_signed(workspace: Workspace) -> None:
    workspace.root_key.rename(workspace.directory.parent / "safe.key")
    before = tree(workspace.directory)
    with pytest.raises(KeyFileError, match="None of the project's root keys is in"):
        turn(workspace, LAST, coordinator=True)
    assert tree(workspace.directory) == before


def test_before_the_first_signing_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no signed project"):
        turn(Workspace(tmp_path), coordinator=True)
    assert list(tmp_path.iterdir()) == []


BAD: list[tuple[Callable[[Root], dict[str, object]], str]] = [
    (lambda root: {"threshold": 2}, "more signatures than it names keys"),
    (lambda root: {"remove": (ANN.public,)}, "is no root key of this project"),
    (lambda root: {"verifiers": (ANN.public,), "needed": 2}, "more signatures than it names keys"),
    (lambda root: {"add": tuple(key.public for key in KEYS[:17])}, "beyond the protocol's limits"),
    (lambda root: {"remove": (root.keys[0],)}, "beyond the protocol's limits"),
    (lambda root: {"coordinator": True, "add": (root.keys[1],)}, "a former key in force"),
]


@pytest.mark.parametrize(("changes", "why"), BAD)
def test_a_root_that_cannot_be_is_not_made(
    workspace: Workspace, changes: Callable[[Root], dict[str, object]], why: str
) -> None:
    before = tree(workspace.directory)
    with pytest.raises(ConfigError, match=why):
        turn(workspace, LAST, **changes(workspace.root_in_force()))
    assert tree(workspace.directory) == before


def test_several_people_sign_together(workspace: Workspace, tmp_path: Path) -> None:
    """One maintainer asks two others; their keys never meet."""
    own = Identity.load(workspace.root_key)
    rotation = turn(workspace, add=(ANN.public, BEN.public), threshold=2)
    assert rotation.missing == {2: 1}
    assert rotation.partial == workspace.partial(2)
    assert workspace.root_in_force().version == 1
    theirs = tmp_path / "theirs.partial"
    shutil.copy(rotation.partial, theirs)
    assert sign_partial(theirs, [ANN]) == {}
    assert workspace.root_in_force().version == 1
    assert sign_partial(rotation.partial, [], [theirs]) == {}
    assert finish(workspace).partial is None
    assert not rotation.partial.exists()
    root = in_force(workspace)
    assert root.roles.root.threshold == 2
    assert {envelope.author for envelope in workspace.chain()[1]} == {own.public, ANN.public}
    assert turn(workspace, LAST, coordinator=True).missing == {2: 1, 3: 1}


def test_a_rotation_that_waits_keeps_the_old_keys(workspace: Workspace, tmp_path: Path) -> None:
    partial = turn(workspace, add=(ANN.public,), threshold=2).partial
    assert partial is not None
    sign_partial(partial, [ANN])
    finish(workspace)
    old = workspace.coordinator()
    waiting = turn(workspace, LAST, coordinator=True).partial
    assert waiting is not None
    assert workspace.coordinator() == old
    sign_again(workspace)
    assert workspace.project().root.version == 2
    with pytest.raises(ConfigError, match="waits for signatures"):
        turn(workspace, coordinator=True)
    assert finish(workspace).missing == {2: 1, 3: 1}
    sign_partial(waiting, [ANN])
    finish(workspace)
    assert workspace.coordinator() != old


def test_a_key_made_for_a_root_nobody_signed_is_taken_again(workspace: Workspace) -> None:
    first = turn(workspace, LAST, coordinator=True, add=(ANN.public,), threshold=2)
    assert first.partial is not None
    first.partial.unlink()
    assert turn(workspace, LAST, coordinator=True).root.keys[1] == first.root.keys[2]


def test_nobody_else_signs(workspace: Workspace) -> None:
    partial = turn(workspace, add=(ANN.public,), threshold=2).partial
    assert partial is not None
    before = partial.read_bytes()
    with pytest.raises(ConfigError, match="is no root key of this project"):
        sign_partial(partial, [ANN, BEN])
    assert partial.read_bytes() == before


def test_copies_of_another_root_are_not_added(workspace: Workspace, tmp_path: Path) -> None:
    partial = turn(workspace, add=(ANN.public,), threshold=2).partial
    assert partial is not None
    before, other = partial.read_bytes(), tmp_path / "other.partial"
    partial.unlink()
    made = turn(workspace, add=(ANN.public, BEN.public), threshold=2).partial
    assert made is not None
    other.write_bytes(before)
    sign_partial(other, [ANN])
    with pytest.raises(UntrustedError, match="is another root"):
        sign_partial(made, [], [other])


def test_a_false_signature_in_a_copy_is_left_out(workspace: Workspace, tmp_path: Path) -> None:
    partial = turn(workspace, add=(ANN.public,), threshold=2).partial
    assert partial is not None
    chain, other = read_chain(partial.read_bytes()), tmp_path / "other.partial"
    by_ann, by_cat = (seal(key, "root", read_partial(partial)[1]) for key in (ANN, CAT))
    other.write_bytes(write_chain([*chain[:-1], [*chain[-1], forged(by_ann), by_cat]]))
    assert sign_partial(partial, [], [other]) == {2: 1}
    assert read_chain(partial.read_bytes()) == chain


def test_a_root_that_follows_another_is_not_finished(workspace: Workspace) -> None:
    waiting = turn(workspace, add=(ANN.public,), threshold=2).partial
    assert waiting is not None
    stale = waiting.read_bytes()
    waiting.unlink()
    turn(workspace, LAST, coordinator=True)
    workspace.partial(3).write_bytes(stale)
    with pytest.raises(UntrustedError, match="follows another one"):
        finish(workspace)
    assert workspace.root_in_force().version == 2


@pytest.mark.parametrize("data", [b"", b"no chain", write_chain([[seal(BEN, "root", root_of([ANN]))]])])
def test_what_is_no_waiting_root_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "root-2.partial"
    path.write_bytes(data)
    with pytest.raises(UntrustedError):
        read_partial(path)
    with pytest.raises(ConfigError, match="There is no root at"):
        read_partial(tmp_path / "none")


def test_a_new_key_has_the_passphrase_of_the_one_before(workspace: Workspace) -> None:
    workspace.coordinator().set_passphrase(workspace.coordinator_key, b"sesame", LEAST)
    with pytest.raises(KeyFileError, match="has a passphrase"):
        workspace.coordinator()
    asked: list[Path] = []

    def passphrase(path: Path) -> bytes:
        asked.append(path)
        return b"sesame"

    told = replace(workspace, passphrase=passphrase)
    turn(told, LAST, coordinator=True)
    assert asked == [workspace.keys / "coordinator.key"]
    assert is_encrypted(told.coordinator_key)
    assert told.coordinator().public == in_force(workspace).keys[1]


def test_verifiers_come_and_go(workspace: Workspace) -> None:
    """A verifier who leaves is known as one, or what he said would go with him."""
    old = workspace.coordinator().public
    root = turn(workspace, verifiers=(ANN.public, BEN.public), needed=2).root
    assert root.roles.verifier is not UNSET
    assert root.roles.verifier.threshold == 2
    assert root.former is UNSET
    root = turn(workspace, LAST, verifiers=()).root
    assert root.roles.verifier is UNSET
    assert root.former == tuple(FormerKey(key, *LAST) for key in sorted((ANN.public, BEN.public)))
    assert workspace.coordinator().public == old


def test_a_lost_coordinator_key_is_replaced(workspace: Workspace) -> None:
    old = workspace.coordinator().public
    (workspace.keys / "coordinator.key").unlink()
    root = turn(workspace, LAST, coordinator=True).root
    assert root.former == (FormerKey(old, *LAST),)
    assert workspace.coordinator().public in root.keys


def test_only_this_folders_coordinator_is_replaced(workspace: Workspace) -> None:
    root = workspace.root_in_force()
    helm = [root.keys[1], HELM.public]
    with_two = next_root(root, [root.keys[0]], helm, Changes(), NOTHING, NOW)
    with workspace.rotating():
        workspace.put_chain([*workspace.chain(), [seal(Identity.load(workspace.root_key), "root", with_two)]])
    after = turn(workspace, LAST, coordinator=True).root
    assert [after.keys[index] for index in after.roles.coordinator.keys] == [
        workspace.coordinator().public,
        HELM.public,
    ]
    assert after.former == (FormerKey(root.keys[1], *LAST),)


def test_what_changes_is_told(workspace: Workspace) -> None:
    before = workspace.root_in_force()
    rotation = turn(workspace, LAST, coordinator=True, add=(ANN.public,))
    old = Identity.load(workspace.keys / "coordinator.key")
    lines = differences(before, rotation.root)
    assert lines[:4] == [
        f"root key {ANN.peer_id} comes",
        f"coordinator {old.peer_id} leaves",
        f"coordinator {workspace.coordinator().peer_id} comes",
        f"what {old.peer_id} signed counts as far as checkpoint 41 seals it",
    ]
    assert lines[4].startswith("root 2 expires 2028-01-15, root 1 ")


def test_a_damaged_chain_is_not_continued(workspace: Workspace) -> None:
    turn(workspace, LAST, coordinator=True)
    path = workspace.directory / "signed" / "roots.cbor"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UntrustedError):
        turn(workspace)
    with pytest.raises(UntrustedError):
        workspace.coordinator()
