"""`p2pcap project check|diff|show|pause|resume|publish` as a maintainer types them."""

import os
from pathlib import Path
from typing import Any

import pytest

from p2pcap.cli.main import run
from p2pcap.errors import SwarmError
from p2pcap.node.bundle import read_bundle
from p2pcap_bootstrap import publication
from p2pcap_bootstrap.rotating import NOTHING, Changes, rotate
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import NOW
from tests.unit.control_node import runtime
from tests.unit.coordinator import change, new_project, sign_again, signed_project, tree, write_images

__all__ = ["runtime"]

Capture = pytest.CaptureFixture[str]
OTHER = [{"name": "caption", "text": "What is that?"}]


@pytest.fixture(autouse=True)
def sockets(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "home"))


def said(capsys: Capture, *arguments: str, code: int = 0) -> tuple[list[str], str]:
    """Lines of standard output, and standard error."""
    capsys.readouterr()
    assert run(["project", *arguments]) == code, capsys.readouterr().err
    found = capsys.readouterr()
    return found.out.splitlines(), found.err


def test_check_says_what_would_be_signed_and_writes_nothing(tmp_path: Path, capsys: Capture) -> None:
    workspace = new_project(tmp_path)
    before = tree(workspace.directory)
    change(workspace, sampling={"temperature": 0.5})
    before = tree(workspace.directory)
    lines, told = said(capsys, "check", str(workspace.directory))
    assert lines == ["new: 200 images in 4 chunks"]
    assert "note: captions made so cannot be checked by scoring" in told
    assert "can be signed: p2pcap project sign" in told
    assert tree(workspace.directory) == before


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompts": [{"name": "caption", "text": "{nothing}"}]}, "for the letters themselves"),
        ({"model": "/nowhere/at/all"}, "neither a model directory"),
        ({"images": "/nowhere"}, "There is no folder"),
        ({"deadline": "yesterday"}, "deadline"),
    ],
)
def test_check_finds_what_signing_would(tmp_path: Path, capsys: Capture, fields: dict[str, Any], says: str) -> None:
    workspace = new_project(tmp_path)
    change(workspace, **fields)
    before = tree(workspace.directory)
    _, told = said(capsys, "check", str(workspace.directory), code=2)
    assert says in told
    assert tree(workspace.directory) == before


def test_diff_says_what_the_next_signing_changes(tmp_path: Path, capsys: Capture) -> None:
    workspace = signed_project(tmp_path, images=10)
    workspace.draft.unlink()
    assert said(capsys, "diff", str(workspace.directory)) == ([], "nothing would change\n")
    write_images(tmp_path / "images", 12)
    (tmp_path / "images" / "00003.png").unlink()
    change(workspace, prompts=OTHER)
    lines, _ = said(capsys, "diff", str(workspace.directory))
    assert lines == [
        "stage main: another task; all images are asked about anew",
        "stage main, prompt caption, text: What is it? → What is that?",
        "images: 2 new ones in 1 chunks",
        "images: 1 are not there any more; they keep their places",
    ]


def test_show_says_what_is_signed(tmp_path: Path, capsys: Capture) -> None:
    workspace = signed_project(tmp_path, images=10)
    lines, told = said(capsys, "show", str(workspace.directory))
    assert "nobody has seen it yet" in told
    project = workspace.project()
    assert f"project:   {project.hash.hex()}" in lines
    assert "images:    10 in 1 chunks" in lines
    assert f"stage:     main: task {project.stages[0].task.tid.hex()}, model (2 files)" in lines
    assert "           caption: What is it?" in lines


def test_without_a_folder_the_project_here_is_meant(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = signed_project(tmp_path, images=3)
    monkeypatch.chdir(workspace.directory)
    lines, told = said(capsys, "show")
    assert f"project:   {workspace.project().hash.hex()}" in lines
    assert str(workspace.directory / "project.yaml") in told


ON_A_FOLDER = ["check", "diff", "sign", "show", "pause", "resume", "publish"]


@pytest.mark.parametrize("command", ON_A_FOLDER)
def test_the_project_file_may_be_named(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Before any that would be found, on the command line or in a variable; which one it is is said."""
    workspace = signed_project(tmp_path, images=3)
    file, elsewhere = workspace.directory / "project.yaml", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "project.yaml").write_text("no project")
    monkeypatch.chdir(elsewhere)
    beside = ["--to", str(tmp_path / "cats.p2pcap")] if command == "publish" else []

    def file_in_use(*arguments: str) -> list[str]:
        run(["project", command, *arguments, *beside])  # what it does is not the question: it may be paused already
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("configuration: ")]

    workspace.draft.touch()  # else pause and resume look for peers
    capsys.readouterr()
    assert file_in_use("--config", str(file)) == [f"configuration: {file}"]
    variable = f"P2PCAP_PROJECT_{command.upper()}_CONFIG"
    monkeypatch.setenv(variable, str(file))
    assert file_in_use() == [f"configuration: {file}"]
    monkeypatch.setenv(variable, str(elsewhere / "project.yaml"))
    assert file_in_use(str(workspace.directory)) == []


@pytest.mark.parametrize("command", ON_A_FOLDER)
def test_two_names_of_a_project_are_one_too_many(tmp_path: Path, capsys: Capture, command: str) -> None:
    (tmp_path / "cats.yaml").touch()
    _, told = said(capsys, command, "cats", "--config", "cats/project.yaml", code=2)
    assert told == "Both cats and --config cats/project.yaml are named. Leave one of the two out.\n"
    _, told = said(capsys, command, "--config", str(tmp_path / "cats.yaml"), code=2)
    assert told.endswith("is not called project.yaml. Name the project.yaml of a folder with the project's keys.\n")
    _, told = said(capsys, command, "--config", "/dev/null", code=2)
    assert told.startswith("There is no project.yaml: looked for project.yaml, ")


@pytest.mark.parametrize("to", [(), ("--to", "cats.p2pcap"), ("--to", "/ip4/127.0.0.1/tcp/1")])
def test_what_is_not_signed_is_not_published(tmp_path: Path, capsys: Capture, to: tuple[str, ...]) -> None:
    workspace = new_project(tmp_path, images=3)
    _, told = said(capsys, "publish", str(workspace.directory), *to, code=2)
    assert f"Run: p2pcap project sign {workspace.directory}" in told


@pytest.mark.parametrize("to", [(), ("--to", "cats.p2pcap"), ("--to", "/ip4/127.0.0.1/tcp/1")])
def test_nor_is_a_manifest_of_the_root_before(tmp_path: Path, capsys: Capture, to: tuple[str, ...]) -> None:
    """The program was killed between the new root and the manifest that names it."""
    workspace = signed_project(tmp_path, images=3)
    rotate(workspace, Changes(coordinator=True), NOTHING, NOW)
    _, told = said(capsys, "publish", str(workspace.directory), *to, code=2)
    assert told.startswith("Root 2 is in force here, and no manifest names it yet.")
    assert workspace.draft.exists()


def test_pause_and_resume_sign_nothing_else(tmp_path: Path, capsys: Capture) -> None:
    workspace = signed_project(tmp_path, images=3)
    first = workspace.project()
    _, told = said(capsys, "pause", str(workspace.directory))
    assert "signed manifest 2: the project is paused" in told
    assert "p2pcap bootstrap serve" in told
    paused = workspace.project()
    assert paused.plan.paused is True
    assert paused.manifest.expires == first.manifest.expires
    said(capsys, "pause", str(workspace.directory), code=2)
    said(capsys, "resume", str(workspace.directory))
    assert workspace.project().plan == first.plan
    assert workspace.project().manifest.version == 3


def test_a_pause_that_the_file_contradicts_is_noted(tmp_path: Path, capsys: Capture) -> None:
    workspace = signed_project(tmp_path, images=3)
    change(workspace, paused=False)
    _, told = said(capsys, "pause", str(workspace.directory), "--stage", "main")
    assert "says otherwise" not in told
    _, told = said(capsys, "pause", str(workspace.directory))
    assert "note: project.yaml says otherwise in `paused`" in told


def test_what_is_published_is_no_draft_any_more(tmp_path: Path, capsys: Capture) -> None:
    workspace = signed_project(tmp_path, images=3)
    file = tmp_path / "cats.p2pcap"
    _, told = said(capsys, "publish", str(workspace.directory), "--to", str(file))
    assert f"wrote {file}, {file.stat().st_size} bytes" in told
    assert not workspace.draft.exists()
    project = workspace.project()
    assert read_bundle(file, project.hash).project == project
    _, told = said(capsys, "sign", str(workspace.directory))
    assert f"next: p2pcap project publish {workspace.directory}" in told


def test_with_nobody_to_publish_to_it_says_what_to_do(tmp_path: Path, capsys: Capture) -> None:
    workspace = signed_project(tmp_path, images=3)
    capsys.readouterr()
    assert run(["project", "publish", str(workspace.directory)]) != 0
    assert "p2pcap bootstrap serve" in capsys.readouterr().err
    assert workspace.draft.exists()
    with pytest.raises(SwarmError, match="No peer of this project is known here"):
        publication.to_peers(workspace)


def test_signing_says_what_is_new_and_what_went(tmp_path: Path, capsys: Capture) -> None:
    workspace = signed_project(tmp_path, images=3)
    workspace.draft.unlink()
    (tmp_path / "images" / "00001.png").unlink()
    write_images(tmp_path / "more", 1)
    os.rename(tmp_path / "more" / "00000.png", tmp_path / "images" / "new.png")
    _, told = said(capsys, "sign", str(workspace.directory))
    assert "note: 1 images are not there any more; they keep their places" in told
    assert "1 images are new" in told


def test_signing_may_leave_images_alone(tmp_path: Path, capsys: Capture) -> None:
    workspace = signed_project(tmp_path, images=3)
    workspace.draft.unlink()
    before = workspace.project()
    (tmp_path / "images").rename(tmp_path / "away")
    change(workspace, prompts=OTHER)
    said(capsys, "sign", str(workspace.directory), "--no-images")
    after = workspace.project()
    assert after.plan.chunks == before.plan.chunks
    assert after.stages != before.stages


def test_serving_is_the_end_of_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pcap.cli import live

    workspace = signed_project(tmp_path, images=3)
    seen: list[Any] = []
    monkeypatch.setattr(live, "run_shown", lambda options, *_, **__: seen.append((options, workspace.draft.exists())))
    assert run(["bootstrap", "serve", str(workspace.directory)]) == 0
    ((options, draft),) = seen
    assert not draft
    assert options.outbox == workspace.directory / "outbox"
    change(workspace, prompts=OTHER)
    sign_again(workspace)
    again = options.seed.again()
    assert again.project == Workspace(workspace.directory).project()
    assert again.project.manifest.version == 2
