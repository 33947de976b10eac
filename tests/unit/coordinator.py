"""A maintainer's folder for tests: images, a directory in the shape of a model, and a project made from both."""

from pathlib import Path
from typing import Any

import yaml

from p2pcap.project.task import Prompt
from p2pcap_bootstrap import config
from p2pcap_bootstrap.config import ProjectFile
from p2pcap_bootstrap.creating import NewProject, create
from p2pcap_bootstrap.signing import sign
from p2pcap_bootstrap.workspace import Workspace

CONFIG = '{"architectures": ["Tiny"]}'
WEIGHTS = "\x02" + "\0" * 7 + "{}"
"""A file of the safetensors format without any tensor."""

PROMPTS = (Prompt("caption", "What is it?"),)


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / f"{index:05}.png").write_bytes(b"image %d" % index)
    return folder


def write_model(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"config.json": CONFIG, "model.safetensors": WEIGHTS, **files}.items():
        (folder / name).write_text(text)
    return folder


def new_project(base: Path, images: int = 200, chunk: int = 64) -> Workspace:
    """A project as `project init` leaves it, not signed yet."""
    folder, model = write_images(base / "images", images), write_model(base / "model")
    return create(base / "project", NewProject(str(folder), str(model), "Shapes", PROMPTS, chunk=chunk))


def signed_project(base: Path, images: int = 200, chunk: int = 64) -> Workspace:
    workspace = new_project(base, images, chunk)
    sign_again(workspace)
    return workspace


def sign_again(workspace: Workspace) -> None:
    sign(workspace, config.read(workspace.directory), lambda number: None)


def change(workspace: Workspace, **fields: Any) -> None:
    """Give keys of project.yaml other values."""
    path = workspace.directory / config.FILE
    plain = yaml.safe_load(path.read_text(encoding="utf-8")) | fields
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")


def file_of(workspace: Workspace) -> ProjectFile:
    return config.read(workspace.directory)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
