"""The place of a node's control socket: a Unix socket that only its owner can reach, beside a record of whose it is.

Always holds: one node answers in one folder; the socket of a dead node is replaced; both are gone when the block ends.
"""

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from p2pcap.errors import ConfigError
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.paths import NodePaths, answers, own_runtime_directory, running_node

MAX_CLIENTS = 32


@asynccontextmanager
async def listening(now: NodeSnapshot, paths: NodePaths) -> AsyncIterator[trio.SocketListener]:
    """The listening socket of the node in `paths`, which is `now` so. Raises ConfigError when a node is running there
    already, or the socket cannot be made."""
    path = own_runtime_directory() / f"{paths.socket_name}.sock"
    if answers(path):
        node = running_node(paths.directory)
        process = f"process {node.pid}" if node else "another process"
        raise ConfigError(f"A node is running in {paths.directory} already, as {process}. Stop it first: p2pcap stop")
    record = path.with_suffix(".json")
    listener = _bound(path)
    try:
        _write_record(record, now, paths)
        yield trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    finally:
        listener.close()
        record.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _bound(path: Path) -> socket.socket:
    """A socket that listens at `path`, in the place of one that a dead node left."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(MAX_CLIENTS)
    except OSError as error:
        listener.close()
        raise ConfigError(f"The control socket {path} cannot be made: {error.strerror}. Check the folder.") from error
    return listener


def _write_record(path: Path, now: NodeSnapshot, paths: NodePaths) -> None:
    who = {"project": now.project.title, "role": now.node.role, "name": now.node.name}
    record = {"directory": str(paths.directory.resolve()), "pid": os.getpid(), **who}
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(record))
    temporary.replace(path)
