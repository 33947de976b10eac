"""Carrying connections for peers that cannot be dialled: the server of circuit relay v2.

https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md. Of libp2p's own relay only the messages are used. Its
`CircuitV2Protocol` reserves for whatever peer a request names, keeps reservations of peers that are gone, answers any
number of requests on one stream, reads a copy of every circuit into windows of 16 MiB, sleeps half a second to be
heard, and writes a status into a circuit that has reached its limit.

Always holds: a place belongs to the peer that asked for it over its own direct connection; no more is carried than
`RelayLimits` says, nothing for a peer that came over a relay itself; both ends of a circuit end together.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from multiaddr import Multiaddr

from p2pcap.errors import FrameError
from p2pcap.swarm import peers, windows
from p2pcap.swarm.frames import WRITE_SIZE
from p2pcap.swarm.host import Host, relayed
from p2pcap.swarm.nat.delimited import read_message, write_message
from p2pcap.swarm.requests import Blame

log = structlog.get_logger(__name__)

HOP = "/libp2p/circuit/relay/0.2.0/hop"
STOP = "/libp2p/circuit/relay/0.2.0/stop"
MAX_ADDRESSES = 8
Carry = Callable[[str, int], Awaitable[None]]
"""Waits until so many bytes may be carried for a peer."""


@dataclass(frozen=True)
class RelayLimits:
    """What one relay gives away."""

    reservations: int = 128
    """Places for peers that wait to be called, one each."""
    reservation_seconds: float = 3_600.0
    circuits: int = 64
    circuits_per_peer: int = 8
    """Circuits that begin or end at one peer."""
    circuits_per_pair: int = 2
    """Circuits of one caller to one callee: no single caller holds all that end there."""
    circuit_seconds: float = 3_600.0
    circuit_bytes: int = 256 * 2**20
    """Carried each way; 256 MiB."""
    idle_seconds: float = 60.0
    """Without a byte either way until a circuit ends; a connection in use pings every 15 s."""
    start_seconds: float = 15.0
    start_bytes: int = 512
    """What must have passed, both ways together, in so many seconds: the handshakes of a connection are more."""
    end_seconds: float = 5.0
    """For the other way, once one side has said its last."""
    handshake_seconds: float = 10.0
    """For each of a request, and the answer of the peer that is called."""


@dataclass(frozen=True)
class Traffic:
    """What a relay carries now, and the bytes it has carried in all, both ways together."""

    reservations: int
    circuits: int
    bytes: int


@dataclass
class _Circuit:
    """A circuit that is carried: who called whom, the bytes so far, and what ends it."""

    caller: str
    callee: str
    bytes: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Refused(Exception):
    """A request is answered with this status of the specification."""

    def __init__(self, status: "pb.Status.ValueType") -> None:
        super().__init__(pb.Status.Name(status))
        self.status = status


class Places:
    """Who may be called through this relay, until when. Pure: times in unix seconds are passed in."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def reserve(self, peer: str, now: float, connected: Callable[[str], bool]) -> float:
        """Give `peer` a place, or keep it for longer, and say until when. Raises Refused when there is none."""
        if peer not in self._until and len(self._until) >= self._limits.reservations:
            self._until = {p: until for p, until in self._until.items() if until > now and connected(p)}
            if len(self._until) >= self._limits.reservations:
                raise Refused(pb.Status.RESERVATION_REFUSED)
        self._until[peer] = now + self._limits.reservation_seconds
        return self._until[peer]

    def holds(self, peer: str, now: float) -> bool:
        """Whether `peer` has a place."""
        return self._until.get(peer, now) > now


class Relay:
    """The relay of one host.

    `member` says which connected peers it works for, `addresses` where it can be dialled itself, `carry` waits for
    the bandwidth.
    """

    def __init__(
        self,
        host: Host,
        member: Callable[[str], bool],
        addresses: Callable[[], Sequence[str]],
        blame: Blame,
        carry: Carry | None = None,
        limits: RelayLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._member = member
        self._addresses = addresses
        self._blame = blame
        self._wait = carry
        self._limits = limits or RelayLimits()
        self._clock = clock
        self._places = Places(self._limits)
        self._circuits: list[_Circuit] = []
        self._bytes = 0

    @property
    def traffic(self) -> Traffic:
        """What it carries now."""
        return Traffic(len(self._places), len(self._circuits), self._bytes)

    def serve(self) -> None:
        """Relay from now on."""
        self._host.set_stream_handler(HOP, self._answer)

    def refuse(self) -> None:
        """Take no more requests; open circuits go on."""
        self._host.remove_stream_handler(HOP)

    async def _answer(self, stream: Any) -> None:
        """One stream of a peer: a reservation, or a circuit for as long as it lasts."""
        peer = str(stream.muxed_conn.peer_id)
        try:
            with trio.fail_after(self._limits.handshake_seconds):
                request = await self._request(peer, stream)
            if request.type == pb.HopMessage.RESERVE:
                await self._reserve(peer, stream)
            else:
                await self._connect(peer, ID(request.peer.id), stream)
        except Refused as refusal:
            log.debug("relay_refused", peer=peer, status=str(refusal))
            await self._say(stream, refusal.status)
        except (BaseLibp2pError, trio.TooSlowError) as error:
            log.debug("relay_request_broke_off", peer=peer, error=repr(error))
            await stream.reset()

    async def _request(self, peer: str, stream: Any) -> pb.HopMessage:
        if relayed(stream.swarm_conn) or not self._member(peer):
            raise Refused(pb.Status.PERMISSION_DENIED)
        try:
            request = await read_message(stream, pb.HopMessage)
        except FrameError as error:
            self._blame(peer, peers.BAD_FRAME)
            raise Refused(pb.Status.MALFORMED_MESSAGE) from error
        if request.type not in (pb.HopMessage.RESERVE, pb.HopMessage.CONNECT):
            raise Refused(pb.Status.UNEXPECTED_MESSAGE)
        return request

    async def _reserve(self, peer: str, stream: Any) -> None:
        until = self._places.reserve(peer, self._clock(), self._connected)
        addresses = [Multiaddr(text).to_bytes() for text in self._addresses()[:MAX_ADDRESSES]]
        place = pb.Reservation(expire=int(until), addrs=addresses)
        await self._say(stream, pb.Status.OK, reservation=place, limit=self._limit())

    async def _say(self, stream: Any, status: "pb.Status.ValueType", **fields: Any) -> None:
        """Answer a request for good."""
        with trio.fail_after(self._limits.handshake_seconds):
            await write_message(stream, pb.HopMessage(type=pb.HopMessage.STATUS, status=status, **fields))
            await stream.close()

    async def _connect(self, caller: str, called: ID, stream: Any) -> None:
        circuit = _Circuit(caller, str(called))
        self._admit(circuit)
        self._circuits.append(circuit)
        try:
            other = await self._call(caller, called)
            try:
                with trio.fail_after(self._limits.handshake_seconds):
                    answer = pb.HopMessage(type=pb.HopMessage.STATUS, status=pb.Status.OK, limit=self._limit())
                    await write_message(stream, answer)
                await self._carry(circuit, stream, other)
            finally:
                await _end(other)
        finally:
            self._circuits.remove(circuit)
        await _end(stream)

    def _admit(self, wanted: _Circuit) -> None:
        """Raises Refused when there is to be no such circuit.

        When all are taken, whoever has the most gives up its oldest for a peer that has fewer.
        """
        caller, callee = wanted.caller, wanted.callee
        if caller == callee:
            raise Refused(pb.Status.PERMISSION_DENIED)
        if not self._places.holds(callee, self._clock()) or not self._connected(callee):
            raise Refused(pb.Status.NO_RESERVATION)
        ends = Counter(peer for circuit in self._circuits for peer in (circuit.caller, circuit.callee))
        pair = sum((circuit.caller, circuit.callee) == (caller, callee) for circuit in self._circuits)
        most = max(ends[caller], ends[callee])
        if most >= self._limits.circuits_per_peer or pair >= self._limits.circuits_per_pair:
            raise Refused(pb.Status.RESOURCE_LIMIT_EXCEEDED)
        if len(self._circuits) >= self._limits.circuits:
            ((peer, number),) = ends.most_common(1) or [("", 0)]
            if number <= most + 1:
                raise Refused(pb.Status.RESOURCE_LIMIT_EXCEEDED)
            next(circuit for circuit in self._circuits if peer in (circuit.caller, circuit.callee)).scope.cancel()

    async def _call(self, caller: str, called: ID) -> Any:
        """A stream to the peer that is called, which takes the circuit. Raises Refused when it does not."""
        stream = None
        try:
            with trio.fail_after(self._limits.handshake_seconds):
                stream = await self._host.new_stream(called, [STOP])
                await self._present(caller, stream)
        except BaseException as error:
            await _end(stream)
            if isinstance(error, (BaseLibp2pError, FrameError, trio.TooSlowError, ValueError)):
                log.debug("relay_call_failed", caller=caller, callee=str(called), error=repr(error))
                raise Refused(pb.Status.CONNECTION_FAILED) from error
            raise
        return stream

    async def _present(self, caller: str, stream: Any) -> None:
        """Raises Refused when the peer that is called does not want the circuit."""
        who = pb.PeerId(id=ID.from_string(caller).to_bytes())
        await write_message(stream, pb.StopMessage(type=pb.StopMessage.CONNECT, peer=who, limit=self._limit()))
        answer = await read_message(stream, pb.StopMessage)
        if relayed(stream.swarm_conn) or answer.type != pb.StopMessage.STATUS or answer.status != pb.Status.OK:
            raise Refused(pb.Status.CONNECTION_FAILED)

    async def _carry(self, circuit: _Circuit, one: Any, other: Any) -> None:
        """Carry bytes both ways until an end is done or breaks off, nothing comes, or a limit is reached."""
        windows.hold(one)
        windows.hold(other)
        with trio.move_on_after(self._limits.circuit_seconds), circuit.scope:
            circuit.scope.deadline = trio.current_time() + self._limits.start_seconds
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry_one_way, circuit, one, other)
                    nursery.start_soon(self._carry_one_way, circuit, other, one)
            except* BaseLibp2pError as broken:
                log.debug("circuit_broke_off", error=repr(broken.exceptions[0]))

    async def _carry_one_way(self, circuit: _Circuit, source: Any, sink: Any) -> None:
        left = self._limits.circuit_bytes
        try:
            while left > 0:
                data = await source.read(min(left, WRITE_SIZE))
                left -= len(data)
                if self._wait is not None:
                    await self._wait(circuit.caller, len(data))
                await sink.write(data)
                self._bytes += len(data)
                circuit.bytes += len(data)
                if circuit.bytes >= self._limits.start_bytes:
                    circuit.scope.deadline = trio.current_time() + self._limits.idle_seconds
        except StreamEOF:
            await sink.close_write()
            circuit.scope.deadline = min(circuit.scope.deadline, trio.current_time() + self._limits.end_seconds)
            return
        circuit.scope.cancel()

    def _connected(self, peer: str) -> bool:
        return bool(self._host.get_network().direct(ID.from_string(peer)))

    def _limit(self) -> pb.Limit:
        return pb.Limit(duration=int(self._limits.circuit_seconds), data=self._limits.circuit_bytes)


async def _end(stream: Any) -> None:
    """Let go of a stream; where both sides have said their last, libp2p sends nothing more for it."""
    if stream is not None:
        with trio.CancelScope(shield=True):  # one frame of 12 bytes; `hardening.write_whole_frames` bounds it
            await stream.reset()
