"""The feed against a real control socket: snapshots, answers, a node that goes and comes back."""

import asyncio
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from textual.message import Message

from p2pcap.errors import FrameError, NotRunningError, QueryError
from p2pcap.node import client
from p2pcap.node.client import Client
from p2pcap.paths import running_node
from p2pcap_tui.feed import GONE, NAMED, Arrived, Gone, SocketFeed
from tests.unit.control_node import SNAPSHOT, running, runtime

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime")

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000) b"
WITHIN = 60.0


@contextmanager
def feed_of(directory: Path) -> Iterator[tuple[SocketFeed, "queue.SimpleQueue[Message]"]]:
    """A feed, and what it posts."""

    def find() -> Path | None:
        node = running_node(directory)
        return node.socket if node else None

    posted: queue.SimpleQueue[Message] = queue.SimpleQueue()
    feed = SocketFeed(find)
    feed.start(posted.put)
    try:
        yield feed, posted
    finally:
        feed.stop()


def next_of(posted: "queue.SimpleQueue[Message]", kind: type[Message]) -> Message:
    while not isinstance(message := posted.get(timeout=WITHIN), kind):
        pass
    return message


def test_a_node_is_found_lost_and_found_again(tmp_path: Path) -> None:
    with feed_of(tmp_path) as (_, posted):
        gone = next_of(posted, Gone)
        assert isinstance(gone, Gone)
        assert gone.reason == GONE
        for _ in range(2):
            with running(tmp_path):
                arrived = next_of(posted, Arrived)
                assert isinstance(arrived, Arrived)
                assert arrived.snapshot.node == SNAPSHOT.node
                assert len(arrived.snapshot.peers) <= NAMED
            next_of(posted, Gone)


def test_a_node_that_hangs_is_not_said_to_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_WITHIN", 0.1)
    posted: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "sock"))
        hung.listen()
        feed = SocketFeed(lambda: tmp_path / "sock")
        feed.start(posted.put)
        gone = next_of(posted, Gone)
        feed.stop()
    assert isinstance(gone, Gone)
    assert (gone.reason.split(".")[0], gone.silent) == ("The node does not answer", True)


def test_rows_are_asked_for_on_a_thread(tmp_path: Path) -> None:
    async def questions(feed: SocketFeed) -> None:
        found = await feed.select("SELECT author_name, rows FROM contributors ORDER BY rows", rows=1)
        assert (found.columns, found.rows, found.truncated) == (["author_name", "rows"], [["", 2]], True)
        threads = await feed.ask(lambda client: threading.current_thread() is threading.main_thread())
        assert threads is False
        with pytest.raises(QueryError):
            await feed.select("SELECT nonsense FROM captions")
        with pytest.raises(FrameError, match="same version"):
            await feed.ask(lambda client: msgspec.json.decode(client.status(), type=list[int]))

    with running(tmp_path), feed_of(tmp_path) as (feed, _):
        asyncio.run(questions(feed))
    with feed_of(tmp_path) as (feed, _), pytest.raises(NotRunningError):
        asyncio.run(feed.ask(Client.status))


def test_a_question_that_is_given_up_is_hung_up_on(tmp_path: Path) -> None:
    ended: queue.SimpleQueue[type[BaseException]] = queue.SimpleQueue()

    def question(client: Client) -> None:
        begun.set()
        try:
            list(client.query(ENDLESS, 1, 600))
        except NotRunningError:
            ended.put(NotRunningError)

    async def give_up(feed: SocketFeed) -> None:
        task = asyncio.create_task(feed.ask(question))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun = threading.Event()
    with running(tmp_path), feed_of(tmp_path) as (feed, _):
        asyncio.run(give_up(feed))
        assert ended.get(timeout=WITHIN) is NotRunningError


def test_stopping_ends_the_thread(tmp_path: Path) -> None:
    with running(tmp_path):
        with feed_of(tmp_path) as (feed, posted):
            next_of(posted, Arrived)
        assert feed._thread is not None
        feed._thread.join(WITHIN)
        assert not feed._thread.is_alive()
