"""A new project folder: project.yaml and keys, made whole or not at all."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from p2pcap.errors import ConfigError
from p2pcap.identity import Identity
from p2pcap.project.records import DEFAULT_CHUNK
from p2pcap.project.task import Prompt
from p2pcap_bootstrap import config
from p2pcap_bootstrap.signing import find_model
from p2pcap_bootstrap.workspace import Workspace


@dataclass(frozen=True)
class NewProject:
    """What `project init` was told; everything else can be edited in project.yaml."""

    images: Path
    model: str
    name: str
    prompts: tuple[Prompt, ...]
    revision: str = ""
    dtype: str = "auto"
    chunk: int = DEFAULT_CHUNK
    max_tokens: int = 256
    image_edge: int = 0
    wait_for_engines: int = 1


def create(directory: Path, new: NewProject) -> Workspace:
    """Make the folder. Raises ConfigError, ModelError; nothing is left behind then."""
    if os.path.exists(directory / config.FILE) or os.path.exists(directory / "keys"):
        raise ConfigError(f"{directory} holds a project already. Edit its {config.FILE}, or name another folder.")
    if not os.path.isdir(new.images):
        raise ConfigError(f"There is no folder {new.images}, or it is closed to you. Name the folder of the images.")
    find_model(new.model, new.revision or "0" * 40, Path.cwd())
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as made:
            _fill(Workspace(Path(made)), directory, new)
            directory.mkdir(exist_ok=True)
            for part in sorted(Path(made).iterdir()):
                shutil.move(part, directory / part.name)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made: {error.strerror}.") from error
    return Workspace(directory)


def _fill(workspace: Workspace, directory: Path, new: NewProject) -> None:
    local = Path(new.model).expanduser()
    text = config.TEMPLATE.format(
        directory=directory,
        name=_quoted(new.name),
        images=_quoted(str(new.images.resolve())),
        model=_quoted(str(local.resolve()) if local.is_dir() else new.model),
        revision=new.revision,
        dtype=new.dtype,
        prompts="\n".join(f"  - name: {prompt.name}\n    text: {_quoted(prompt.text)}" for prompt in new.prompts),
        max_tokens=new.max_tokens,
        image_edge=new.image_edge,
        chunk=new.chunk,
        wait_for_engines=new.wait_for_engines,
    )
    config.parse(text, directory / config.FILE)
    (workspace.directory / config.FILE).write_text(text, encoding="utf-8")
    Identity.create(workspace.root_key)
    Identity.create(workspace.coordinator_key)
    Identity.create(workspace.ticket_key)


def _quoted(text: str) -> str:
    """`text` as a YAML scalar on one line."""
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6).strip()
