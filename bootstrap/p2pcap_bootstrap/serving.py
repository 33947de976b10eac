"""The coordinator's node: the signed project, its item lists, and the ticket it hands out."""

import hashlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from p2pcap.errors import ConfigError
from p2pcap.identity import Identity
from p2pcap.node.models import list_model
from p2pcap.node.options import Seed
from p2pcap.node.seeding import has_local
from p2pcap.project.opened import Project, open_list
from p2pcap.project.ticket import SECRET, Invitation, Ticket
from p2pcap.sources.finding import data_folder
from p2pcap_bootstrap import config
from p2pcap_bootstrap.config import ProjectFile
from p2pcap_bootstrap.workspace import Workspace


def load_seed(workspace: Workspace, file: ProjectFile, project: Project) -> Seed:
    """What the coordinator brings. Raises UntrustedError, ModelError, KeyFileError, ConfigError when it is gone."""
    workspace.draft.unlink(missing_ok=True)  # a node that has it hands it to others
    coordinator = workspace.coordinator()
    lists = workspace.lists(project)
    for chunk in project.chunks(lists.__getitem__):
        open_list(lists[chunk.items], chunk)
    again = partial(_load_again, workspace)
    return Seed(project, lists, _model_files(workspace, file, project), coordinator, again)


def _load_again(workspace: Workspace) -> Seed:
    """What is signed by now."""
    return load_seed(workspace, config.read(workspace.directory), workspace.project())


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
    return any(has_local(open_list(lists[chunk.items], chunk)) for chunk in project.chunks(lists.__getitem__))


def _model_files(workspace: Workspace, file: ProjectFile, project: Project) -> dict[bytes, Path]:
    """The files of all stages' models that are handed round. Those of former tasks are of use to nobody."""
    wanted = [listed for stage in project.stages for listed in stage.task.model.files]
    if not wanted:
        return {}
    directories = {workspace.directory / os.path.expanduser(section.file.model or "") for section in file.sections}
    local = sorted(directory for directory in directories if os.path.isdir(directory))
    held = {listed.hash: directory / listed.name for directory in local for listed in list_model(directory)}
    gone = [listed.name for listed in wanted if listed.hash not in held]
    if gone:
        raise ConfigError(
            f"A model has changed, or is gone, since the project was signed: {gone[0]}. Bring it back, or sign again."
        )
    return {listed.hash: held[listed.hash] for listed in wanted}


def make_ticket(workspace: Workspace, project: Project, addresses: tuple[str, ...] = ()) -> Ticket:
    """The project's ticket: where invitations admit, it admits until the manifest expires. Raises KeyFileError."""
    ticket = Ticket(project.title, project.hash)
    if project.plan.policy.admits == "invite":
        seed = Identity.load_or_create(workspace.ticket_key).seed
        secret = hashlib.sha256(b"p2pcap-ticket-of/1\0" + seed).digest()[:SECRET]
        made = Invitation.of(secret, workspace.coordinator(), project.m, project.manifest.expires)
        ticket = replace(ticket, invitation=made)
    return ticket.naming(addresses)
