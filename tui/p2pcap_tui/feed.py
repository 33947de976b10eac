"""What the UI knows of its node comes through here: snapshots as messages, and answers to questions.

A thread subscribes to the node's snapshots, and looks for the node again when it is gone. Questions run on a few more
threads, each over a connection of its own. Always holds: nothing here blocks the UI's loop; a question whose asker is
cancelled is hung up on, so the node breaks it off.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec
from textual.message import Message

from p2pcap.errors import FrameError, NotRunningError, P2pcapError
from p2pcap.node.client import Client
from p2pcap.node.snapshot import NodeSnapshot, decode

T = TypeVar("T")

AGAIN = 0.5
"""Seconds after which a node that is gone is looked for again."""

AT_ONCE = 4
"""Questions that are asked at one time; the next ones wait."""

NAMED = 20
"""Peers and contributors that a snapshot names; the screens that list them ask for pages."""

GONE = "The node is not running. Start it with p2pcap join; this window finds it again."
OTHER_VERSION = "The node tells of itself in a way this program does not know. Use the same version for both."


class Arrived(Message):
    """A new snapshot."""

    def __init__(self, snapshot: NodeSnapshot) -> None:
        self.snapshot = snapshot
        super().__init__()


class Gone(Message):
    """The node tells nothing any more, for the reason said. `silent`: it is there, and hangs."""

    def __init__(self, reason: str, *, silent: bool = False) -> None:
        self.reason = reason
        self.silent = silent
        super().__init__()


class Found(NamedTuple):
    """A query's rows as plain values; `truncated`: there are more."""

    columns: list[str]
    rows: list[list[object]]
    truncated: bool


class Feed(Protocol):
    """Where screens get what they show."""

    def start(self, post: Callable[[Message], object]) -> None:
        """Begin to post Arrived and Gone."""

    def stop(self) -> None:
        """End; hang up on everything."""

    async def ask(self, question: Callable[[Client], T]) -> T:
        """What `question` returns when it is called with a connection, on a thread. Raises P2pcapError, also for an
        answer that it decodes in vain."""

    async def select(self, sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        """The first `rows` rows of a SELECT over the node's tables (docs/sql.md). Raises QueryError, NotRunningError"""


class SocketFeed:
    """The feed of a node that `find` finds the control socket of; None: it does not run."""

    def __init__(self, find: Callable[[], Path | None]) -> None:
        self._find = find
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ask")
        self._lock = threading.Lock()
        self._open: set[Client] = set()
        self._thread: threading.Thread | None = None

    def start(self, post: Callable[[Message], object]) -> None:
        """As in Feed."""
        self._thread = threading.Thread(target=self._watch, args=(post,), name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """As in Feed."""
        self._stopped.set()
        with self._lock:
            for client in self._open:
                client.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Callable[[Client], T]) -> T:
        """As in Feed."""
        call = _Call(self, question)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call.run)
        except asyncio.CancelledError:
            call.hang_up()
            raise

    async def select(self, sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        """As in Feed."""
        return await self.ask(lambda client: found(client, sql, rows, seconds))

    def connect(self) -> Client:
        """A connection that `stop` closes. Raises NotRunningError."""
        path = self._find()
        if path is None or self._stopped.is_set():
            raise NotRunningError(GONE)
        client = Client(path)
        with self._lock:
            self._open.add(client)
        return client

    def disconnect(self, client: Client) -> None:
        """Hang up."""
        with self._lock:
            self._open.discard(client)
        client.close()

    def _watch(self, post: Callable[[Message], object]) -> None:
        while not self._stopped.is_set():
            gone = self._follow(post)
            if not self._stopped.is_set():
                post(gone)
                self._stopped.wait(AGAIN)

    def _follow(self, post: Callable[[Message], object]) -> Gone:
        """Post snapshots until there are no more; returns why."""
        try:
            client = self.connect()
        except P2pcapError as error:
            return Gone(str(error))
        try:
            for data in client.subscribe(NAMED):
                post(Arrived(decode(data)))
        except P2pcapError as error:
            return Gone(str(error), silent=isinstance(error.__cause__, TimeoutError))
        except msgspec.MsgspecError:
            return Gone(OTHER_VERSION)
        finally:
            self.disconnect(client)
        return Gone(GONE)


class _Call(Generic[T]):
    """One question, which its asker may give up."""

    def __init__(self, feed: SocketFeed, question: Callable[[Client], T]) -> None:
        self._feed = feed
        self._question = question
        self._client: Client | None = None
        self._given_up = False

    def run(self) -> T:
        """On a thread: connect, ask, hang up."""
        client = self._client = self._feed.connect()
        try:
            if self._given_up:
                raise NotRunningError(GONE)
            return self._question(client)
        except msgspec.MsgspecError as error:
            raise FrameError(OTHER_VERSION) from error
        finally:
            self._feed.disconnect(client)

    def hang_up(self) -> None:
        """From the loop: the answer is not wanted any more."""
        self._given_up = True
        if self._client is not None:
            self._client.close()


def found(client: Client, sql: str, rows: int, seconds: float) -> Found:
    """A query's rows over `client`. Arrow is imported here: on a thread, when somebody asks."""
    from p2pcap.cli.rows import Streamed
    from p2pcap.cli.values import plain

    stream = Streamed(client.query(sql, rows, seconds))
    values = list(plain(stream))
    return Found(list(stream.schema.names), values, stream.truncated)
