"""`p2pcap project pull`: what the swarm has comes into the project's folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pcap.cli.output import result, say
from p2pcap.errors import P2pcapError
from p2pcap_bootstrap.project_commands import project_folder

if TYPE_CHECKING:
    from p2pcap_bootstrap.pulling import Pulled
    from p2pcap_bootstrap.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  p2pcap project pull cats                                 from peers that the coordinator met
  p2pcap project pull cats --peer /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…"""
)
@project_folder
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="An address to find the swarm at.")
def pull(directory: Path, peers: tuple[str, ...]) -> None:
    """Bring what the swarm has into the folder, so that the next signing goes on from there: after a backup was put
    back, or when somebody else has signed."""
    from p2pcap_bootstrap.pulling import notes
    from p2pcap_bootstrap.pulling import pull as bring
    from p2pcap_bootstrap.workspace import Workspace

    workspace = Workspace(directory)
    pulled = bring(workspace, peers)
    _tell(workspace, pulled)
    for note in notes(workspace, pulled):
        say(f"note: {note}")
    _tell_differences(workspace, pulled)


def _tell(workspace: "Workspace", pulled: "Pulled") -> None:
    project, number = pulled.project, pulled.project.manifest.version
    if not pulled.brought:
        here = workspace.project().manifest.version
        say(f"nothing was brought: the swarm has manifest {number}, and manifest {here}, signed here, goes on from it")
        return
    result(f"root:      version {project.root.version}")
    result(f"manifest:  version {number}; here it was {pulled.before or 'none'}")
    result(f"images:    {project.images} in {len(project.counts)} chunks")
    say(f"{workspace.directory} has what the swarm has")


def _tell_differences(workspace: "Workspace", pulled: "Pulled") -> None:
    """What project.yaml makes of it. A file that cannot be signed as it is takes nothing away from what was brought."""
    from p2pcap_bootstrap.pulling import unlike_file

    if not pulled.brought:
        return
    try:
        lines = list(unlike_file(workspace, pulled.project))
    except P2pcapError as error:
        say(f"note: project.yaml cannot be signed as it is: {error}")
        return
    for line in lines:
        result(f"project.yaml differs: {line}")
    say(
        f"next, once project.yaml says what you want: p2pcap project diff {workspace.directory}, then project sign and "
        "project publish"
    )
