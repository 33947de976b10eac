"""The coordinator's node: the signed project, its item lists, and the ticket it hands out."""

import os
from pathlib import Path

from p2pcap.errors import ConfigError
from p2pcap.identity import Identity
from p2pcap.node.models import list_model
from p2pcap.node.options import Seed
from p2pcap.node.seeding import has_local
from p2pcap.project.opened import Project, open_list
from p2pcap.project.ticket import Ticket, invite
from p2pcap.sources.finding import data_folder
from p2pcap_bootstrap.config import ProjectFile
from p2pcap_bootstrap.workspace import Workspace


def load_seed(workspace: Workspace, file: ProjectFile, project: Project) -> Seed:
    """What the coordinator brings. Raises UntrustedError, ModelError, KeyFileError, ConfigError when it is gone."""
    coordinator = Identity.load(workspace.coordinator_key)
    lists = workspace.lists(project)
    for chunk in project.chunks:
        open_list(lists[chunk.items], chunk)
    return Seed(project, lists, _model_files(workspace, file, project), coordinator)


def local_images(workspace: Workspace, file: ProjectFile) -> Path | None:
    """The folder on this machine that the images are in; None when they are elsewhere, also when the table of their
    addresses is here. Raises ConfigError when the folder is gone, UntrustedError when an item list is."""
    folder = None
    try:
        folder = data_folder(workspace.directory, file.source)
        gone = folder is not None and not folder.is_dir()
    except OSError:
        gone = True
    if (folder is not None or gone) and not _has_local(workspace):
        return None
    if gone:
        raise ConfigError(f"{file.source.source} is gone, or closed to you. Check `images` in project.yaml.")
    return folder


def _has_local(workspace: Workspace) -> bool:
    project = workspace.project()
    lists = workspace.lists(project)
    return any(has_local(open_list(lists[chunk.items], chunk)) for chunk in project.chunks)


def _model_files(workspace: Workspace, file: ProjectFile, project: Project) -> dict[bytes, Path]:
    model = project.task.model
    if not model.files:
        return {}
    directory = workspace.directory / os.path.expanduser(file.model)
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
