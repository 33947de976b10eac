"""Asking and answering: one libp2p stream for each request, length-prefixed frames, hard caps, one deadline.

Both sides give up when `SwarmSettings.request_timeout` is over. A peer that asks too fast is answered later; one that
breaks the framing or a limit has its stream reset and loses standing.

Always holds: whatever happens to a stream, this module closes or resets it; no more than PER_PEER answers are in work
for one peer, and beyond one for each peer no more than MORE for everybody, content apart from the rest; of each peer
one request at most waits for its turn among all, and what waits takes no more than WAITING_BYTES; nothing waits or is
answered for longer than the connection lasts that it came by.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.exceptions import StreamFailure
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID

from p2pcap.codec import decode, encode
from p2pcap.errors import CodecError, FrameError, RequestFailed, Unreachable
from p2pcap.swarm import peers
from p2pcap.swarm.backlog import Backlog, Crowded
from p2pcap.swarm.counters import Counters
from p2pcap.swarm.frames import FrameReader, frame, write
from p2pcap.swarm.gossip import topic_name
from p2pcap.swarm.host import Host
from p2pcap.swarm.lifetimes import while_connected
from p2pcap.swarm.places import Places
from p2pcap.swarm.rates import TokenBucket
from p2pcap.swarm.service import KINDS
from p2pcap.swarm.settings import SwarmSettings

log = structlog.get_logger(__name__)

MAX_REQUEST = 16 * 1024
"""Bytes of a request, unless its protocol says otherwise; the longest asks for 256 statements by id."""
TOKEN_BYTES = 8 * 1024
"""A request costs one of the peer's tokens, and one more for each so many bytes, unless its protocol says otherwise:
pushed statements make work by their length."""
PER_PEER = 4
MORE = 32
BURST_SECONDS = 2.0
WAITING_BYTES = 16 * 1024 * 1024
"""Of all requests that wait for their turn, each counted with STREAM_BYTES for its stream and task."""
STREAM_BYTES = 8 * 1024

T = TypeVar("T")
Blame = Callable[[str, float], None]
Answer = Callable[[str, Any, Any], Awaitable[None]]
"""What serves a request: called with the peer, the decoded request and the stream to write frames to."""


class UnknownProtocol(RequestFailed):
    """The peer does not serve this request: it is of another project or version."""


class Requests:
    """Both ends of every request protocol of one project on one host."""

    def __init__(
        self, host: Host, project: bytes, settings: SwarmSettings, blame: Blame, counters: Counters | None = None
    ) -> None:
        self._host = host
        self._project = project
        self._settings = settings
        self._blame = blame
        self._counters = counters or Counters()
        rate = settings.requests_per_second
        self._bucket = TokenBucket(4 * rate, 4 * rate * BURST_SECONDS)
        self._places = Places(PER_PEER, MORE)
        self._bulk_places = Places(PER_PEER, MORE)
        self._backlog = Backlog(WAITING_BYTES)
        self._each: dict[str, tuple[TokenBucket, trio.Lock]] = {}

    def serve(
        self, name: str, kind: type[T], answer: Answer, limit: int = MAX_REQUEST, token_bytes: int = TOKEN_BYTES
    ) -> None:
        """Answer requests `name`, which carry a `kind` in at most `limit` bytes, with `answer`.

        Each costs its sender a token, and one more for each `token_bytes`. Those for content, whose answers may take
        long, have places of their own.
        """
        places = self._bulk_places if name in KINDS else self._places

        async def respond(stream: Any) -> None:
            peer = str(stream.muxed_conn.peer_id)
            outcome = "failed"
            try:
                with trio.fail_after(self._settings.request_timeout):
                    data = await FrameReader(stream).read(limit)
                    with self._backlog.wait(peer, len(data) + STREAM_BYTES) as waiting:
                        await self._turn(peer, 1 + len(data) // token_bytes)
                        async with places.place(peer):
                            self._backlog.done(peer, waiting)
                            await answer(peer, decode(data, kind, limit), stream)
                    await stream.close()
                outcome = "ok"
            except (FrameError, CodecError) as error:
                outcome = "refused"
                log.info("bad_request", peer=peer, request=name, error=str(error))
                self._blame(peer, peers.BAD_FRAME)
                await _reset(stream)
            except Crowded:
                outcome = "refused"
                log.debug("request_crowded_out", peer=peer, request=name)
                await _reset(stream)
            except (BaseLibp2pError, trio.TooSlowError) as error:
                outcome = "timeout" if isinstance(error, trio.TooSlowError) else "failed"
                log.debug("request_broke_off", peer=peer, request=name, error=repr(error))
                await _reset(stream)
            except Exception:  # of our own making, whoever provoked it
                log.exception("answering_failed", peer=peer, request=name)
                await _reset(stream)
            finally:
                self._counters.served[name, outcome] += 1

        async def handle(stream: Any) -> None:
            async with while_connected(stream):
                await respond(stream)

        self._host.set_stream_handler(topic_name(self._project, name), handle)

    async def ask(self, peer: str, name: str, request: Any, kind: type[T], limit: int) -> T:
        """The answer of `peer` to `request`, a `kind` of at most `limit` bytes.

        Raises Unreachable when the peer is not connected, UnknownProtocol, or RequestFailed.
        """
        async with self.stream(peer, name, request) as reader:
            return decode(await reader.read(limit), kind, limit)

    @asynccontextmanager
    async def stream(
        self, peer: str, name: str, request: Any, heard: Callable[[], None] = lambda: None
    ) -> AsyncIterator[FrameReader]:
        """Send a request and read its answer inside the block; `heard` is called whenever bytes of it have come.

        Raises as `ask` does, also for errors in the block.
        """
        outcome = "failed"
        try:
            with trio.fail_after(self._settings.request_timeout):
                stream = await self._open(peer, name)
                try:
                    await write(stream, frame(encode(request)))
                    yield FrameReader(stream, heard)
                    await stream.close()
                except BaseException:
                    await _reset(stream)
                    raise
            outcome = "ok"
        except (FrameError, CodecError) as error:
            self._blame(peer, peers.BAD_FRAME)
            raise RequestFailed(f"Peer {peer} answered {name} with something else: {error}") from error
        except trio.TooSlowError as error:
            outcome = "timeout"
            self._blame(peer, peers.BROKE_OFF)
            seconds = self._settings.request_timeout
            raise RequestFailed(f"Peer {peer} did not finish its answer to {name} within {seconds:g} s.") from error
        except BaseLibp2pError as error:
            raise RequestFailed(f"Peer {peer} broke off its answer to {name}: {error!r}.") from error
        finally:
            self._counters.asked[name, outcome] += 1

    async def _open(self, peer: str, name: str) -> Any:
        try:
            return await self._host.new_stream(ID.from_string(peer), [topic_name(self._project, name)])
        except SwarmException as error:
            raise Unreachable(f"Peer {peer} is not connected. Wait for the connection, or connect to it.") from error
        except StreamFailure as error:
            if "not supported" in str(error.__cause__):
                raise UnknownProtocol(f"Peer {peer} does not answer {name}: it is of another project.") from error
            raise
        except ValueError as error:  # libp2p decodes protocol names of strangers without asking
            raise RequestFailed(f"Peer {peer} does not speak libp2p as it should: {error}.") from error

    async def _turn(self, peer: str, tokens: int) -> None:
        """Wait for the peer's own tokens, then for those of all, one by one, so that long requests hold up nobody."""
        bucket, turn = self._for(peer)
        async with turn:
            await bucket.take(tokens)
            for _ in range(tokens):
                await self._bucket.take()

    def _for(self, peer: str) -> tuple[TokenBucket, trio.Lock]:
        """What limits `peer`. It outlasts the peer's connections, or whoever connects again would begin anew."""
        if peer not in self._each:
            self._forget()
            rate = self._settings.requests_per_second
            self._each[peer] = TokenBucket(rate, rate * BURST_SECONDS), trio.Lock()
        return self._each[peer]

    def _forget(self) -> None:
        """Drop what limits nobody now, and the oldest if there is too much left."""
        limiting = {peer: each for peer, each in self._each.items() if each[1].locked() or not each[0].full()}
        while len(limiting) >= peers.MAX_PEERS:
            del limiting[next(iter(limiting))]
        self._each = limiting


async def send(stream: Any, answer: Any) -> None:
    """Write a struct as the one frame of an answer."""
    await write(stream, frame(encode(answer)))


async def _reset(stream: Any) -> None:
    with trio.CancelScope(shield=True):  # one frame of 12 bytes; `hardening.write_whole_frames` bounds it
        await stream.reset()
