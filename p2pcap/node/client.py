"""The other end of the control socket, for commands and front ends: blocking calls, standard library only.

What a node answers comes back as it was sent: JSON as values, Arrow and MessagePack as bytes. Decoding them is the
business of whoever has those libraries loaded.

Always holds: a node that does not answer in time, dies in the middle or talks nonsense ends in an error of
p2pcap.errors; an error the node reports is raised here as the same class.
"""

import base64
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from p2pcap import errors
from p2pcap.errors import FrameError, ImageError, NotRunningError, P2pcapError
from p2pcap.node import frames
from p2pcap.node.hanging import remedy

MAX_IMAGE = 64 * 1024 * 1024
"""Bytes of an image file at most; p2pcap.project.items has the limit that the node keeps."""

ANSWER_WITHIN = 30.0
"""Seconds in which a node answers, or sends the next frame of an answer."""

RELOAD_WITHIN = 600.0
"""Seconds in which the coordinator reads what was signed: every item list of a large project."""

HASH_WITHIN = 600.0
"""Seconds in which a node hashes its table."""


LONGEST_PAUSE = 366 * 86_400.0
"""Seconds a pause may last that ends by itself."""

PARTS_WITHIN = 630.0
"""Seconds in which a node sends the next rows of an export: somewhat more than it allows itself for a stretch."""


class Reply:
    """An answer in parts. `end` is the JSON of its last frame, empty until the parts have all been read."""

    def __init__(self, client: "Client", part: bytes) -> None:
        self._client = client
        self._part = part
        self.end: dict[str, Any] = {}

    def __iter__(self) -> Iterator[bytes]:
        """The parts, once. Raises what the node reports."""
        while True:
            kind, payload = self._client.receive()
            if kind == frames.JSON:
                self.end = _object(payload)
                return
            if kind != self._part:
                raise _nonsense()
            yield payload


class Client:
    """A connection to a running node. Not for several threads at once. A context manager."""

    def __init__(self, path: Path) -> None:
        """Connect to the socket at `path`. Raises NotRunningError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._wait_at_most(ANSWER_WITHIN)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise NotRunningError("The node does not run any more. Start it again with p2pcap join.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. The node breaks off what it was doing for this client. From another thread, whoever waits for an
        answer gets NotRunningError."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def status(self) -> bytes:
        """The node's snapshot as JSON (p2pcap.node.snapshot.decode makes it a value)."""
        return self._ask(op="status")

    def page(self, of: str, *, sort: str = "", down: bool = False, sought: str = "", most: int = 500) -> bytes:
        """Rows of "peers" or "contributors" as JSON (a page of p2pcap.node.snapshot), as p2pcap.node.pages sorts and
        filters them. Raises ConfigError."""
        return self._ask(op="page", page={"of": of, "sort": sort, "down": down, "sought": sought, "most": most})

    def subscribe(self, most: int | None = None) -> Iterator[bytes]:
        """Snapshots as JSON, now and whenever the node sends one, with the first `most` peers and contributors (None:
        with all). Ends when the node does. Raises NotRunningError when it hangs."""
        self._request(op="subscribe", most=most)
        while True:
            try:
                kind, payload = self.receive()
            except NotRunningError as error:
                if isinstance(error.__cause__, TimeoutError):
                    raise
                return
            if kind != frames.JSON:
                raise _nonsense()
            yield payload

    def metrics(self) -> str:
        """The node's numbers as Prometheus text."""
        return str(_object(self._ask(op="metrics")).get("text", ""))

    def chunk_map(self) -> bytes:
        """How far each chunk is, as JSON (p2pcap.node.chunk_map.decode makes it a value)."""
        return self._ask(op="chunk-map")

    def manifest(self) -> bytes:
        """What the maintainer signed, as JSON (p2pcap.node.manifest_info.decode makes it a value)."""
        return self._ask(op="manifest")

    def image(self, chunk: int, item: int, hash_: str) -> bytes:
        """The file of the image at this place, which has this hash (64 hex digits), if the node has it or a peer hands
        it over at once. Raises SourceError, and FrameError for more than MAX_IMAGE bytes."""
        self._request(op="image", place=[chunk, item], hash=hash_)
        data = bytearray()
        for part in Reply(self, frames.MESSAGE):
            data += part
            if len(data) > MAX_IMAGE:
                raise FrameError(f"The node sends more than {MAX_IMAGE} bytes for one image.")
        return bytes(data)

    def hold(self) -> str:
        """Have the node hold its tables in the state that they are in now, until this client hangs up. Returns what
        `query` and `parts`, of other clients, call it by. Raises QueryError where the node holds too many already."""
        return str(_object(self._ask(op="hold")).get("held", ""))

    def query(self, sql: str, rows: int, seconds: float, held: str = "") -> Reply:
        """Run a SELECT: parts of one Arrow IPC stream, then `end` with "rows" and "truncated". Raises QueryError."""
        self._answers()
        self._wait_at_most(seconds + ANSWER_WITHIN)
        self._request(op="query", sql=sql, rows=rows, seconds=seconds, held=held)
        return Reply(self, frames.ARROW)

    def parts(self, sql: str, order: str, chunks: Sequence[int], held: str = "") -> Reply:
        """Run a SELECT over the canonical table, stretch by stretch (p2pcap.store.parts): parts of one Arrow IPC
        stream, then `end` with "rows". Raises QueryError, StoreError."""
        self._wait_at_most(PARTS_WITHIN)
        self._request(op="parts", sql=sql, order=order, chunks=list(chunks), held=held)
        return Reply(self, frames.ARROW)

    def pieces(self) -> Iterator[tuple[str, bytes]]:
        """A copy of the node's database (p2pcap.store.copying): rows of one table after the other, as Arrow."""
        self._request(op="copy")
        for part in Reply(self, frames.MESSAGE):
            size = int.from_bytes(part[:4], "big")
            yield part[4 : 4 + size].decode(), part[4 + size :]

    def export(self) -> Reply:
        """The canonical table in order: each part is one p2pcap.store.canonical.Run as MessagePack."""
        self._request(op="export")
        return Reply(self, frames.MESSAGE)

    def table_hash(self) -> str:
        """The hash of the canonical table, 64 hex digits."""
        self._answers()
        self._wait_at_most(HASH_WITHIN)
        return str(_object(self._ask(op="table-hash")).get("hash", ""))

    def ticket(self) -> str:
        """A ticket that names the node as a peer."""
        return str(_object(self._ask(op="ticket")).get("ticket", ""))

    def draft(self, asked: Any, signer: str) -> bytes:
        """A ruling that `signer` (a key in hex) would sign, and what it would change, as JSON (p2pcap.node.drafts)."""
        return self._ask(op="draft", asked=asked, signer=signer)

    def submit(self, statements: Sequence[bytes]) -> list[tuple[bool, str]]:
        """Hand in signed statements, at most MAX_SUBMITTED of p2pcap.node.submitting: for each whether the node holds
        it now, durably, and why not."""
        texts = [base64.b64encode(data).decode() for data in statements]
        outcomes = _object(self._ask(op="submit", statements=texts)).get("outcomes")
        if not isinstance(outcomes, list) or len(outcomes) != len(texts):
            raise _nonsense()
        return [(bool(outcome.get("held")), str(outcome.get("reason", ""))) for outcome in outcomes]

    def seal(self) -> int:
        """Have the coordinator seal at once what it has. Returns the number of the newest checkpoint."""
        self._answers()
        self._wait_at_most(RELOAD_WITHIN)
        return int(_object(self._ask(op="seal")).get("checkpoint", 0))

    def reload(self) -> int:
        """Have the coordinator take up what was signed anew. Returns the version of the manifest in force then."""
        self._answers()
        self._wait_at_most(RELOAD_WITHIN)
        return int(_object(self._ask(op="reload")).get("manifest", 0))

    def pause(self, seconds: float | None = None) -> float | None:
        """Have the node work on nothing for so many seconds, or until `resume`; what is in hand is dropped. Returns
        when the pause ends, in unix seconds; it outlives the node. Raises ConfigError on a node that captions
        nothing."""
        until = _object(self._ask(op="pause", duration=seconds)).get("until")
        return None if until is None else float(until)

    def finish(self) -> None:
        """Have the node do what is in hand, give the rest back, and stay paused until `resume`. Returns at once."""
        self._ask(op="finish")

    def resume(self) -> str:
        """End a pause. Returns what else keeps the node from working, "" for nothing."""
        return str(_object(self._ask(op="resume")).get("why", ""))

    def stop(self) -> int:
        """Tell the node to end politely. Returns its process id at once."""
        return int(_object(self._ask(op="stop")).get("pid", 0))

    def _answers(self) -> None:
        """Before what may take long: whether the node answers at all. Raises NotRunningError when it hangs."""
        self._wait_at_most(ANSWER_WITHIN)
        self.ticket()

    def _wait_at_most(self, seconds: float) -> None:
        """For the next frames. Raises NotRunningError when another thread has hung up."""
        try:
            self._socket.settimeout(seconds)
        except OSError as error:
            raise _gone() from error

    def _ask(self, **request: Any) -> bytes:
        self._request(**request)
        kind, payload = self.receive()
        if kind != frames.JSON:
            raise _nonsense()
        return payload

    def _request(self, **request: Any) -> None:
        payload = json.dumps(request).encode()
        if len(payload) > frames.MAX_REQUEST:
            raise FrameError(f"The request has more than {frames.MAX_REQUEST} bytes. Shorten it.")
        try:
            self._socket.sendall(frames.head(frames.JSON, len(payload)) + payload)
        except OSError as error:
            raise _gone() from error

    def receive(self) -> tuple[bytes, bytes]:
        """Kind and payload of the next frame. Raises the error that an error frame carries."""
        kind, size = frames.parse_head(self._exactly(frames.HEAD.size), frames.MAX_REPLY)
        payload = self._exactly(size)
        if kind == frames.ERROR:
            raise _reported(_object(payload))
        return kind, payload

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._socket.recv(min(size - len(data), 1 << 20))
            except TimeoutError as error:
                raise NotRunningError(f"The node does not answer. {remedy(self._socket)}") from error
            except OSError as error:
                raise _gone() from error
            if not part:
                raise _gone()
            data += part
        return bytes(data)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise _nonsense() from error
    if not isinstance(value, dict):
        raise _nonsense()
    return value


def _reported(record: dict[str, Any]) -> P2pcapError:
    """The error a node reports, as the class it names."""
    kind = getattr(errors, str(record.get("error")), P2pcapError)
    if not (isinstance(kind, type) and issubclass(kind, P2pcapError)) or issubclass(kind, ImageError):
        kind = P2pcapError
    return kind(str(record.get("message")))


def _gone() -> NotRunningError:
    return NotRunningError("The node ended while it was being asked. Look at its log, and start it again.")


def _nonsense() -> FrameError:
    return FrameError("The node answers in a way this program does not know. Use the same version for both.")
