"""Dialling one address just to see who answers, without becoming part of a swarm: for `p2pcap doctor`.

Always holds: nothing of this node's is shown or kept; the identity is made for the occasion, and everything ends within
`SwarmSettings.dial_timeout` for the connection and as much again for the answer.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from libp2p.tools.anyio_service import background_trio_service

from p2pcap.errors import SwarmError, Unreachable
from p2pcap.identity import Identity
from p2pcap.swarm.addresses import Endpoint, parse_endpoint
from p2pcap.swarm.discovery.names import ask_txt, is_name, parse_name, resolve_name
from p2pcap.swarm.host import build_host, close_host
from p2pcap.swarm.links import Links
from p2pcap.swarm.messages import PROTOCOL_VERSION, Claims, ClaimsRequest, Status
from p2pcap.swarm.requests import Requests, UnknownProtocol, send
from p2pcap.swarm.settings import SwarmSettings
from p2pcap.swarm.sync import STATUS_BYTES

NAMED = 4
"""Addresses tried of those that a DNS name stands for."""
SETTINGS = SwarmSettings(dial_timeout=5.0, request_timeout=5.0)


async def probe(address: str, root: bytes) -> str:
    """Who answers at `address` for the project with this root hash, in words.

    Raises SwarmError, in words for people: no address, nobody there, another peer, another project, another version.
    """
    if not is_name(address):
        return await _probe_endpoint(parse_endpoint(address), root)
    name = parse_name(address)
    found, _ = await resolve_name(name, ask_txt)
    failures = []
    for endpoint in found[:NAMED]:
        try:
            return f"{endpoint}: {await _probe_endpoint(endpoint, root)}"
        except SwarmError as error:
            failures.append(error)
    raise failures[0]


async def _probe_endpoint(endpoint: Endpoint, root: bytes) -> str:
    if endpoint.relay is None:
        status = await ask_at(endpoint, root)
        return f"a {status.role or 'node'} with {status.count} statements answers"
    await ask_at(endpoint.relay, root)
    return "the relay answers; whether it leads on to the peer, only joining shows"


async def ask_at(endpoint: Endpoint, root: bytes) -> Status:
    """The status of the peer there, which is to be of the project with this root hash. Raises as `probe` does."""
    host = build_host(Identity.generate(), SETTINGS)
    links = Links(host, _nobody, lambda peer, wholly: None)
    requests = Requests(host, root[:8], SETTINGS, lambda peer, penalty: None)
    own = Status(project=root[:8], root=root, manifest_version=0, manifest=bytes(32), count=0, digest=bytes(32))
    requests.serve("status", Status, partial(_answer, lambda: own))
    requests.serve("claims", ClaimsRequest, partial(_answer, lambda: Claims([])))
    failure: SwarmError | None = None
    async with background_trio_service(host.get_network()):  # it wraps what is raised inside
        try:
            await _dial(links, endpoint)
            status = await requests.ask(endpoint.peer, "status", own, Status, STATUS_BYTES)
        except UnknownProtocol:
            failure = SwarmError("A peer answers, but it is of another project. Ask for the right address.")
        except SwarmError as error:
            failure = error
        finally:
            await close_host(host)
    if failure is not None:
        raise failure
    return _of_project(status, root)


async def _dial(links: Links, endpoint: Endpoint) -> None:
    with trio.move_on_after(SETTINGS.dial_timeout) as scope:
        await links.dial(endpoint)
    if scope.cancelled_caught:
        text = f"Nobody answered within {SETTINGS.dial_timeout:g} s."
        raise Unreachable(f"{text} Check that the peer runs there, and firewalls in between.")


def _of_project(status: Status, root: bytes) -> Status:
    if status.root != root:
        raise SwarmError("A peer answers, but it is of another project. Ask for the right address.")
    if status.version != PROTOCOL_VERSION:
        versions = f"The peer speaks version {status.version} of the protocol, this program {PROTOCOL_VERSION}."
        raise SwarmError(f"{versions} Install the newer p2pcap on both.")
    return status


async def _answer(answer: Callable[[], Any], peer: str, request: Any, stream: Any) -> None:
    await send(stream, answer())


def _nobody(peer: str) -> None:
    """Nothing follows from a connection here."""
