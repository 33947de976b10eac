"""The files in examples/: each is what it says, with its settings on or off, and each project can really be signed."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from p2pcap.cli.config_option import CONFIGURED
from p2pcap.cli.main import program, run
from p2pcap.cli.settings import settings
from p2pcap.config import COMPONENTS, Component, Found, discover
from p2pcap_bootstrap import config
from p2pcap_bootstrap.workspace import Workspace
from tests.sources.fake_hub import FakeHub
from tests.sources.made import Columns, parquet
from tests.sources.tars import pack
from tests.unit.coordinator import write_images

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MODEL = ROOT / "models" / "shapes"

PROJECTS = sorted(path.name for path in EXAMPLES.glob("*.yaml") if path.stem not in ("node", "tui"))

COUNT = 70
"""Images of each kind: more than one chunk of the least size."""


def switched_on(text: str) -> str:
    """An example with the settings that are switched off."""
    return re.sub(r"^( *)#(?=[\w-]+:)", r"\1", text, flags=re.MULTILINE)


def text_of(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


# projects


def folder_of_images(base: Path) -> None:
    for path in write_images(base / "pictures", COUNT).iterdir():
        path.with_suffix(".json").write_text(json.dumps({"title": f"Picture {path.stem}"}))


def table_of_addresses(base: Path) -> None:
    lines = [f"https://images.example.org/{number}.jpg,b{number},robin,a hedge" for number in range(COUNT)]
    (base / "birds.csv").write_text("\n".join(["address,id,species,place", *lines]))


def shards(base: Path) -> None:
    for shard in range(2):
        numbers = range(shard * COUNT // 2, (shard + 1) * COUNT // 2)
        files = {"jpg": b"an image", "txt": b"a text", "json": b'{"width": 5}'}
        pack(base / "shards" / f"{shard}.tar", [(f"{n}.{end}", data) for n in numbers for end, data in files.items()])


LOCAL: dict[str, Callable[[Path], None]] = {
    "project.yaml": folder_of_images,
    "prompts.yaml": folder_of_images,
    "stages.yaml": folder_of_images,
    "structured.yaml": folder_of_images,
    "url_table.yaml": table_of_addresses,
    "webdataset.yaml": shards,
}
"""What makes the data that an example names; the one on the Hub is signed from a Hub of its own."""


def new_project(base: Path) -> Path:
    """A folder as `project init` leaves it."""
    write_images(base / "any", 1)
    folder = base / "project"
    assert run(["project", "init", str(folder), "--images", str(base / "any"), "--model", str(MODEL)]) == 0
    return folder


def with_shipped_model(example: dict[str, Any]) -> dict[str, Any]:
    """The example with the model that comes with p2pcap in place of those on the Hub, which are not asked."""
    changed = example | {"model": str(MODEL)} if "model" in example else example
    if "stages" in example:
        changed = changed | {"stages": [with_shipped_model(stage) for stage in example["stages"]]}
    return changed


def signed(folder: Path, example: dict[str, Any]) -> Workspace:
    """Sign an example in the place of the folder's project.yaml."""
    changed = with_shipped_model(example) | {"chunk": 64}
    (folder / config.FILE).write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    assert run(["project", "sign", str(folder)]) == 0
    return Workspace(folder)


@pytest.mark.parametrize("name", PROJECTS)
@pytest.mark.parametrize("form", [str, switched_on])
def test_a_project_is_read_with_its_settings_on_or_off(name: str, form: Callable[[str], str]) -> None:
    file = config.parse(form(text_of(name)), EXAMPLES / name)
    assert file.description
    assert file.license


@pytest.mark.parametrize("name", LOCAL)
def test_a_project_on_this_machine_can_be_signed(tmp_path: Path, name: str) -> None:
    folder = new_project(tmp_path)
    LOCAL[name](folder)
    example = yaml.safe_load(text_of(name))
    project = signed(folder, example).project()
    assert project.title == example["name"]
    assert project.images == COUNT
    asked = example.get("stages", [example])
    names = [[prompt["name"] for prompt in stage["prompts"]] for stage in asked]
    assert [[prompt.name for prompt in stage.task.prompts] for stage in project.plan.stages] == names


def test_the_project_on_the_hub_can_be_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}" for number in range(COUNT)]
    captions = [None, "held", *[""] * (COUNT - 2)]
    columns: Columns = {"id": names, "title": names, "year": ["1900"] * COUNT, "caption": captions}
    folder, example = new_project(tmp_path), yaml.safe_load(text_of("hub_dataset.yaml"))
    found = re.fullmatch(r"hf://datasets/(.*)@([0-9a-f]{40})", example["images"]["source"])
    assert found is not None
    with FakeHub({found[1]: {"data/train-00000-of-00001.parquet": parquet(names, columns)}}) as hub:
        for variable, value in hub.environment.items():
            monkeypatch.setenv(variable, value)
        example["images"]["source"] = f"hf://datasets/{found[1]}@{hub.revision(found[1])}"
        project = signed(folder, example).project()
    assert project.images == COUNT - 1  # one has a caption already


def test_every_project_is_signed_by_a_test() -> None:
    assert {*LOCAL, "hub_dataset.yaml"} == set(PROJECTS)


# settings


def commands(component: Component) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name in (name for name, its in CONFIGURED.items() if its == component):
        command: click.Command | None = program
        for word in name.split():
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(program), word)
        assert command is not None
        found[name] = command
    return found


def options(command: click.Command) -> dict[str, click.Option]:
    return {str(option.name): option for option in command.params if isinstance(option, click.Option)}


@pytest.mark.parametrize("component", ["node", "tui"])
def test_settings_that_are_on_are_what_holds_without_a_file(component: Component) -> None:
    meant = commands(component)
    said = settings(Found(component, EXAMPLES / f"{component}.yaml"), meant)
    for name, values in said.items():
        assert values, name
        for key, value in values.items():
            option = options(meant[name])[key]
            context = click.Context(meant[name])
            default = option.get_default(context)
            assert option.type_cast_value(context, value) == option.type_cast_value(context, default), key


@pytest.mark.parametrize("component", ["node", "tui"])
def test_every_option_is_shown(tmp_path: Path, component: Component) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(switched_on(text_of(f"{component}.yaml")))
    meant = commands(component)
    said = settings(Found(component, file), meant)
    assert {name: set(values) for name, values in said.items()} == {
        name: set(options(command)) - {"config"} for name, command in meant.items()
    }


# all


@pytest.mark.parametrize("component", COMPONENTS)
def test_an_example_is_the_last_place_for_each_component(
    component: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    monkeypatch.setattr("p2pcap.config.SYSTEM", tmp_path)
    monkeypatch.chdir(ROOT)
    found = discover(component)
    assert found is not None
    assert found.example
    assert found.path == EXAMPLES / f"{component}.yaml"


@pytest.mark.parametrize("name", ["node.yaml", "tui.yaml"])
def test_every_setting_has_its_comment(name: str) -> None:
    """Above it, or above the one that stands above it."""
    lines = text_of(name).splitlines()
    for above, line in pairwise(lines):
        if re.match(r" *#?[\w-]+: ", line):
            assert above.strip().startswith("# ") or re.match(r" *#?[\w-]+: ", above), line


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_lines_are_no_wider_than_a_screen(path: Path) -> None:
    assert path.suffix == ".yaml"
    assert all(len(line) <= 120 for line in path.read_text(encoding="utf-8").splitlines())
