"""A node that may listen on any port listens where it did last time, if it can.

Others remember where it was, and its router may still forward that port; a new one at every start would make it a
stranger to both.

Always holds: what is kept in the file is a hint; when it is damaged, or the port is taken, any port will do.
"""

import re
import socket
from collections.abc import Sequence
from pathlib import Path

import structlog

log = structlog.get_logger()

_ANY = re.compile(r"/(ip4|ip6)/([^/]+)/tcp/0")
_LISTENING = re.compile(r"/ip[46]/[^/]+/tcp/(\d{1,5})(?:/|$)")
MAX_FILE = 16


def with_last_port(listen: Sequence[str], kept: Path) -> tuple[str, ...]:
    """`listen` with the port kept in the file in place of port 0, where that port is free now."""
    port = last_port(kept)
    return tuple(_with_port(text, port) for text in listen) if port else tuple(listen)


def keep_port(addresses: Sequence[str], kept: Path) -> None:
    """Write down the port of the first of these own addresses; a disk that refuses costs only the hint."""
    ports = (match[1] for text in addresses if (match := _LISTENING.match(text)))
    port = next(ports, None)
    if port is None or last_port(kept) == int(port):
        return
    try:
        kept.write_text(f"{port}\n")
    except OSError as error:
        log.warning("port_not_kept", path=str(kept), reason=error.strerror)


def last_port(kept: Path) -> int | None:
    """The port in the file, if there is one."""
    try:
        with kept.open("rb") as file:
            port = int(file.read(MAX_FILE))
    except (OSError, ValueError):
        return None
    return port if 0 < port < 65_536 else None


def _with_port(text: str, port: int) -> str:
    match = _ANY.fullmatch(text)
    return f"/{match[1]}/{match[2]}/tcp/{port}" if match and _is_free(match[1], match[2], port) else text


def _is_free(family: str, host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET if family == "ip4" else socket.AF_INET6) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except OSError:
            return False
    return True
