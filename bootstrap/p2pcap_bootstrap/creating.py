"""A new project folder: project.yaml and keys, made whole or not at all."""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from p2pcap.errors import ConfigError, SourceError
from p2pcap.identity import Identity
from p2pcap.project.records import DEFAULT_CHUNK
from p2pcap.project.task import Prompt
from p2pcap.sources.finding import data_folder
from p2pcap.sources.hub import HUB, named
from p2pcap.sources.locations import parse
from p2pcap.sources.spec import Images
from p2pcap_bootstrap import config
from p2pcap_bootstrap.cosigning import begin
from p2pcap_bootstrap.models import find_model
from p2pcap_bootstrap.template import TEMPLATE
from p2pcap_bootstrap.workspace import Workspace


@dataclass(frozen=True)
class NewProject:
    """What `project init` was told; everything else can be edited in project.yaml. `root_keys`: public root keys of
    other maintainers; `threshold`: root keys that must sign the first root and the next."""

    images: str
    model: str
    name: str
    prompts: tuple[Prompt, ...]
    revision: str = ""
    dtype: str = "auto"
    chunk: int = DEFAULT_CHUNK
    max_tokens: int = 256
    image_edge: int = 0
    wait_for_engines: int = 1
    root_keys: tuple[bytes, ...] = ()
    threshold: int = 1


def create(directory: Path, new: NewProject) -> Workspace:
    """Make the folder. Raises ConfigError, ModelError; nothing is left behind then."""
    if any(os.path.lexists(directory / part) for part in (config.FILE, "keys", "signed")):
        raise ConfigError(f"{directory} holds a project already. Edit its {config.FILE}, or name another folder.")
    _check_names(new.prompts)
    images = check_source(new.images)
    find_model(new.model, new.revision or "0" * 40, Path.cwd())
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as made:
            _fill(Workspace(Path(made)), directory, replace(new, images=images))
            directory.mkdir(exist_ok=True)
            for part in sorted(Path(made).iterdir()):
                shutil.move(part, directory / part.name)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made: {error.strerror}.") from error
    return Workspace(directory)


def _check_names(prompts: Sequence[Prompt]) -> None:
    names = [prompt.name for prompt in prompts]
    if twice := sorted(name for name in set(names) if names.count(name) > 1):
        raise ConfigError(f"Two prompts are called {twice[0]}. Name each by itself: --prompt NAME=TEXT.")


def check_source(source: str) -> str:
    """What project.yaml says of a source that was named here. Raises ConfigError for one that is not there, as far as
    that is seen without asking the network or reading any file."""
    if source.startswith(HUB):
        named(source)
        return source
    try:
        folder = data_folder(Path.cwd(), Images(source=source))
        if folder is None:
            parse(source)
            return source
        there = folder.is_dir()
    except SourceError as error:
        raise ConfigError(f"{source} is no address of images: {error}") from error
    except (OSError, RuntimeError, ValueError):  # the last two: no such user's home, no such path
        there = False
    if not there:
        raise ConfigError(f"There is no folder or file {source}, or it is closed to you. Name where the images are.")
    return str(Path(source).expanduser().absolute())


def _fill(workspace: Workspace, directory: Path, new: NewProject) -> None:
    local = Path(os.path.expanduser(new.model))
    text = TEMPLATE.format(
        directory=directory,
        name=_quoted(new.name),
        images=_quoted(new.images),
        model=_quoted(str(local.resolve()) if local.is_dir() else new.model),
        revision=new.revision,
        dtype=new.dtype,
        prompts="\n".join(f"  - name: {prompt.name}\n    text: {_quoted(prompt.text)}" for prompt in new.prompts),
        max_tokens=new.max_tokens,
        image_edge=new.image_edge,
        chunk=new.chunk,
        wait_for_engines=new.wait_for_engines,
    )
    config.parse(text, directory / config.FILE, begun=True)
    (workspace.directory / config.FILE).write_text(text, encoding="utf-8")
    root, coordinator = Identity.create(workspace.root_key), Identity.create(workspace.coordinator_key)
    Identity.create(workspace.ticket_key)
    if new.root_keys or new.threshold > 1:
        begin(workspace, new.name, root, new.root_keys, new.threshold, coordinator.public, int(time.time()))


def _quoted(text: str) -> str:
    """`text` as a YAML scalar on one line."""
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6).strip()
