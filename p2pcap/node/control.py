"""The control socket: how other programs of the same user watch and steer a running node.

A Unix socket that only its owner can reach. Requests and answers are the frames of `p2pcap.node.frames`:

    {"op": "status"}                               one snapshot
    {"op": "subscribe"}                            a snapshot now and every second, until the client hangs up
    {"op": "metrics"}                              {"text": the snapshot's numbers for Prometheus}
    {"op": "query", "sql": …, "rows": …, "seconds": …}   A frames, then {"rows": n, "truncated": bool}
    {"op": "export"}                               M frames, then {"runs": n}
    {"op": "parts", "sql": …, "order": …, "chunks": [first, last]}   A frames, then {"rows": n}
    {"op": "copy"}                                 M frames, then {}
    {"op": "table-hash"}                           {"hash": 64 hex digits}
    {"op": "ticket"}                               {"ticket": text}
    {"op": "draft", "asked": …, "signer": 64 hex}  a ruling and what it would change (p2pcap.node.drafts)
    {"op": "submit", "statements": [base64, …]}    {"outcomes": [{"held": bool, "reason": text}, …]}
    {"op": "seal"}                                 {"checkpoint": n}: the coordinator seals what it has at once
    {"op": "reload"}                               {"manifest": n}: the coordinator takes up what was signed anew
    {"op": "stop"}                                 {"pid": n}, and the node ends politely

Always holds: one node answers in one folder. What takes long runs on a thread and is broken off when its client hangs
up; a client that does not read is dropped after SEND_WITHIN seconds; nothing a client sends ends the node, but "stop".
"""

import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import structlog
import trio

from p2pcap.envelope import MAX_ENVELOPE
from p2pcap.errors import ConfigError, FrameError, P2pcapError
from p2pcap.ledger.drafting import Asked
from p2pcap.node import drafts, frames, snapshot
from p2pcap.node.connection import Connection, encoded
from p2pcap.node.drafts import Draft
from p2pcap.node.metrics import exposition
from p2pcap.node.snapshot import NodeSnapshot, PeerInfo
from p2pcap.node.submitting import MAX_SUBMITTED, Outcome
from p2pcap.paths import NodePaths, answers, own_runtime_directory, running_node
from p2pcap.store.canonical import runs
from p2pcap.store.copying import pieces
from p2pcap.store.parts import MAX_CHUNKS, Order, parts
from p2pcap.store.present import Peer
from p2pcap.store.query import Limits, Rows, arrow_stream, select
from p2pcap.store.readers import store_errors
from p2pcap.store.store import Store

SUBSCRIPTION_PERIOD = 1.0
"""Seconds between two snapshots of a subscription."""

MAX_CLIENTS = 32
MAX_LONG = 4
"""Queries, exports and hashes at one time; the next ones wait."""

MAX_SECONDS = 600.0
"""A query's time and rows may not be set higher than this."""

MAX_ROWS = 10_000_000

Submitted = Annotated[bytes, msgspec.Meta(max_length=MAX_ENVELOPE)]

ChunkNumber = Annotated[int, msgspec.Meta(ge=0, le=MAX_CHUNKS)]

Parts = Generator[tuple[bytes, bytes]]
"""Frames of an answer: kind and payload."""

log = structlog.get_logger()


class Control(Protocol):
    """What the node offers to whoever holds its control socket."""

    @property
    def store(self) -> Store:
        """The open database."""

    def snapshot(self) -> NodeSnapshot:
        """The node as it is now. Quick: it is called in the event loop."""

    def ticket(self) -> str:
        """A ticket that names this node as a peer."""

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

    def stop(self) -> None:
        """End politely. Returns at once."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request. `sql` is for "query" and "parts", `rows` and `seconds` are for the one, `order` and `chunks` for the
    other; `asked` and `signer` for "draft", `statements` for "submit"."""

    op: str
    sql: str = ""
    rows: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)] = 1_000_000
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)] = 60.0
    order: Order = "task"
    chunks: tuple[ChunkNumber, ChunkNumber] = (0, MAX_CHUNKS)
    asked: dict[str, Any] = msgspec.field(default_factory=dict)
    signer: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    statements: Annotated[tuple[Submitted, ...], msgspec.Meta(max_length=MAX_SUBMITTED)] = ()


async def serve_control(
    control: Control, paths: NodePaths, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer on the control socket of the node in `paths` until cancelled.

    Raises ConfigError when a node is running in that folder already, or the socket cannot be made.
    """
    async with _listening(control, paths) as listener:
        server = _Server(control)
        task_status.started()
        await trio.serve_listeners(server.serve, [listener])


@asynccontextmanager
async def _listening(control: Control, paths: NodePaths) -> AsyncIterator[trio.SocketListener]:
    """The listening socket and the record beside it, both removed at the end."""
    path = own_runtime_directory() / f"{paths.socket_name}.sock"
    if answers(path):
        node = running_node(paths.directory)
        process = f"process {node.pid}" if node else "another process"
        raise ConfigError(f"A node is running in {paths.directory} already, as {process}. Stop it first: p2pcap stop")
    record = path.with_suffix(".json")
    listener = _bound(path)
    try:
        _write_record(record, control, paths)
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


def _write_record(path: Path, control: Control, paths: NodePaths) -> None:
    now = control.snapshot()
    who = {"project": now.project.title, "role": now.node.role, "name": now.node.name}
    record = {"directory": str(paths.directory.resolve()), "pid": os.getpid(), **who}
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(record))
    temporary.replace(path)


class _Server:
    """Answers clients, each in a task of its own."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._clients = 0
        self._long = trio.CapacityLimiter(MAX_LONG)
        self._operations: dict[str, Callable[[Connection, Request], Awaitable[None]]] = {
            "status": self._status,
            "subscribe": self._subscribe,
            "metrics": self._metrics,
            "query": self._query,
            "export": self._export,
            "parts": self._parts,
            "copy": self._copy,
            "table-hash": self._table_hash,
            "ticket": self._ticket,
            "draft": self._draft,
            "submit": self._submit,
            "seal": self._seal,
            "reload": self._reload,
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
        await connection.send(frames.JSON, snapshot.encode(self._control.snapshot()))

    async def _subscribe(self, connection: Connection, request: Request) -> None:
        async def follow() -> None:
            while True:
                await self._status(connection, request)
                await trio.sleep(SUBSCRIPTION_PERIOD)

        await connection.while_open(follow)

    async def _metrics(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(text=exposition(self._control.snapshot())))

    async def _query(self, connection: Connection, request: Request) -> None:
        peers = [_peer(info) for info in self._control.snapshot().peers]

        def rows(stop: threading.Event) -> Parts:
            limits = Limits(request.rows, request.seconds)
            with select(self._control.store.readers, request.sql, limits, stop, peers) as selection:
                yield from _arrow(selection)
                yield frames.JSON, encoded(rows=selection.rows, truncated=selection.truncated)

        await self._stream(connection, rows)

    async def _parts(self, connection: Connection, request: Request) -> None:
        def rows(stop: threading.Event) -> Parts:
            with parts(self._control.store.readers, request.sql, request.order, request.chunks, stop) as found:
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

        def work() -> None:
            with store_errors(), closing(produce(stop)) as parts:
                for kind, payload in parts:
                    if stop.is_set():
                        return
                    trio.from_thread.run(connection.send, kind, payload)

        async def run() -> None:
            try:
                await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._long)
            finally:
                stop.set()

        await connection.while_open(run)

    async def _table_hash(self, connection: Connection, request: Request) -> None:
        await connection.send(frames.JSON, encoded(hash=await self._control.store.table_hash()))

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
