"""Addresses as this package needs them: the IP address and the TCP port in a transport address, and back.

Always holds: names of hosts, circuits and whatever else a stranger may write come out as nothing.
"""

import ipaddress

from multiaddr import Multiaddr


def ends_at(transport: str) -> tuple[str, int] | None:
    """Host and port of /ip4/…/tcp/… or /ip6/…/tcp/…, the host as Python writes it; None for everything else."""
    try:
        _, family, host, protocol, port = transport.split("/")
        address = ipaddress.ip_address(host)
        if (family, protocol) != (f"ip{address.version}", "tcp") or not 0 < int(port) < 65_536:
            return None
    except ValueError:
        return None
    return str(address), int(port)


def transport_of(host: str, port: int) -> str:
    """The transport address of a host and a port."""
    return f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}"


def text_of(address: bytes) -> str:
    """A binary multiaddr as text; empty for what is none."""
    try:
        return str(Multiaddr(address))
    except ValueError:
        return ""
