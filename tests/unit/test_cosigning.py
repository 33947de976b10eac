"""A project of several maintainers from its first root on: it begins when enough of them have signed."""

import shutil
from pathlib import Path

import pytest

from p2pcap.cli.main import run
from p2pcap.errors import ConfigError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.project.opened import open_project
from p2pcap.project.roots import last_of, write_chain
from p2pcap_bootstrap.backup import export, restore
from p2pcap_bootstrap.cosigning import begin, check_signed, finish, first_root, sign_partial, waiting
from p2pcap_bootstrap.inspecting import of_path
from p2pcap_bootstrap.publication import to_file
from p2pcap_bootstrap.rotating import NOTHING, Changes, rotate
from p2pcap_bootstrap.workspace import Workspace
from tests.chains import HELM, KEYS
from tests.makers import NOW
from tests.unit.coordinator import sign_again, tree, write_images, write_model

ANN, BEN, CAT = KEYS[:3]


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workspace:
    """A project of this maintainer, Ann and Ben, of whom two must sign; only this one has."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images", 3)
    write_model(tmp_path / "model")
    ANN.save(tmp_path / "ann.key")
    others = ["--root-key", "ann.key", "--root-key", BEN.peer_id]
    assert run(["project", "init", "cats", "--images", "images", "--model", "model", "--threshold", "2", *others]) == 0
    return Workspace(tmp_path / "cats")


def test_a_project_of_several_begins_when_enough_have_signed(
    begun: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others sign on their own machines, with the commands that they are told."""
    assert "lacks 1 of the signatures of root 1. Send cats/signed/root-1.partial" in capsys.readouterr().err
    assert run(["project", "sign", "cats"]) == 2
    told = capsys.readouterr().err
    assert "nothing is signed before the holders of the root keys have" in told
    assert begun.manifest() is None
    shutil.copy(begun.partial(1), tmp_path / "theirs.partial")
    assert run(["key", "sign-root", "theirs.partial", "--key", "ann.key", "--yes"]) == 0
    told = capsys.readouterr().err
    assert f"root key {ANN.peer_id} comes" in told
    assert "2 root keys must sign this root and the next" in told
    assert run(["key", "sign-root", "cats", "--add", "theirs.partial"]) == 0
    assert "root 1 is in force here; next: p2pcap project sign cats" in capsys.readouterr().err
    assert waiting(begun) is None
    assert run(["project", "sign", "cats"]) == 0
    root = begun.project().root
    assert (root.name, root.version, root.roles.root.threshold, len(root.roles.root.keys)) == ("cats", 1, 2, 3)


def test_volunteers_see_that_enough_have_signed(begun: Workspace) -> None:
    """The signatures travel with the manifest; without them nobody follows it."""
    sign_partial(begun.partial(1), [BEN])
    finish(begun)
    sign_again(begun)
    project, first = begun.project(), begun.root()
    assert first is not None
    signers = {Identity.load(begun.root_key).public, BEN.public}
    assert {envelope.author for envelope in begun.chain()[0]} == signers
    assert project.roots_data == write_chain(begun.chain())
    assert project.version == (1, 1)
    alone = [[first]]
    for data in (b"", write_chain(alone)):
        with pytest.raises(UntrustedError):
            open_project(first, project.manifest_envelope, project.plan_data, project.hash, data)
    with pytest.raises(UntrustedError, match="1 of the 2 signatures"):
        last_of(alone, project.hash)


def test_what_is_signed_goes_out_and_is_kept(begun: Workspace, tmp_path: Path) -> None:
    """Published, backed up, told of, and replaced by a second root, like any other project."""
    waiting_copy = tmp_path / "kept.partial"
    shutil.copy(begun.partial(1), waiting_copy)
    told = of_path(waiting_copy, NOW)
    assert (told.kind, told.holds) == ("waiting root", None)
    assert "2 root keys must sign" in told.facts["root 1"]
    sign_partial(begun.partial(1), [ANN])
    finish(begun)
    sign_again(begun)
    assert of_path(begun.directory / "signed" / "manifest.cbor", NOW).holds is True
    assert of_path(begun.directory / "signed" / "roots.cbor", NOW).holds is True
    to_file(begun, tmp_path / "cats.p2pcap")
    assert of_path(tmp_path / "cats.p2pcap", NOW).holds is True
    export(begun, tmp_path / "cats.backup", b"")
    restored = restore(tmp_path / "cats.backup", tmp_path / "again", None)
    assert restored.project() == begun.project()
    rotation = rotate(restored, Changes(coordinator=True), NOTHING, NOW)
    assert rotation.missing == {1: 1, 2: 1}
    assert rotation.partial is not None
    sign_partial(rotation.partial, [BEN])
    finish(restored)
    sign_again(restored)
    assert restored.project().version == (2, 2)


def test_who_holds_no_root_key_signs_no_first_root(begun: Workspace) -> None:
    before = tree(begun.directory)
    with pytest.raises(ConfigError, match="is no root key of this project"):
        sign_partial(begun.partial(1), [CAT])
    assert finish(begun).missing == {1: 1}
    assert tree(begun.directory) == before
    with pytest.raises(ConfigError, match="lacks 1 of the signatures of root 1"):
        check_signed(begun)


def test_one_of_several_may_be_enough(tmp_path: Path) -> None:
    own = Identity.from_seed(b"o" * 32)
    rotation = begin(Workspace(tmp_path), "Shapes", own, (ANN.public,), 1, HELM.public, NOW)
    assert (rotation.partial, rotation.missing) == (None, {})
    assert Workspace(tmp_path).roots() is None
    assert Workspace(tmp_path).root_in_force() == first_root("Shapes", (own.public, ANN.public), 1, HELM.public, NOW)


def test_a_name_that_no_ticket_can_carry_is_refused() -> None:
    assert first_root("🐈" * 63, (ANN.public,), 1, HELM.public, NOW).name == "🐈" * 63
    with pytest.raises(ConfigError, match="over 255 bytes"):
        first_root("🐈" * 64, (ANN.public,), 1, HELM.public, NOW)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--threshold", "2"], "asks for more signatures than it names keys. Choose other keys, or another threshold"),
        (["--threshold", "3", "--root-key", ANN.peer_id], "asks for more signatures than it names keys"),
        (["--root-key", ANN.peer_id, "--root-key", ANN.public.hex()], "holds a key twice"),
        (["--root-key", "nobody"], "is no key file, no peer id"),
        ([word for key in KEYS[:16] for word in ("--root-key", key.peer_id)], "beyond the protocol's limits"),
    ],
)
def test_what_nobody_can_meet_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images", 3)
    write_model(tmp_path / "model")
    before = tree(tmp_path)
    assert run(["project", "init", "cats", "--images", "images", "--model", "model", *options]) == 2
    assert why in capsys.readouterr().err
    assert tree(tmp_path) == before
    assert not (tmp_path / "cats").exists()
