"""The control socket: how other programs of the same user watch and steer a running node.

A Unix socket that only its owner can reach. Requests and answers are the frames of `p2pcap.node.frames`:

    {"op": "status"}                               one snapshot
    {"op": "subscribe", "most": n}                 a snapshot now and every second, until the client hangs up
    {"op": "page", "page": {"of": …, …}}           rows of a long list, sorted and filtered (p2pcap.node.pages)
    {"op": "metrics"}                              {"text": the snapshot's numbers for Prometheus}
    {"op": "hold"}                                 {"held": name}: the tables in one state, until the client hangs up
    {"op": "query", "sql": …, "rows": …, "seconds": …, "held": …}   A frames, then {"rows": n, "truncated": bool}
    {"op": "export"}                               M frames, then {"runs": n}
    {"op": "parts", "sql": …, "order": …, "chunks": [first, last], "held": …}   A frames, then {"rows": n}
    {"op": "copy"}                                 M frames, then {}
    {"op": "chunk-map"}                            how far each chunk is (p2pcap.node.chunk_map)
    {"op": "manifest"}                             what the maintainer signed (p2pcap.node.manifest_info)
    {"op": "image", "place": [chunk, item], "hash": 64 hex}   M frames with the file's bytes, then {"bytes": n}
    {"op": "table-hash"}                           {"hash": 64 hex digits}
    {"op": "ticket"}                               {"ticket": text}
    {"op": "draft", "asked": …, "signer": 64 hex}  a ruling and what it would change (p2pcap.node.drafts)
    {"op": "submit", "statements": [base64, …]}    {"outcomes": [{"held": bool, "reason": text}, …]}
    {"op": "seal"}                                 {"checkpoint": n}: the coordinator seals what it has at once
    {"op": "reload"}                               {"manifest": n}: the coordinator takes up what was signed anew
    {"op": "pause", "duration": seconds or null}   {"until": unix seconds or null}: no new work, what is in hand dropped
    {"op": "finish"}                               {}: no new work once what is in hand is done
    {"op": "resume"}                               {"why": what still holds the node back, "" for nothing}
    {"op": "stop"}                                 {"pid": n}, and the node ends politely

Always holds: one node answers in one folder. What takes long runs on a thread and is broken off when its client hangs
up; a client that does not read is dropped after SEND_WITHIN seconds; nothing a client sends ends the node, but "stop".
"""

import os
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing
from typing import Protocol

import msgspec
import structlog
import trio

from p2pcap.errors import ConfigError, FrameError, P2pcapError
from p2pcap.ledger.drafting import Asked
from p2pcap.node import chunk_map, drafts, frames, manifest_info, snapshot
from p2pcap.node.chunk_map import ChunkMap
from p2pcap.node.connection import Connection, encoded
from p2pcap.node.drafts import Draft
from p2pcap.node.holding import Holding
from p2pcap.node.listening import MAX_CLIENTS, listening
from p2pcap.node.manifest_info import ManifestInfo
from p2pcap.node.metrics import exposition
from p2pcap.node.pages import PageRequest
from p2pcap.node.requests import Request
from p2pcap.node.snapshot import ContributorPage, NodeSnapshot, PeerInfo, PeerPage
from p2pcap.node.submitting import Outcome
from p2pcap.paths import NodePaths
from p2pcap.store.canonical import runs
from p2pcap.store.copying import pieces
from p2pcap.store.parts import parts
from p2pcap.store.present import Peer
from p2pcap.store.query import Limits, Rows, arrow_stream, select
from p2pcap.store.readers import store_errors
from p2pcap.store.store import Store

SUBSCRIPTION_PERIOD = 1.0
"""Seconds between two snapshots of a subscription."""

MAX_LONG = 4
"""Queries, exports and hashes at one time; the next ones wait."""

MAX_IMAGES = 2
"""Images that are looked for at one time: each is in memory as a whole."""

Parts = Generator[tuple[bytes, bytes]]
"""Frames of an answer: kind and payload."""

log = structlog.get_logger()


class Control(Protocol):
    """What the node offers to whoever holds its control socket."""

    @property
    def store(self) -> Store:
        """The open database."""

    async def settled(self) -> None:
        """Returns when the database is open: at once, but while it is made anew under another root."""

    def snapshot(self, most: int | None = None) -> NodeSnapshot:
        """The node as it is now, with the first `most` peers and contributors (None: with all). Quick: it is called in
        the event loop."""

    def page(self, asked: PageRequest) -> PeerPage | ContributorPage:
        """Rows of a long list, as quickly. Raises ConfigError."""

    def ticket(self) -> str:
        """A ticket that names this node as a peer."""

    async def chunk_map(self) -> ChunkMap:
        """How far each chunk is. Raises ConfigError while the node has no project."""

    def manifest(self) -> ManifestInfo:
        """What the maintainer signed. Raises ConfigError while the node has no project."""

    async def image(self, chunk: int, item: int, hash_: bytes) -> bytes:
        """The file of the image at this place, which has this hash. Raises ConfigError while the node has no project,
        SourceError when it cannot be shown."""

    async def draft(self, asked: Asked, signer: bytes) -> Draft:
        """A ruling as `signer` would sign it, and what it would change. Raises ConfigError, StoreError."""

    async def submit(self, statements: Sequence[bytes]) -> list[Outcome]:
        """Take in signed statements, and tell everybody; what was taken in is durable then. Raises ConfigError while
        the node has no project, StoreError."""

    async def seal(self) -> int:
        """Seal what is here at once; returns the number of the newest checkpoint. Raises ConfigError where this node
        seals nothing."""

    async def reload(self) -> int:
        """Take up what was signed anew in the maintainer's folder; returns the manifest's version. Raises ConfigError
        where there is no such folder, UntrustedError, StoreError."""

    async def pause(self, seconds: float | None) -> float | None:
        """Work on nothing for so long, or (None) until `resume`. Returns until when, in unix seconds; it is durable
        then. Raises ConfigError where there is nothing to pause, StoreError; as do the next two."""

    async def finish(self) -> None:
        """As `pause` without an end, but do what is in hand first. Returns at once."""

    async def resume(self) -> str:
        """End a pause. Returns what else keeps the node from working, "" for nothing."""

    def stop(self) -> None:
        """End politely. Returns at once."""


async def serve_control(
    control: Control, paths: NodePaths, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer on the control socket of the node in `paths` until cancelled.

    Raises ConfigError when a node is running in that folder already, or the socket cannot be made.
    """
    async with listening(control.snapshot(), paths) as listener:
        server = _Server(control)
        task_status.started()
        await trio.serve_listeners(server.serve, [listener])


class _Server:
    """Answers clients, each in a task of its own."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._clients = 0
        self._long = trio.CapacityLimiter(MAX_LONG)
        self._showing = trio.CapacityLimiter(MAX_IMAGES)
        self._holding = Holding(lambda: control.store.readers)
        self._operations: dict[str, Callable[[Connection, Request], Awaitable[None]]] = {
            "status": self._status,
            "subscribe": self._subscribe,
            "page": self._page,
            "metrics": self._metrics,
            "hold": self._hold,
            "query": self._query,
            "export": self._export,
            "parts": self._parts,
            "copy": self._copy,
            "chunk-map": self._chunk_map,
            "manifest": self._manifest,
            "image": self._image,
            "table-hash": self._table_hash,
            "ticket": self._ticket,
            "draft": self._draft,
            "submit": self._submit,
            "seal": self._seal,
            "reload": self._reload,
            "pause": self._pause,
            "finish": self._finish,
            "resume": self._resume,
            "stop": self._stop,
        }

    async def serve(self, stream: trio.SocketStream) -> None:
        """One client, from its first request until it hangs up."""
        connection = Connection(stream)
        self._clients += 1
        try:
            async with stream:
                if self._clients > MAX_CLIENTS:
                    await connection.request()  # to hang up on what is unread would take the answer with it
                    await connection.fail(P2pcapError("The node has too many clients. Close one of them."))
                else:
                    await self._requests(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, FrameError) as error:
            log.info("control client dropped", reason=str(error) or type(error).__name__)
        finally:
            self._clients -= 1

    async def _requests(self, connection: Connection) -> None:
        while (data := await connection.request()) is not None:
            try:
                request = msgspec.json.decode(data, type=Request)
                await self._operation(request)(connection, request)
            except msgspec.MsgspecError as error:
                await connection.fail(ConfigError(f"The node does not understand the request: {error}. Update p2pcap."))
            except P2pcapError as error:
                await connection.fail(error)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                raise
            except Exception:  # a defect in one answer must not take the node down
                log.exception("control request failed", op=data[:64])
                await connection.fail(P2pcapError("The node could not answer. Its log says why (p2pcap paths)."))

    def _operation(self, request: Request) -> Callable[[Connection, Request], Awaitable[None]]:
        operation = self._operations.get(request.op)
        if operation is None:
            raise ConfigError(f"This node cannot do {request.op!r}. Update p2pcap, then start the node again.")
        return operation

    async def _status(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, snapshot.encode(self._control.snapshot(request.most)))

    async def _subscribe(self, connection: Connection, request: Request) -> None:
        async def follow() -> None:
            while True:
                await self._status(connection, request)
                await trio.sleep(SUBSCRIPTION_PERIOD)

        await connection.while_open(follow)

    async def _page(self, connection: Connection, request: Request) -> None:
        if request.page is None:
            raise ConfigError("The request says not which page. Update p2pcap.")
        await connection.send(frames.JSON, msgspec.json.encode(self._control.page(request.page)))

    async def _metrics(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(text=exposition(self._control.snapshot())))

    async def _hold(self, connection: Connection, request: Request) -> None:
        await self._control.settled()
        async with self._holding.new() as name:
            await connection.send(frames.JSON, encoded(held=name))
            await connection.while_open(lambda: self._holding.used(name))

    async def _query(self, connection: Connection, request: Request) -> None:
        peers = [_peer(info) for info in self._control.snapshot().peers]

        def rows(stop: threading.Event) -> Parts:
            limits = Limits(request.rows, request.seconds)
            with (
                self._holding.lent(request.held, stop) as (readers, gone),
                select(readers, request.sql, limits, gone, peers) as selection,
            ):
                yield from _arrow(selection)
                yield frames.JSON, encoded(rows=selection.rows, truncated=selection.truncated)

        await self._stream(connection, rows)

    async def _parts(self, connection: Connection, request: Request) -> None:
        def rows(stop: threading.Event) -> Parts:
            with (
                self._holding.lent(request.held, stop) as (readers, gone),
                parts(readers, request.sql, request.order, request.chunks, gone) as found,
            ):
                yield from _arrow(found)
                yield frames.JSON, encoded(rows=found.rows)

        await self._stream(connection, rows)

    async def _copy(self, connection: Connection, request: Request) -> None:
        def messages(stop: threading.Event) -> Parts:
            with self._control.store.readers.lend() as cursor:
                for name, data in pieces(cursor):
                    yield frames.MESSAGE, len(name).to_bytes(4, "big") + name.encode() + data
            yield frames.JSON, encoded()

        await self._stream(connection, messages)

    async def _export(self, connection: Connection, request: Request) -> None:
        def messages(stop: threading.Event) -> Parts:
            count = 0
            with self._control.store.readers.lend() as cursor:
                for count, run in enumerate(runs(cursor), start=1):  # noqa: B007 - the last value is the number of them
                    yield frames.MESSAGE, msgspec.msgpack.encode(run)
            yield frames.JSON, encoded(runs=count)

        await self._stream(connection, messages)

    async def _stream(self, connection: Connection, produce: Callable[[threading.Event], Parts]) -> None:
        """Send what `produce` yields on a thread, as fast as the client takes it; break it off when the client goes."""
        stop = threading.Event()

        def made() -> Parts:
            with store_errors(), closing(produce(stop)) as parts:
                for part in parts:
                    if stop.is_set():
                        return
                    yield part

        async def run() -> None:
            await self._control.settled()
            try:
                await connection.send_made(made, self._long)
            finally:
                stop.set()

        await connection.while_open(run)

    async def _table_hash(self, connection: Connection, request: Request) -> None:
        await self._control.settled()
        await connection.send(frames.JSON, encoded(hash=await self._control.store.table_hash()))

    async def _chunk_map(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, chunk_map.encode(await self._control.chunk_map()))

    async def _manifest(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, manifest_info.encode(self._control.manifest()))

    async def _image(self, connection: Connection, request: Request) -> None:
        async def run() -> None:
            async with self._showing:
                data = await self._control.image(*request.place, bytes.fromhex(request.hash))
                for start in range(0, len(data), frames.PART):
                    await connection.send(frames.MESSAGE, data[start : start + frames.PART])
                await connection.send(frames.JSON, encoded(bytes=len(data)))

        await connection.while_open(run)

    async def _ticket(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(ticket=self._control.ticket()))

    async def _draft(self, connection: Connection, request: Request) -> None:
        asked = drafts.decode_asked(request.asked)
        made = await self._control.draft(asked, bytes.fromhex(request.signer))
        await connection.send(frames.JSON, drafts.encode_draft(made))

    async def _submit(self, connection: Connection, request: Request) -> None:
        outcomes = await self._control.submit(request.statements)
        await connection.send(frames.JSON, encoded(outcomes=outcomes))

    async def _seal(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(checkpoint=await self._control.seal()))

    async def _reload(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(manifest=await self._control.reload()))

    async def _pause(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(until=await self._control.pause(request.duration)))

    async def _finish(self, connection: Connection, request: Request) -> None:
        await self._control.finish()
        await connection.send(frames.JSON, encoded())

    async def _resume(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(why=await self._control.resume()))

    async def _stop(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(pid=os.getpid()))
        self._control.stop()


def _peer(info: PeerInfo) -> Peer:
    return Peer(
        peer=info.peer_id,
        name=info.name,
        role=info.role,
        address=info.address,
        direction=info.direction,
        relayed=info.relayed,
        engine_ready=info.engine_ready,
        since=info.since,
        rtt=info.rtt,
        score=info.score,
        sent=info.sent,
        received=info.received,
    )


def _arrow(rows: Rows) -> Parts:
    for data in arrow_stream(rows):
        for start in range(0, len(data), frames.PART):
            yield frames.ARROW, data[start : start + frames.PART]
