"""vLLM's own server, asked through a whole engine process, and killed in the middle."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import trio
from msgspec.structs import replace

from models.shapes.pictures import DESCRIBE, PROMPTS, draw, encode
from p2pcap.engine.base import EngineSettings
from p2pcap.engine.chat import engine_class
from p2pcap.engine.device import environment
from p2pcap.engine.vllm_engine import VllmEngine
from tests.engine.hosted import MODEL, TASK

PICTURES = [draw("held-out", 77, number) for number in range(30)]
FILES = [encode(picture, "png") for picture in PICTURES]
TWO = replace(TASK, prompts=(TASK.prompts[0], TASK.prompts[2]))
BACKGROUND = PROMPTS[2]
WANTED = [(picture.answers[DESCRIBE], picture.answers[BACKGROUND]) for picture in PICTURES]


class VllmServer:
    """`python -m vllm.entrypoints.openai.api_server` on loopback; it may be killed and started again."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with socket.create_server(("127.0.0.1", 0)) as found:
            self._port: int = found.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        arguments = {
            "--model": str(MODEL), "--served-model-name": "shapes", "--host": "127.0.0.1", "--port": str(self._port),
            "--dtype": "float32", "--block-size": "32", "--max-num-seqs": "64", "--mm-processor-cache-gb": "0.25",
            "--kv-cache-memory-bytes": str(2**26),
            "--distributed-executor-backend": "vllm.v1.executor.uniproc_executor.UniProcExecutor",
            "--limit-mm-per-prompt": '{"image": 1}', "--disable-uvicorn-access-log": "", "--enforce-eager": "",
        }  # fmt: skip
        words = [word for pair in arguments.items() for word in pair if word]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env=environment(EngineSettings(threads=1), os.environ),
            )  # fmt: skip

    def kill(self) -> None:
        """All of its processes at once, and wait until they are gone."""
        family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(family, timeout=30)

    def ready_or_dead(self) -> bool:
        """Blocks until it listens, which vLLM does once its model is loaded."""
        while self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1.0).close()
            except OSError:
                threading.Event().wait(0.2)
            else:
                return True
        return False


@contextmanager
def serving(log: Path) -> Iterator[VllmServer]:
    server = VllmServer(log)
    server.start()
    try:
        assert server.ready_or_dead(), log.read_text(errors="replace")[-3_000:]
        yield server
    finally:
        server.kill()


@pytest.mark.slow
def test_a_real_server_captions_and_may_be_killed_and_started_again(tmp_path: Path) -> None:
    with serving(tmp_path / "server.log") as server:
        settings = EngineSettings(endpoints=(server.url,))
        engine = VllmEngine(tmp_path / "no model is needed", TWO, settings, tmp_path / "engine.log")
        answers: dict[int, list[tuple[str, ...]]] = {}

        async def caption(number: int, killed: trio.Event) -> None:
            sha256 = hashlib.sha256(FILES[number]).digest()
            outputs = await engine.caption(FILES[number], sha256)
            answers.setdefault(number, []).append(tuple(output.text for output in outputs))
            assert all(output.tokens > 0 and output.finish == "stop" and output.ids == () for output in outputs)
            killed.set()

        async def caption_all() -> None:
            async with trio.open_nursery() as nursery:
                first = trio.Event()
                for number in range(30):
                    nursery.start_soon(caption, number, first)
                await first.wait()
                server.kill()
                server.start()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.run)
                await engine.wait_ready()
                pid = engine.state.pid
                assert engine.state.engine_class == engine_class("shapes")
                await caption_all()
                assert (engine.state.pid, engine.state.restarts) == (pid, 0), "the engine waited for its server"
                nursery.cancel_scope.cancel()

        trio.run(main)
        assert [answers[number] for number in range(30)] == [[wanted] for wanted in WANTED]
        assert engine.state.pid == 0
