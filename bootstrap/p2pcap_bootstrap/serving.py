"""The coordinator's node: the signed project, its images from the folder, and the ticket it hands out."""

import os
from pathlib import Path

from p2pcap.errors import ConfigError
from p2pcap.identity import Identity
from p2pcap.node.models import list_model
from p2pcap.node.options import Seed
from p2pcap.project.opened import Project, open_items
from p2pcap.project.ticket import Ticket, invite
from p2pcap.sources.folder import FolderImages
from p2pcap_bootstrap.config import ProjectFile
from p2pcap_bootstrap.workspace import Workspace


def load_seed(workspace: Workspace, file: ProjectFile, project: Project) -> Seed:
    """What the coordinator serves. Raises ConfigError, UntrustedError, ModelError, KeyFileError when it is gone."""
    folder = workspace.directory / Path(file.images).expanduser()
    if not os.path.isdir(folder):
        raise ConfigError(f"There is no folder {folder} of images, or it is closed to you. Check `images`.")
    coordinator = Identity.load(workspace.coordinator_key)
    blobs: dict[bytes, bytes] = {}
    paths: dict[bytes, Path] = {}
    for chunk in project.chunks:
        blobs[chunk.items] = workspace.blob(chunk.items)
        for item in open_items(blobs[chunk.items], chunk):
            paths[item.hash] = folder / item.key
    return Seed(project, blobs, _model_files(workspace, file, project), FolderImages(paths), coordinator)


def changed_images(workspace: Workspace, file: ProjectFile, project: Project) -> list[str]:
    """Keys of images that are gone from the folder or have another length than when the project was signed."""
    folder = workspace.directory / Path(file.images).expanduser()
    items = (item for chunk in project.chunks for item in open_items(workspace.blob(chunk.items), chunk))
    return [item.key for item in items if _length(folder / item.key) != item.length]


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _model_files(workspace: Workspace, file: ProjectFile, project: Project) -> dict[bytes, Path]:
    model = project.task.model
    if not model.files:
        return {}
    directory = workspace.directory / Path(file.model).expanduser()
    held = {listed.hash: directory / listed.name for listed in list_model(directory)}
    gone = [listed.name for listed in model.files if listed.hash not in held]
    if gone:
        raise ConfigError(f"{directory} has changed since the project was signed ({gone[0]}). Sign it again.")
    return held


def make_ticket(workspace: Workspace, project: Project, addresses: tuple[str, ...] = ()) -> Ticket:
    """The project's ticket: it admits until the manifest expires. Raises KeyFileError."""
    coordinator = Identity.load(workspace.coordinator_key)
    ticket_key = Identity.load_or_create(workspace.ticket_key)
    invitation = invite(coordinator, project.m, ticket_key.public, project.manifest.expires)
    return Ticket(project.title, project.hash, ticket_key.seed, invitation, addresses[:8])
