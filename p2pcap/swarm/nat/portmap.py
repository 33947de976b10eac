"""Asking the router to let strangers in: NAT-PMP (RFC 6886), else UPnP, whichever it answers.

Always holds: whatever a router answers, `PortMap.run` does not raise; the mapping is asked for again at half of its
lease and taken back at the end; an external address that is itself behind a router is not told to anybody.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog
import trio

from p2pcap.errors import Unreachable
from p2pcap.swarm.nat.natpmp import NatPmp
from p2pcap.swarm.nat.upnp import find_gateway

LEASE_SECONDS = 3_600.0
RENEW_AT_LEAST = 30.0
RETRY_SECONDS = 1_800.0
"""Between two attempts with a router that forwards nothing: it does not change its mind by itself, but people do."""
ASK_SECONDS = 20.0
REMOVE_SECONDS = 1.0

_INSIDE = [
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                    "192.168.0.0/16")
]  # fmt: skip
"""What a router that stands behind another one gets from it (RFC 1918, RFC 6598, RFC 3927)."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Mapping:
    """`external` is the transport address strangers reach us at, `lease` for how many seconds (0: until the router
    restarts), `by` how it was asked for."""

    external: str
    lease: float
    by: Literal["NAT-PMP", "UPnP"]


class Router(Protocol):
    """One way of asking one router. Everything raises Unreachable with the reason in words."""

    @property
    def by(self) -> Literal["NAT-PMP", "UPnP"]:
        """The protocol's name."""
        ...

    async def forward(self, port: int, external: int, lease: float) -> tuple[str, int, float]:
        """Forward TCP port `external`, or another, to our `port`; returns external IPv4 address, port and lease."""
        ...

    async def remove(self, port: int, external: int) -> None:
        """Take that back."""
        ...


class PortMap:
    """Keeps `port` forwarded while it runs. `changed` is called whenever `mapping` becomes another; `state` is one
    line for people. `interface` is the own IPv4 address to ask from, `gateway` the router, both found out if None."""

    def __init__(
        self, port: int, changed: Callable[[], None], interface: str | None = None, gateway: str | None = None
    ) -> None:
        self._port = port
        self._changed = changed
        self._interface = interface
        self._gateway = gateway
        self._router: Router | None = None
        self._external = port
        self.mapping: Mapping | None = None
        self.state = "not asked yet"

    async def run(self) -> None:
        """Map, renew, and take it back when cancelled."""
        try:
            while True:
                mapping, state = await self._ask()
                if state != self.state:
                    log.info("port_mapping", state=state)
                self.state = state
                if mapping != self.mapping:
                    self.mapping = mapping
                    self._changed()
                await trio.sleep(_renew_after(mapping))
        finally:
            self.mapping = None
            with trio.move_on_after(REMOVE_SECONDS, shield=True):
                await self._remove()

    async def _ask(self) -> tuple[Mapping | None, str]:
        with trio.move_on_after(ASK_SECONDS):
            try:
                if self._router is None:
                    self._router = await self._find()
                ip, external, lease = await self._router.forward(self._port, self._external, LEASE_SECONDS)
            except Unreachable as error:
                self._router = None
                return None, str(error)
            self._external = external
            return _judge(ip, external, lease, self._router.by)
        self._router = None
        return None, f"the router took more than {ASK_SECONDS:g} s to answer"

    async def _find(self) -> Router:
        """Whoever answers. Raises Unreachable."""
        pmp = NatPmp(self._gateway)
        if await pmp.answers():
            return pmp
        return await find_gateway(self._interface)

    async def _remove(self) -> None:
        if self._router is not None:
            try:
                await self._router.remove(self._port, self._external)
            except Unreachable as error:
                log.debug("port_mapping_not_removed", reason=str(error))


def _judge(ip: str, port: int, lease: float, by: Literal["NAT-PMP", "UPnP"]) -> tuple[Mapping | None, str]:
    if is_inside(ip):
        why = f"its own address {ip} is not one of the internet"
        return (
            None,
            f"the router forwards port {port} ({by}), but {why}: another router, or the provider's, is before it",
        )
    return Mapping(f"/ip4/{ip}/tcp/{port}", lease, by), f"the router forwards {ip} port {port} ({by})"


def is_inside(ip: str) -> bool:
    """Whether an IPv4 address is one that only means something behind some router."""
    return any(ipaddress.IPv4Address(ip) in network for network in _INSIDE)


def _renew_after(mapping: Mapping | None) -> float:
    if mapping is None:
        return RETRY_SECONDS
    return min(LEASE_SECONDS / 2, max(RENEW_AT_LEAST, (mapping.lease or LEASE_SECONDS) / 2))
