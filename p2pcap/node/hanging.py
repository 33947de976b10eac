"""What a person can do about a node that does not answer. Standard library only, as its client.

Such a node still holds its folder and its port, so another one cannot be started in its place. Linux knows the process
at the other end of the socket, and whether a signal stopped it.
"""

import socket
import struct
from pathlib import Path

_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of the other end (unix(7), SO_PEERCRED)."""


def remedy(connection: socket.socket) -> str:
    """What to do about the node at the other end, in words."""
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return "Look at its log, and start it again."
    pid, _, _ = _CREDENTIALS.unpack(found)
    if _is_stopped(pid):
        return f"Its process {pid} was stopped, as Ctrl+Z does. Let it go on: fg in its terminal, or kill -CONT {pid}"
    return f"p2pcap log shows what it did last. If it goes on so, end it with kill -9 {pid}, and start it again."


def _is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger stopped the process (proc_pid_stat(5); its name may hold brackets)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False
