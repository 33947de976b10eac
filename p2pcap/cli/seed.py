"""`p2pcap seed`: hand out a project's images from a folder, and its model, and caption nothing."""

from pathlib import Path
from typing import Unpack

import click

from p2pcap.cli.join import check_folder, ticket_text
from p2pcap.cli.network import NetworkChoice, network_options, network_settings
from p2pcap.errors import ConfigError
from p2pcap.paths import home
from p2pcap.project.ticket import Ticket


@click.command(
    epilog="""\b
Examples:
  p2pcap seed p2pcap:abc… ~/cats          hand out the images in that folder
  p2pcap seed p2pcap:abc… ~/cats --listen /ip4/0.0.0.0/tcp/4001"""
)
@click.argument("ticket")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Public name of this node (at most 32 bytes).")
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="Another address to find the swarm at.")
@click.option(
    "--listen", multiple=True, metavar="MULTIADDR", help="Where to listen. [default: any port, all interfaces]"
)
@click.option("--announce", multiple=True, metavar="MULTIADDR", help="Address others reach this machine at.")
@click.option("--node", type=click.Path(path_type=Path), help="Folder for key, database and caches.")
@network_options
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def seed(
    ticket: str,
    folder: Path,
    name: str,
    peers: tuple[str, ...],
    listen: tuple[str, ...],
    announce: tuple[str, ...],
    node: Path | None,
    log_level: str,
    **network: Unpack[NetworkChoice],
) -> None:
    """Hand out the images that DIR has of the project that TICKET names; needs no GPU.

    DIR is a copy of the folder that the maintainer signed: the images of the same paths, or the same tars and Parquet
    files. Each image is checked against its hash before it is handed out. A model that is not on the Hub is handed out
    too. Images on the Hub or the web are not seeded: volunteers read them there. TICKET is the text that the maintainer
    gave you, a file that holds it, or "-" for standard input.
    """
    if len(name.encode()) > 32:
        raise ConfigError("The name has more than 32 bytes. Choose a shorter one.")
    opened = Ticket.parse(ticket_text(ticket))
    from p2pcap.cli.live import run_shown
    from p2pcap.node.options import DEFAULT_LISTEN, NodeOptions

    options = NodeOptions(
        directory=node or home() / "seeds" / opened.root.hex()[:16],
        role="seeder",
        ticket=opened,
        listen=listen or DEFAULT_LISTEN,
        peers=peers,
        name=name,
        local_images=check_folder(folder),
        network=network_settings(network, listen or DEFAULT_LISTEN, relay="if reachable", announce=announce),
    )
    run_shown(options, log_level)
