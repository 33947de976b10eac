"""`p2pcap paths`: where everything lies."""

from pathlib import Path

import click

from p2pcap.cli.forms import Form, forms
from p2pcap.cli.nodes import find_node, node_option
from p2pcap.cli.output import result, result_json, warn
from p2pcap.config import COMPONENTS, Component, Found, discover
from p2pcap.errors import ConfigError
from p2pcap.paths import NodePaths, home, running_nodes, runtime_directories

FILES = ("key", "database", "images", "models", "log", "engine_log", "ticket")


@click.command(
    epilog="""\b
Examples:
  p2pcap paths
  p2pcap paths --node ~/cats --json"""
)
@node_option
@forms("As one JSON object.", "Only the nodes' folders, one a line.")
def paths(node: str | None, form: Form) -> None:
    """Print where keys, databases, caches, logs, sockets and the configuration files in use lie."""
    directories = [find_node(node).directory] if node else _all_nodes()
    nodes = {str(directory): _files(NodePaths(directory)) for directory in directories}
    sockets = str(runtime_directories()[0])
    configs = {component: _config(component) for component in COMPONENTS}
    if form == "json":
        config = {component: str(found.path) if found else None for component, found in configs.items()}
        result_json({"home": str(home()), "sockets": sockets, "config": config, "nodes": nodes})
        return
    if form == "quiet":
        for directory in nodes:
            result(directory)
        return
    result(f"home     {home()}")
    result(f"sockets  {sockets}")
    for component, found in configs.items():
        shown = f"{found.path}{' (an example)' * found.example}" if found else "none"
        result(f"config   {component + '.yaml':<12}  {shown}")
    for directory, files in nodes.items():
        result(f"node     {directory}")
        for name, path in files.items():
            result(f"  {name.replace('_', ' '):<11} {path}")


def _files(paths: NodePaths) -> dict[str, str]:
    return {name: str(getattr(paths, name)) for name in FILES}


def _config(component: Component) -> Found | None:
    """The file in use; None when there is none, or it may be somebody else's."""
    try:
        return discover(component)
    except ConfigError as error:
        warn(str(error))
        return None


def _all_nodes() -> list[Path]:
    here = [path for path in (home() / "projects").glob("*") if path.is_dir()]
    return sorted({*here, *(node.directory for node in running_nodes())})
