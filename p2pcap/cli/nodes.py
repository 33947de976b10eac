"""Which node a command means: `--node`, or the only one there is."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from p2pcap.errors import ConfigError, NotRunningError
from p2pcap.paths import NodePaths, RunningNode, expanded, home, running_node, running_nodes

Command = TypeVar("Command", bound=Callable[..., object])

HOW_TO_START = "Start one with: p2pcap join TICKET"


@dataclass(frozen=True)
class Target:
    """A node's folder, and the node itself when it runs."""

    directory: Path
    running: RunningNode | None

    @property
    def paths(self) -> NodePaths:
        """What lies in the folder."""
        return NodePaths(self.directory)


def node_option(command: Command) -> Command:
    """The option by which every command selects a node."""
    text = "The node to ask: its folder or name. [default: the only one]"
    return click.option("--node", envvar="P2PCAP_NODE", metavar="DIR|NAME", help=text)(command)


def find_node(choice: str | None) -> Target:
    """The node meant, running or not. Raises NotRunningError when there is none, ConfigError when it is not clear."""
    running = running_nodes()
    if choice is not None:
        return _chosen(choice, running)
    if running:
        node = _only(running, "running")
        return Target(node.directory, node)
    stopped = _stopped_nodes()
    if not stopped:
        raise NotRunningError(f"No node is running, and none has run before in {home()}. {HOW_TO_START}")
    if len(stopped) > 1:
        raise ConfigError(f"No node is running, and several have run: {_list(stopped)}. Choose one with --node DIR.")
    return Target(stopped[0], None)


def find_running(choice: str | None) -> RunningNode:
    """The running node meant. Raises NotRunningError, ConfigError."""
    target = find_node(choice)
    if target.running is None:
        raise NotRunningError(f"No node is running in {target.directory}. {HOW_TO_START}")
    return target.running


def _chosen(choice: str, running: list[RunningNode]) -> Target:
    directory = expanded(choice)
    if node := running_node(directory):
        return Target(node.directory, node)
    called = [node for node in running if node.is_called(choice)]
    if called:
        node = _only(called, f"called {choice}")
        return Target(node.directory, node)
    for stopped in (directory, home() / "projects" / choice):
        if os.path.isfile(NodePaths(stopped).database):  # False, where Path.is_file would raise, in a closed folder
            return Target(stopped, None)
    raise NotRunningError(f"No node called {choice} is running, and no folder {choice} holds one. {HOW_TO_START}")


def _only(nodes: list[RunningNode], what: str) -> RunningNode:
    if len(nodes) > 1:
        folders = _list([node.directory for node in nodes])
        raise ConfigError(f"{len(nodes)} nodes are {what}: {folders}. Choose one with --node DIR.")
    return nodes[0]


def _stopped_nodes() -> list[Path]:
    return sorted(path.parent for path in (home() / "projects").glob(f"*/{NodePaths(Path()).database.name}"))


def _list(directories: list[Path]) -> str:
    return ", ".join(map(str, directories))
