"""From project.yaml and a folder of images to a signed project, and again; a failure writes nothing."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from msgspec import UNSET, UnsetType

from p2pcap.cli.main import run
from p2pcap.codec import decode
from p2pcap.envelope import seal
from p2pcap.errors import ConfigError, KeyFileError, ModelError, UntrustedError
from p2pcap.identity import Identity
from p2pcap.project.items import Item, ItemList, TarRange
from p2pcap.project.opened import open_items, open_list
from p2pcap.project.records import FetchRules, Manifest
from p2pcap.project.task import Task
from p2pcap_bootstrap import config, planning
from p2pcap_bootstrap.counter import counter
from p2pcap_bootstrap.models import find_model
from p2pcap_bootstrap.planning import Lists, fetch_rules
from p2pcap_bootstrap.signing import sign
from p2pcap_bootstrap.stages import make_stages
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import chunks_of
from tests.unit.coordinator import (
    change,
    file_of,
    new_project,
    sign_again,
    signed_project,
    tree,
    write_images,
    write_model,
)


def keys_of(workspace: Workspace) -> list[list[str]]:
    """The keys of the images in each chunk, as anybody would read them."""
    project = workspace.project()
    return [[item.key for item in open_items(workspace.blob(chunk.items), chunk)] for chunk in chunks_of(project)]


def test_a_signed_project_holds_every_image(tmp_path: Path) -> None:
    workspace = new_project(tmp_path, images=200, chunk=64)
    counted: list[int] = []
    sign(workspace, file_of(workspace), counted.append)
    project = workspace.project()
    assert counted == sorted(counted)
    assert counted[-1] == 200
    assert (project.title, project.images, project.manifest.version) == ("Shapes", 200, 1)
    assert [*project.counts] == [64, 64, 64, 8]
    assert keys_of(workspace) == [
        [f"{n:05}.png" for n in range(first, min(first + 64, 200))] for first in range(0, 200, 64)
    ]
    assert project.coordinators == {Identity.load(workspace.coordinator_key).public}
    assert project.root_envelope.author == Identity.load(workspace.root_key).public


def test_signing_again_keeps_the_project_and_raises_the_version(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    first = workspace.project()
    write_images(tmp_path / "images", 300)
    change(workspace, prompts=[{"name": "caption", "text": "What is that?"}])
    sign_again(workspace)
    second = workspace.project()
    assert second.hash == first.hash
    assert second.root_envelope == first.root_envelope
    assert (first.manifest.version, second.manifest.version) == (1, 2)
    assert second.images == 300
    assert second.stages[0].task.tid != first.stages[0].task.tid
    needed = {second.manifest.plan.hex()} | {chunk.items.hex() for chunk in chunks_of(second)}
    assert {name.removeprefix("signed/blobs/") for name in tree(workspace.directory) if "/blobs/" in name} == needed


def test_another_name_in_the_file_does_not_make_another_project(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    first = workspace.project()
    change(workspace, name="Forms")
    sign_again(workspace)
    assert workspace.project().hash == first.hash


def test_the_plan_hangs_on_the_images_alone(tmp_path: Path) -> None:
    """Two maintainers with the same folder plan the same chunks."""
    one, other = signed_project(tmp_path / "one"), signed_project(tmp_path / "other")
    assert one.project().plan.chunks == other.project().plan.chunks
    assert one.project().hash != other.project().hash


def test_files_beside_the_images_are_signed_with_them(tmp_path: Path) -> None:
    workspace = new_project(tmp_path, images=3)
    (tmp_path / "images" / "00001.txt").write_text("A cat.")
    change(workspace, images={"source": "../images", "fields": ["txt"]})
    sign_again(workspace)
    (found,) = lists_of(workspace)
    assert [item.metadata for item in found.items] == [{}, {"txt": "A cat."}, {}]
    assert workspace.project().plan.fetch is UNSET


def lists_of(workspace: Workspace) -> list[ItemList]:
    project = workspace.project()
    lists = workspace.lists(project)
    return [open_list(lists[chunk.items], chunk) for chunk in chunks_of(project)]


def test_images_of_a_parquet_file_are_known_by_hash(tmp_path: Path) -> None:
    workspace = new_project(tmp_path, images=1)
    images = [b"image %d" % number for number in range(150)]
    table = pyarrow.table({"image": images, "id": [f"n{number}" for number in range(150)]})
    pyarrow.parquet.write_table(table, tmp_path / "shard.parquet", row_group_size=40)
    change(workspace, images={"source": "../shard.parquet", "key_column": "id"})
    sign_again(workspace)
    found = lists_of(workspace)
    assert [item.hash for one in found for item in one.items] == [hashlib.sha256(image).digest() for image in images]
    assert {one.parquet.file for one in found if one.parquet is not UNSET} == {"file:shard.parquet"}
    assert workspace.project().plan.fetch is UNSET


def elsewhere(url: str | UnsetType = UNSET, file: str = "") -> ItemList:
    tar = TarRange(file, 10_000, 0, 10_000) if file else UNSET
    return ItemList((Item("a", b"", 5, url=url, at=0 if file else UNSET),), tar=tar)


@pytest.mark.parametrize(
    ("found", "fetched"),
    [
        (elsewhere("https://example.org/a.png"), True),
        (elsewhere(f"hf://datasets/a/b@{'0' * 40}/a.png"), True),
        (elsewhere(file="https://example.org/a.tar"), True),
        (elsewhere(file=f"hf://datasets/a/b@{'0' * 40}/a.tar"), True),
        (elsewhere(file="file:a.tar"), False),
        (ItemList((Item("a", bytes(32), 5),)), False),
    ],
)
def test_a_project_says_how_to_fetch_what_lies_elsewhere(tmp_path: Path, found: ItemList, fetched: bool) -> None:
    workspace = Workspace(tmp_path)
    with workspace.signing() as under_way:
        lists = Lists(under_way)
        lists.add(found)
    assert lists.elsewhere is fetched
    assert len(lists.table) == 1


def test_the_rules_for_fetching_are_those_of_the_file(tmp_path: Path) -> None:
    text = (
        "name: cats\nmodel: owner/model\nprompts: [{name: caption, text: Describe it.}]\n"
        "images: {source: urls.csv, hosts: ['files.lan:8080'], robots: false}\n"
    )
    assert fetch_rules(config.parse(text, tmp_path)) == FetchRules(("files.lan:8080",), False)


TOO_LONG = {f"field {number}": "x" * 8_192 for number in range(32)}
BEYOND = {
    "too many bytes": ItemList(tuple(Item(f"{n}", bytes(32), 5, fields=TOO_LONG) for n in range(150))),
    "a long key": ItemList((Item("k" * 1_025, bytes(32), 5),)),
    "a long field": ItemList((Item("k", bytes(32), 5, fields={"f": "x" * 8_193}),)),
}


@pytest.mark.parametrize("found", BEYOND.values(), ids=BEYOND.keys())
def test_what_no_volunteer_would_read_is_not_signed(tmp_path: Path, found: ItemList) -> None:
    with Workspace(tmp_path).signing() as under_way, pytest.raises(ConfigError, match="Lower `chunk`"):
        Lists(under_way).add(found)
    assert tree(tmp_path) == {}


def test_too_many_chunks_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_CHUNKS", 3)
    fails(new_project(tmp_path), ConfigError, "over 3 chunks")


def test_a_model_directory_is_listed_by_hash(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", **{"tokenizer.json": "{}", "README.md": "about", "code.py": "import os"})
    model = find_model("model", "", tmp_path)
    assert (model.name, model.revision) == ("model", "")
    assert [file.name for file in model.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert [file.length for file in model.files] == [(folder / file.name).stat().st_size for file in model.files]


# what cannot be signed


def fails(workspace: Workspace, error: type[Exception], says: str) -> None:
    """Signing ends with that error, and not a byte in the folder is another than before."""
    before = tree(workspace.directory)
    with pytest.raises(error, match=says):
        sign_again(workspace)
    assert tree(workspace.directory) == before


ASK = {"name": "caption", "text": "What is it?"}
FAULTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "two prompts of one name": ({"prompts": [ASK, ASK]}, ConfigError, "the same name"),
    "sampling that makes no sense": (
        {"sampling": {"max_tokens": 1, "min_tokens": 2}},
        ConfigError,
        "above its max_tokens",
    ),
    "a format that is none": ({"prompts": [ASK | {"format": {"regex": "("}}]}, ConfigError, "no regular expression"),
    "a name too long": ({"model": f"owner/{'m' * 200}", "revision": "ab" * 20}, ConfigError, "limits.*model.name"),
    "no folder": ({"images": "/nowhere"}, ConfigError, "There is no folder"),
    "no images in a section": ({"images": {"source": "/nowhere"}}, ConfigError, "There is no folder"),
    "a host that is none": ({"images": {"source": "images", "hosts": ["a b"]}}, ConfigError, "images.hosts"),
    "too many hosts": ({"images": {"source": "images", "hosts": ["h"] * 17}}, ConfigError, "images.hosts"),
    "no model": ({"model": "/nowhere/at/all"}, ModelError, "neither a model directory"),
}


@pytest.mark.parametrize(("fields", "error", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_in_the_file_writes_nothing(
    tmp_path: Path, fields: dict[str, Any], error: type[Exception], says: str
) -> None:
    workspace = signed_project(tmp_path)
    change(workspace, **fields)
    fails(workspace, error, says)


def test_an_empty_folder_writes_nothing(tmp_path: Path) -> None:
    fails(new_project(tmp_path, images=0), ConfigError, "has no files of images")


def test_an_unreadable_image_writes_nothing(tmp_path: Path) -> None:
    workspace = new_project(tmp_path)
    (tmp_path / "images" / "00100.png").unlink()
    with (tmp_path / "images" / "00100.png").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    fails(workspace, ConfigError, "00100.png has")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_damaged_model_writes_nothing(tmp_path: Path, missing: str) -> None:
    workspace = new_project(tmp_path)
    (tmp_path / "model" / missing).unlink()
    fails(workspace, ModelError, "model")


@pytest.mark.parametrize("key", ["root", "coordinator"])
@pytest.mark.parametrize("fault", ["missing", "damaged", "open to others"])
def test_a_faulty_key_writes_nothing(tmp_path: Path, key: str, fault: str) -> None:
    workspace = new_project(tmp_path)
    path = workspace.directory / "keys" / f"{key}.key"
    if fault == "missing":
        path.unlink()
    elif fault == "damaged":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.chmod(0o644)
    fails(workspace, KeyFileError, key)


def test_the_root_key_is_needed_once(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    workspace.root_key.unlink()
    sign_again(workspace)
    assert workspace.project().manifest.version == 2


def test_another_coordinator_key_is_refused(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    workspace.coordinator_key.unlink()
    Identity.create(workspace.coordinator_key)
    fails(workspace, UntrustedError, "not the key that the project's root names")


@pytest.mark.parametrize("name", ["root.cbor", "manifest.cbor"])
@pytest.mark.parametrize("damage", [b"", b"\xff", b"\0" * 5_000])
def test_a_damaged_record_is_not_signed_over(tmp_path: Path, name: str, damage: bytes) -> None:
    """A new manifest would begin at version 1 again, and versions never fall."""
    workspace = signed_project(tmp_path)
    (workspace.directory / "signed" / name).write_bytes(damage)
    fails(workspace, UntrustedError, "is damaged.*Restore it from a copy")


def test_a_manifest_somebody_else_signed_is_not_signed_over(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    project = workspace.project()
    forged = seal(Identity.generate(), "manifest", decode(project.manifest_envelope.payload, Manifest))
    (workspace.directory / "signed" / "manifest.cbor").write_bytes(forged.data)
    fails(workspace, UntrustedError, "not signed by the project's coordinator")


def test_a_disk_that_refuses_leaves_the_old_project(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    workspace = signed_project(tmp_path)
    before = workspace.project()
    write_images(tmp_path / "images", 300)
    with full_disk(), pytest.raises(ConfigError, match="cannot be written"):
        sign_again(workspace)
    assert workspace.project() == before
    assert len(keys_of(workspace)) == 4


def test_a_hub_that_cannot_be_reached_is_one_clear_error(tmp_path: Path) -> None:
    """In a process of its own: the address is read when the Hub's client is imported."""
    code = (
        "from pathlib import Path\n"
        "from p2pcap.errors import ModelError\n"
        "from p2pcap_bootstrap.models import find_model\n"
        "try:\n    find_model('owner/model', '', Path('.'))\nexcept ModelError as error:\n    print(error)\n"
    )
    hub = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | hub, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("The Hub does not tell the revision of owner/model"), done.stderr
    assert len(done.stdout.splitlines()) == 1


def task_of(workspace: Workspace) -> Task:
    (stage,) = make_stages(file_of(workspace), workspace.directory)
    return stage.task


PICTURES = {"source": "images", "fields": ["title", "year", "unused"]}


def test_a_task_has_the_fields_that_its_prompts_ask_for(tmp_path: Path) -> None:
    workspace = new_project(tmp_path)
    assert task_of(workspace).fields is UNSET
    asked = [{"name": "caption", "text": 'Describe "{title}" as {"json": 1}.'}, {"name": "old", "text": "{{unused}}"}]
    change(workspace, images=PICTURES, prompts=asked, system="It is of {year}.")
    assert task_of(workspace).fields == ("year", "title")


def test_signing_says_what_follows_from_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = new_project(tmp_path)
    assert run(["project", "sign", str(workspace.directory)]) == 0
    assert "note:" not in capsys.readouterr().err
    change(workspace, sampling={"temperature": 0.7})
    assert run(["project", "sign", str(workspace.directory)]) == 0
    said = "note: captions made so cannot be checked by scoring: caption (temperature above 0)"
    assert said in capsys.readouterr().err.splitlines()


def test_the_line_of_the_count_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal; whatever is said next begins on an empty line, also when signing ends with an error."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def end(numbers: tuple[int, ...]) -> None:
        with counter() as count:
            for number in numbers:
                count(number)
            raise ConfigError("what is said next")

    for numbers in ((64, 100), ()):
        with pytest.raises(ConfigError):
            end(numbers)
    wipe = "\r\x1b[2K"
    assert capsys.readouterr().err == f"{wipe}planned 64 images{wipe}planned 100 images{wipe}"


def test_links_to_shards_are_signed_where_the_file_says_so(tmp_path: Path) -> None:
    workspace = new_project(tmp_path, images=1)
    pyarrow.parquet.write_table(pyarrow.table({"image": [b"image"]}), tmp_path / "blob")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.parquet").symlink_to("../blob")
    change(workspace, images={"source": "../set", "follow_symlinks": True})
    sign_again(workspace)
    (found,) = lists_of(workspace)
    assert [item.hash for item in found.items] == [hashlib.sha256(b"image").digest()]


@pytest.mark.parametrize("key", ["name", "description", "license"])
def test_half_of_a_character_is_told_with_its_place(tmp_path: Path, key: str) -> None:
    workspace = new_project(tmp_path)
    change(workspace, **{key: "\ud83d"})
    with pytest.raises(ConfigError, match=f"^{key} in project.yaml holds half of a character"):
        sign_again(workspace)
    assert not (workspace.directory / "signed").exists()


def test_images_may_lie_where_no_unicode_leads(tmp_path: Path) -> None:
    workspace = new_project(tmp_path)
    odd = tmp_path / os.fsdecode(b"im\xff")
    (tmp_path / "images").rename(odd)
    change(workspace, images=str(odd))
    sign_again(workspace)
    assert workspace.project().images == 200
