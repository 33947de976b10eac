"""Replacing a relayed connection by a direct one: DCUtR (https://github.com/libp2p/specs/blob/master/relay/DCUtR.md).

The side that was called through the relay acts. It dials the caller's own addresses first: often only one of the two
is behind a router. If that leads nowhere, the two tell each other through the relay how their dialling ports look from
outside (`p2pcap.swarm.nat.ports`) and dial each other at the same moment: each SYN opens its own router for the other
(TCP simultaneous open), after which the caller is the initiator of Noise and Yamux and the called side the responder.
Libp2p's own `DCUtRProtocol` dials from the listening port, which here is nobody else's, and any address it is told.

Always holds: one attempt at a time for a peer, ABREAST in all of ours and MAX_ANSWERS of others', each with a deadline;
at most MAX_ADDRESSES of a stranger's addresses are dialled in it, and it gets few (`Turns`), as they may be a third's;
the relayed connection is closed only while there is a direct one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import dcutr_pb2 as pb
from multiaddr import Multiaddr

from p2pcap.errors import FrameError
from p2pcap.swarm import peers
from p2pcap.swarm.host import Host, relayed
from p2pcap.swarm.nat.delimited import read_message, write_message
from p2pcap.swarm.nat.transports import ends_at, text_of, transport_of
from p2pcap.swarm.nat.turns import Attempts, Turns
from p2pcap.swarm.requests import Blame

log = structlog.get_logger(__name__)

DCUTR = "/libp2p/dcutr"
ABREAST = 4
MAX_ANSWERS = 16
MAX_ADDRESSES = 4
SETTLE_SECONDS = 2.0
WAITING = 16
"""Peers that wait for their attempt; further ones come again with their next status."""


@dataclass(frozen=True)
class PunchTimes:
    """How long everything takes at most; seconds."""

    dial: float = 5.0
    """For the caller's addresses, all at once."""
    talk: float = 10.0
    """For the exchange of one round."""
    round: float = 5.0
    """Of dialling each other."""
    rounds: int = 3
    pause: float = 11.0
    """Between two rounds. A router that answered the other's early SYN by itself (Linux does, without a firewall) holds
    that answer in its table for 10 s and gives our SYN another port meanwhile."""
    grace: float = 5.0
    """Until a relayed connection that was replaced is closed: what is being asked over it has time to end."""
    again: float = 60.0
    """Until the next attempt after one that failed; doubles with each further one."""
    answers: float = 30.0
    """In which a peer may begin `rounds` rounds with us."""


class Punching:
    """Both sides, for one host.

    `own` are the transport addresses to tell a peer that is to get through to us, the outside of our dialling port
    among them; `theirs` those at which a peer says it can be dialled.
    """

    def __init__(
        self,
        host: Host,
        own: Callable[[], Sequence[str]],
        theirs: Callable[[str], Sequence[str]],
        blame: Blame,
        times: PunchTimes | None = None,
    ) -> None:
        self._host = host
        self._network = host.get_network()
        self._own = own
        self._theirs = theirs
        self._blame = blame
        self._times = times or PunchTimes()
        self._attempts = Attempts(self._times.again)
        self._turns = Turns(self._times.rounds, self._times.answers)
        self._busy: set[str] = set()
        self._answering: set[str] = set()
        self._abreast = trio.CapacityLimiter(ABREAST)
        self._send, self._wanted = trio.open_memory_channel[str](WAITING)

    def serve(self) -> None:
        """Answer from now on."""
        self._host.set_stream_handler(DCUTR, self._answer)

    def consider(self, peer: str) -> None:
        """Try to replace the connection with `peer` soon, if a relay carries it and the peer opened it."""
        if self._calls(peer) and peer not in self._busy and self._attempts.allowed(peer, trio.current_time()):
            try:
                self._send.send_nowait(peer)
            except trio.WouldBlock:
                return
            self._busy.add(peer)

    async def run(self) -> None:
        """Make attempts for ever."""
        async with trio.open_nursery() as nursery:
            async for peer in self._wanted:
                nursery.start_soon(self._attempt, peer)

    # the side that was called

    def _calls(self, peer: str) -> bool:
        """Whether nothing but relays connects us with `peer`, and it is for us to act: the peer called.

        Where both have called each other it is for the one with the larger id.
        """
        connections = self._network.get_connections(ID.from_string(peer))
        called = {not conn.muxed_conn.is_initiator for conn in connections}
        acts = True in called and (False not in called or str(self._host.get_id()) > peer)
        return acts and all(relayed(conn) for conn in connections)

    async def _attempt(self, peer: str) -> None:
        try:
            async with self._abreast:
                await self._get_through(peer)
            if not self._network.direct(ID.from_string(peer)):
                self._attempts.failed(peer, trio.current_time())
                return
            self._attempts.succeeded(peer)
            log.info("relayed_connection_replaced", peer=peer)
            await trio.sleep(self._times.grace)
            await self._close_relayed(peer)
        finally:
            self._busy.discard(peer)

    async def _get_through(self, peer: str) -> None:
        with trio.move_on_after(self._times.dial):
            await self._dial_each(peer, _readable(self._theirs(peer)))
        for number in range(self._times.rounds):
            if not self._calls(peer):
                return
            if number:
                await trio.sleep(self._times.pause)
            try:
                await self._round(peer)
            except FrameError as error:
                log.debug("punch_garbled", peer=peer, error=str(error))
                self._blame(peer, peers.BAD_FRAME)
                return
            except (BaseLibp2pError, trio.TooSlowError, ValueError) as error:
                log.debug("punch_broke_off", peer=peer, error=repr(error))
                return

    async def _dial_each(self, peer: str, addresses: Sequence[tuple[str, int]]) -> None:
        """Dial all of them at once, until one answers."""
        identity = ID.from_string(peer)

        async def one(ip: str, port: int) -> None:
            try:
                await self._network.dial(Multiaddr(transport_of(ip, port)), identity)
            except BaseLibp2pError as error:
                log.debug("punch_dial_failed", peer=peer, ip=ip, port=port, error=repr(error))
                return
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for ip, port in addresses:
                nursery.start_soon(one, ip, port)

    async def _round(self, peer: str) -> None:
        """Agree on a moment, and dial each other in it. The SYNC takes half of the time there and back."""
        with trio.fail_after(self._times.talk):
            stream = await self._host.new_stream(ID.from_string(peer), [DCUTR])
            try:
                asked = trio.current_time()
                await self._tell(stream)
                addresses = await self._told(stream)
                delay = (trio.current_time() - asked) / 2
                await write_message(stream, pb.HolePunch(type=pb.HolePunch.SYNC))
                await stream.close()
            except BaseException:
                await _reset(stream)
                raise
            await trio.sleep(delay)
        await self._punch(peer, addresses, initiator=False)

    async def _close_relayed(self, peer: str) -> None:
        identity = ID.from_string(peer)
        for conn in self._network.get_connections(identity):
            if relayed(conn) and self._network.direct(identity):
                await conn.close()

    # the side that called

    async def _answer(self, stream: Any) -> None:
        """A round that the other side began."""
        peer = str(stream.muxed_conn.peer_id)
        if not self._may_begin(peer, stream):
            await stream.reset()
            return
        self._answering.add(peer)
        try:
            with trio.fail_after(self._times.talk):
                addresses = await self._told(stream)
                await self._tell(stream)
                await self._told(stream, pb.HolePunch.SYNC)
            await self._punch(peer, addresses, initiator=True)
            await stream.close()
        except FrameError as error:
            log.debug("punch_garbled", peer=peer, error=str(error))
            self._blame(peer, peers.BAD_FRAME)
            await _reset(stream)
        except (BaseLibp2pError, trio.TooSlowError) as error:
            log.debug("punch_broke_off", peer=peer, error=repr(error))
            await _reset(stream)
        finally:
            self._answering.discard(peer)

    def _may_begin(self, peer: str, stream: Any) -> bool:
        busy = peer in self._busy or peer in self._answering or len(self._answering) >= MAX_ANSWERS
        if busy or self._network.direct(stream.muxed_conn.peer_id):
            return False
        return self._turns.take(peer, trio.current_time())

    # both

    async def _tell(self, stream: Any) -> None:
        addresses = [Multiaddr(transport_of(ip, port)).to_bytes() for ip, port in _readable(self._own())]
        await write_message(stream, pb.HolePunch(type=pb.HolePunch.CONNECT, ObsAddrs=addresses))

    async def _told(self, stream: Any, kind: "pb.HolePunch.Type.ValueType | None" = None) -> list[tuple[str, int]]:
        message = await read_message(stream, pb.HolePunch)
        if message.type != (pb.HolePunch.CONNECT if kind is None else kind):
            raise FrameError(f"The peer sent a message of type {message.type} out of turn.")
        return _readable(text_of(address) for address in message.ObsAddrs)

    async def _punch(self, peer: str, addresses: Sequence[tuple[str, int]], initiator: bool) -> None:
        """Dial until the round is over or the peer shows itself at an address.

        Homes use the same private addresses: one that is ours too would lead to ourselves, and is not dialled. Other
        handshakes under way get SETTLE_SECONDS more, since the other side may have settled on one of them.
        """
        identity, own = ID.from_string(peer), _readable(self._own())

        async def one(ip: str, port: int) -> None:
            stream = await self._network.ports.punch(ip, port)
            raw = RawConnection(TrioTCPStream(stream), initiator)
            upgrades.start_soon(upgrade, raw)

        async def upgrade(raw: RawConnection) -> None:
            try:
                await self._network.upgrade(raw, identity)
            except BaseLibp2pError as error:
                log.debug("punched_in_vain", peer=peer, error=repr(error))
                return
            dials.cancel_scope.cancel()
            upgrades.cancel_scope.deadline = min(upgrades.cancel_scope.deadline, trio.current_time() + SETTLE_SECONDS)

        async with trio.open_nursery() as upgrades:
            with trio.move_on_after(self._times.round):
                async with trio.open_nursery() as dials:
                    for ip, port in addresses:
                        if (ip, port) not in own:
                            dials.start_soon(one, ip, port)


def _readable(transports: Iterable[str]) -> list[tuple[str, int]]:
    """Host and port of those that are an IP address and a TCP port and nothing else, at most MAX_ADDRESSES."""
    return list(dict.fromkeys(there for text in transports if (there := ends_at(text))))[:MAX_ADDRESSES]


async def _reset(stream: Any) -> None:
    with trio.CancelScope(shield=True):  # one frame of 12 bytes; `hardening.write_whole_frames` bounds it
        await stream.reset()
