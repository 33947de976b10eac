"""The control socket, both ends, over real Unix sockets."""

import hashlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
import pytest
import trio

from p2pcap.errors import ConfigError, FrameError, NotRunningError, P2pcapError, QueryError, SourceError, StoreError
from p2pcap.node import chunk_map, connection, control, frames, manifest_info
from p2pcap.node import client as client_module
from p2pcap.node.client import Client
from p2pcap.node.control import serve_control
from p2pcap.node.metrics import exposition
from p2pcap.node.snapshot import ContributorPage, decode, encode
from p2pcap.paths import NodePaths, own_runtime_directory, running_node, running_nodes
from p2pcap.store import canonical
from tests.unit.control_node import (
    CHUNK_MAP,
    SNAPSHOT,
    ControlledNode,
    controlled,
    path_of,
    readers_gone,
    readers_there,
    runtime,
    with_node,
)
from tests.unit.store_project import ADA, sample

__all__ = ["runtime"]

T = TypeVar("T")
pytestmark = pytest.mark.usefixtures("runtime")

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000) b"
MUCH = "SELECT repeat('x', 1000) FROM range(10000000)"


async def ask(directory: Path, question: Callable[[Client], T]) -> T:
    """The answer to a blocking client, asked on a thread of its own."""

    def work() -> T:
        with Client(path_of(directory)) as client:
            return question(client)

    return await trio.to_thread.run_sync(work)


def read_query(
    client: Client, sql: str, rows: int = 1000, seconds: float = 20
) -> tuple[list[object], dict[str, object]]:
    reply = client.query(sql, rows, seconds)
    data = b"".join(reply)
    return pa.ipc.open_stream(data).read_all().to_pylist(), reply.end


def test_a_snapshot_survives_the_way(tmp_path: Path) -> None:
    async def use(node: ControlledNode) -> None:
        assert decode(await ask(tmp_path, Client.status)) == SNAPSHOT

    assert decode(encode(SNAPSHOT)) == SNAPSHOT
    assert SNAPSHOT.uptime == 90.0
    with_node(tmp_path, use)


def test_a_subscriber_and_a_page_name_as_many_as_were_asked_for(tmp_path: Path) -> None:
    def questions(client: Client) -> None:
        page = msgspec.json.decode(client.page("contributors", most=1), type=ContributorPage)
        assert (page.total, page.matching, len(page.rows)) == (2, 2, 1)
        with pytest.raises(ConfigError, match="not sorted"):
            client.page("peers", sort="nonsense")
        found = decode(next(client.subscribe(most=1)))
        assert (len(found.peers), len(found.contributors)) == (1, 1)

    async def use(node: ControlledNode) -> None:
        await ask(tmp_path, questions)

    with_node(tmp_path, use)


def test_whoever_waits_for_an_answer_is_told_when_another_thread_hangs_up(tmp_path: Path) -> None:
    def questions(client: Client) -> None:
        hanging_up = threading.Timer(0.2, client.close)
        hanging_up.start()
        with pytest.raises(NotRunningError):
            read_query(client, ENDLESS, seconds=60)
        hanging_up.join()

    async def use(node: ControlledNode) -> None:
        await ask(tmp_path, questions)

    with_node(tmp_path, use)


LISTENS = """
import os, signal, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.kill(os.getpid(), signal.SIGSTOP)
signal.pause()
"""
"""A program that answers nothing: stopped at first, then let go on."""


@pytest.mark.parametrize("stopped", [True, False])
def test_a_node_that_hangs_is_found_out_before_a_long_wait_and_its_process_named(
    stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "ANSWER_WITHIN", 0.1)
    hanging = subprocess.Popen([sys.executable, "-c", LISTENS, str(tmp_path / "socket")])
    os.waitpid(hanging.pid, os.WUNTRACED)
    if not stopped:
        hanging.send_signal(signal.SIGCONT)
        os.waitpid(hanging.pid, os.WCONTINUED)
    wanted = f"kill -{'CONT' if stopped else '9'} {hanging.pid}"
    for question in (Client.status, Client.table_hash, Client.seal, Client.reload, read_endless):
        with Client(tmp_path / "socket") as client, pytest.raises(NotRunningError, match=f"does not answer.*{wanted}"):
            question(client)
    hanging.kill()
    hanging.wait()


def read_endless(client: Client) -> object:
    return read_query(client, ENDLESS, seconds=600)


def test_several_questions_on_one_connection(tmp_path: Path) -> None:
    def questions(client: Client) -> None:
        assert client.ticket() == "p2pcap:abc"
        assert client.metrics() == exposition(SNAPSHOT)
        assert len(client.table_hash()) == 64
        rows, end = read_query(client, "SELECT author_name, rows FROM contributors ORDER BY rows")
        assert rows == [{"author_name": "", "rows": 2}, {"author_name": "Ada", "rows": 64}]
        assert end == {"rows": 2, "truncated": False}
        assert read_query(client, "FROM range(10)", rows=3)[1] == {"rows": 3, "truncated": True}
        with pytest.raises(QueryError, match="nope"):
            read_query(client, "SELECT nope FROM captions")
        with pytest.raises(QueryError, match="SELECT"):
            read_query(client, "DELETE FROM candidate")
        assert decode(client.status()) == SNAPSHOT

    async def use(node: ControlledNode) -> None:
        await ask(tmp_path, questions)

    with_node(tmp_path, use)


def test_a_large_result_comes_in_parts(tmp_path: Path) -> None:
    def question(client: Client) -> tuple[int, int]:
        parts = list(client.query("SELECT repeat('x', 1000) AS text FROM range(20_000)", 100_000, 30))
        assert max(map(len, parts)) <= frames.PART
        return pa.ipc.open_stream(b"".join(parts)).read_all().num_rows, len(parts)

    async def use(node: ControlledNode) -> None:
        rows, parts = await ask(tmp_path, question)
        assert rows == 20_000
        assert parts > 10

    with_node(tmp_path, use)


def test_an_export_is_the_tables_runs(tmp_path: Path) -> None:
    def question(client: Client) -> list[canonical.Run]:
        reply = client.export()
        found = [msgspec.msgpack.decode(part, type=canonical.Run) for part in reply]
        assert reply.end == {"runs": len(found)}
        return found

    async def use(node: ControlledNode) -> None:
        with node.store.readers.lend() as cursor:
            expected = list(canonical.runs(cursor))
        assert await ask(tmp_path, question) == expected

    with_node(tmp_path, use)


def test_the_map_of_chunks_and_the_manifest_survive_the_way(tmp_path: Path) -> None:
    async def use(node: ControlledNode) -> None:
        assert chunk_map.decode(await ask(tmp_path, Client.chunk_map)) == CHUNK_MAP
        found = manifest_info.decode(await ask(tmp_path, Client.manifest))
        assert found == node.manifest()
        assert (found.id, found.title, found.stages[0].prompts[1].name) == (node.manifest().id, "Shapes", "objects")

    with_node(tmp_path, use)


def test_an_image_comes_in_parts_and_one_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    large = os.urandom(3 * frames.PART + 1)
    hash_ = hashlib.sha256(large).digest()

    def question(client: Client) -> None:
        assert client.image(0, 5, hash_.hex()) == large
        with pytest.raises(SourceError, match="not on this machine"):
            client.image(0, 5, "00" * 32)
        with pytest.raises(ConfigError, match="does not understand"):
            client.image(0, -1, hash_.hex())
        with pytest.raises(ConfigError, match="does not understand"):
            client.image(0, 1, "../../etc/passwd")
        assert decode(client.status()) == SNAPSHOT

    async def use(node: ControlledNode) -> None:
        node.images[hash_] = large
        await ask(tmp_path, question)

    with_node(tmp_path, use)


def test_a_subscription_goes_on_until_the_node_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SUBSCRIPTION_PERIOD", 0.01)

    def follow(path: Path, enough: trio.Event) -> None:
        with Client(path) as client:
            for count, data in enumerate(client.subscribe(), start=1):
                assert decode(data) == SNAPSHOT
                if count == 3:
                    trio.from_thread.run_sync(enough.set)

    async def run() -> None:
        enough = trio.Event()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:  # waits for `follow`, which the node's end has to end
                async with controlled(tmp_path):
                    nursery.start_soon(trio.to_thread.run_sync, follow, path_of(tmp_path), enough)
                    await enough.wait()

    trio.run(run)


def test_stop_answers_first_and_ends_the_node_after(tmp_path: Path) -> None:
    async def use(node: ControlledNode) -> None:
        assert await ask(tmp_path, Client.stop) == os.getpid()
        await node.stopped.wait()

    with_node(tmp_path, use)


def test_the_socket_is_for_its_owner_alone_and_gone_at_the_end(tmp_path: Path, runtime: Path) -> None:
    def look() -> None:
        path = path_of(tmp_path)
        assert path.parent == runtime
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
        (listed,) = running_nodes()
        assert (listed.directory, listed.pid) == (tmp_path.resolve(), os.getpid())
        assert (listed.project, listed.role, listed.name) == ("Shapes", "volunteer", "attic")

    async def use(node: ControlledNode) -> None:
        await trio.to_thread.run_sync(look)

    with_node(tmp_path, use)
    assert list(runtime.iterdir()) == []
    assert running_nodes() == []


def test_a_second_node_in_one_folder_is_told_who_is_there(tmp_path: Path) -> None:
    async def use(node: ControlledNode) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        for spelling in (tmp_path, tmp_path / "link", tmp_path / "link" / ".." / tmp_path.name):
            with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
                await serve_control(node, NodePaths(spelling))
        assert decode(await ask(tmp_path, Client.status)) == SNAPSHOT  # and the first one is unharmed

    with_node(tmp_path, use)


def test_the_socket_of_a_killed_node_is_replaced(tmp_path: Path, runtime: Path) -> None:
    code = f"""
import os, signal, trio
from pathlib import Path
from tests.unit.control_node import controlled
async def main():
    async with controlled(Path({str(tmp_path)!r})):
        os.kill(os.getpid(), signal.SIGKILL)
trio.run(main)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(runtime.iterdir())) == 2  # its socket and its record
    assert running_nodes() == []

    async def use(node: ControlledNode) -> None:
        assert running_node(tmp_path) is not None

    with_node(tmp_path, use)
    assert list(runtime.iterdir()) == []


def test_nobody_answers_for_a_node_that_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        Client(tmp_path / "no.sock")


def raw(directory: Path, data: bytes) -> bytes:
    """Everything the node answers to these bytes, until it hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(path_of(directory)))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while part := sock.recv(65_536):
            answer += part
        return bytes(answer)


def framed(payload: bytes, kind: bytes = b"J") -> bytes:
    return struct.pack(">Ic", len(payload), kind) + payload


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">Ic", 0xFFFFFFFF, b"J"),
        struct.pack(">Ic", frames.MAX_REQUEST + 1, b"J"),
        framed(b"{}", b"A"),
        framed(b"{}", b"?"),
        struct.pack(">Ic", 100, b"J") + b"short",
    ],
)
def test_bytes_that_are_no_frame_end_the_connection_only(tmp_path: Path, data: bytes) -> None:
    async def use(node: ControlledNode) -> None:
        assert await trio.to_thread.run_sync(raw, tmp_path, data) == b""
        assert decode(await ask(tmp_path, Client.status)) == SNAPSHOT

    with_node(tmp_path, use)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[1]",
        b"not json",
        b"{}",
        b'{"op": "explode"}',
        b'{"op": "status", "extra": 1}',
        b'{"op": "query", "sql": 5}',
        b'{"op": "query", "sql": "SELECT 1", "rows": 0}',
        b'{"op": "query", "sql": "SELECT 1", "seconds": 1e9}',
        b"[" * 100_000,
    ],
)
def test_a_request_that_makes_no_sense_gets_an_error(tmp_path: Path, payload: bytes) -> None:
    async def use(node: ControlledNode) -> None:
        answer = await trio.to_thread.run_sync(raw, tmp_path, framed(payload))
        size, kind = struct.unpack(">Ic", answer[:5])
        error = json.loads(answer[5 : 5 + size])
        assert (kind, error["error"]) == (b"E", "ConfigError")
        assert decode(await ask(tmp_path, Client.status)) == SNAPSHOT

    with_node(tmp_path, use)


def test_a_defect_in_an_answer_leaves_the_node_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(node: ControlledNode) -> None:
        monkeypatch.setattr(node, "ticket", lambda: 1 // 0)
        with pytest.raises(P2pcapError, match="log"):
            await ask(tmp_path, Client.ticket)
        assert decode(await ask(tmp_path, Client.status)) == SNAPSHOT

    with_node(tmp_path, use)


def test_a_client_that_does_not_read_stalls_nobody(tmp_path: Path) -> None:
    project = sample()

    async def use(node: ControlledNode) -> None:
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(path_of(tmp_path)))
            request = {"op": "query", "sql": MUCH, "rows": 10_000_000, "seconds": 600}
            slow.sendall(framed(json.dumps(request).encode()))
            await trio.to_thread.run_sync(slow.recv, 1)  # the query runs, and its result is waiting
            assert decode(await ask(tmp_path, Client.status)) == SNAPSHOT
            await node.store.commit(project.slice(ADA, 1, 10, 20))
            rows, _ = await ask(tmp_path, lambda client: read_query(client, "SELECT count(*) AS n FROM captions"))
            assert rows == [{"n": 86}]
        await readers_gone(node)

    with_node(tmp_path, use)


def test_a_client_that_does_not_read_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_WITHIN", 0.2)

    async def use(node: ControlledNode) -> None:
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(path_of(tmp_path)))
            request = {"op": "query", "sql": MUCH, "rows": 10_000_000, "seconds": 600}
            slow.sendall(framed(json.dumps(request).encode()))
            await trio.to_thread.run_sync(slow.recv, 1)  # the query runs, and its result is waiting
            await readers_gone(node)

    with_node(tmp_path, use)


def test_a_client_that_hangs_up_ends_its_query(tmp_path: Path) -> None:
    async def use(node: ControlledNode) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path_of(tmp_path)))
            request = {"op": "query", "sql": ENDLESS, "rows": 1, "seconds": 600}
            sock.sendall(framed(json.dumps(request).encode()))
            await readers_there(node)
        await readers_gone(node)

    with_node(tmp_path, use)


def test_the_node_ends_while_clients_wait(tmp_path: Path) -> None:
    """Closing takes no longer because somebody asked for much."""
    failed: list[P2pcapError] = []

    def question(path: Path) -> None:
        try:
            with Client(path) as client:
                read_query(client, ENDLESS, seconds=600)
        except (NotRunningError, QueryError, StoreError) as error:
            failed.append(error)

    async def run() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                async with controlled(tmp_path) as node:
                    nursery.start_soon(trio.to_thread.run_sync, question, path_of(tmp_path))
                    await readers_there(node)
        assert len(failed) == 1

    trio.run(run)


def test_too_many_clients_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 2)

    def crowd(path: Path) -> None:
        with Client(path) as one, Client(path) as two:
            assert decode(one.status()) == decode(two.status()) == SNAPSHOT
            with Client(path) as three, pytest.raises(P2pcapError, match="too many"):
                three.status()

    async def use(node: ControlledNode) -> None:
        # not `path_of`, which connects to see whether a node is there and may still count as a client
        path = own_runtime_directory() / f"{NodePaths(tmp_path).socket_name}.sock"
        await trio.to_thread.run_sync(crowd, path)

    with_node(tmp_path, use)


def test_errors_of_the_node_are_raised_as_what_they_are() -> None:
    assert isinstance(client_module._reported({"error": "QueryError", "message": "x"}), QueryError)
    for name in ("ImageError", "Sequence", "P2pcapError", "os", None, 5):
        error = client_module._reported({"error": name, "message": "x"})
        assert type(error) is P2pcapError
        assert str(error) == "x"


@pytest.mark.parametrize("answer", [b"", b"\x00\x00\x00\x05J{", framed(b"[]"), framed(b"nonsense"), framed(b"x", b"Z")])
def test_a_node_that_talks_nonsense_is_an_error(tmp_path: Path, runtime: Path, answer: bytes) -> None:
    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        runtime.parent.mkdir(exist_ok=True)
        listener.bind(str(runtime.parent / "x.sock"))
        listener.listen()

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, serve)
                await trio.to_thread.run_sync(question)

        def question() -> None:
            with Client(runtime.parent / "x.sock") as client, pytest.raises((FrameError, NotRunningError)):
                client.ticket()

        trio.run(run)


def test_a_pause_is_passed_on_and_its_length_bounded(tmp_path: Path) -> None:
    def questions(client: Client) -> None:
        assert client.pause() is None
        assert client.pause(60.0) == SNAPSHOT.published - 30
        assert client.resume() == "it is night"
        client.finish()
        for wrong in (0.0, -1.0, client_module.LONGEST_PAUSE + 1):
            with pytest.raises(ConfigError, match="duration"):
                client.pause(wrong)

    async def use(node: ControlledNode) -> None:
        await ask(tmp_path, questions)
        assert node.said == [("pause", None), ("pause", 60.0), ("resume", None), ("finish", None)]

    with_node(tmp_path, use)


def test_frames_are_made_ahead_of_a_slow_client_but_not_all_of_them() -> None:
    made: list[int] = []

    def twenty() -> Generator[tuple[bytes, bytes]]:
        for number in range(20):
            made.append(number)
            yield frames.ARROW, bytes([number]) * frames.PART

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with theirs, theirs.makefile("rb") as taken, trio.fail_after(60):
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            answering = connection.Connection(stream)
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(answering.send_made, twenty, trio.CapacityLimiter(1))
                for number in range(20):
                    _, size = frames.parse_head(await trio.to_thread.run_sync(taken.read, frames.HEAD.size), 2**30)
                    assert await trio.to_thread.run_sync(taken.read, size) == bytes([number]) * frames.PART
                    assert len(made) <= number + 1 + connection.AHEAD + 3, "one sent, one handed over, one made"

    trio.run(run)


def test_what_breaks_while_frames_are_made_is_raised_as_it_is() -> None:
    def broken() -> Generator[tuple[bytes, bytes]]:
        yield frames.ARROW, b"x"
        raise QueryError("no more")

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with theirs, trio.fail_after(60):
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            answering = connection.Connection(stream)
            async with stream:
                with pytest.raises(QueryError, match="no more"):
                    await answering.send_made(broken, trio.CapacityLimiter(1))
                theirs.close()
                with pytest.raises(trio.BrokenResourceError):
                    await answering.send_made(broken, trio.CapacityLimiter(1))

    trio.run(run)
