"""What is signed goes out: to the coordinator that runs here, to peers of the swarm, or into a file.

Always holds: what goes out is no draft any more, from before anybody can have seen it.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from p2pcap.errors import ConfigError, SwarmError
from p2pcap.paths import NodePaths, running_node
from p2pcap.project.opened import Project
from p2pcap_bootstrap.serving import make_ticket
from p2pcap_bootstrap.workspace import Workspace

LOG = "publish.jsonl"
"""The log of a publication, in the project's folder."""


def to_coordinator(workspace: Workspace) -> int | None:
    """Have the coordinator that runs here take up what is signed; the version of the manifest in force there then, None
    when none runs. Raises what it reports."""
    from p2pcap.node.client import Client

    _signed(workspace)
    node = running_node(workspace.node)
    if node is None:
        return None
    _out(workspace)
    with Client(node.socket) as client:
        return client.reload()


def to_peers(workspace: Workspace, peers: Sequence[str] = ()) -> int:
    """Have peers take it up: those at these multiaddrs, and those that the coordinator met. How many have it then.
    Raises UntrustedError, KeyFileError, SwarmError."""
    from p2pcap.node.delivering import remembered
    from p2pcap.node.publishing import publish

    project, paths = _signed(workspace), NodePaths(workspace.node)
    known = [*peers, *remembered(paths, time.time())]
    if not known:
        raise SwarmError(
            "No peer of this project is known here. Name one with --to MULTIADDR, or run p2pcap bootstrap serve."
        )
    _out(workspace)
    log_file = workspace.directory / LOG
    return publish(make_ticket(workspace, project), project, workspace.lists(project), known, log_file)


def to_file(workspace: Workspace, path: Path) -> int:
    """Write the project into the file; its bytes. Raises ConfigError, UntrustedError."""
    from p2pcap.node.bundle import write_bundle

    project = _signed(workspace)
    _out(workspace)
    write_bundle(project, workspace.lists(project), path)
    return path.stat().st_size


def _signed(workspace: Workspace) -> Project:
    """What is signed. Raises ConfigError when there is none, or none under the root in force: nobody would learn of
    that root, and what its keys sign would count nowhere."""
    project, root = workspace.project(), workspace.root_in_force()
    if project.root.version < root.version:
        raise ConfigError(
            f"Root {root.version} is in force here, and no manifest names it yet. First run: "
            f"p2pcap project sign {workspace.directory}"
        )
    return project


def _out(workspace: Workspace) -> None:
    workspace.draft.unlink(missing_ok=True)
