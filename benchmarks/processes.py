"""The processes a benchmark starts: real programs, ended for certain, with their CPU time told apart.

Always holds: after a `Processes` block no process that was started in it is alive, whatever happened inside.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import psutil

from p2pcap.errors import NotRunningError, P2pcapError
from p2pcap.node import snapshot
from p2pcap.node.client import Client
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.paths import running_node

P2PCAP = (sys.executable, "-m", "p2pcap")
STOP_WITHIN = 30.0
"""Seconds a process gets to end politely."""

LOOK_EVERY = 0.25
"""Seconds between two looks at something that is awaited."""


@dataclass
class Started:
    """One started process. `log` has what it said, but for a standard output that is read with `line`."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def line(self, within: float) -> str:
        """The next line of its standard output. Raises P2pcapError when it ends, or `within` seconds pass, before."""
        stream: IO[bytes] | None = self.process.stdout
        assert stream is not None
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if select.select([stream], [], [], LOOK_EVERY)[0] and (line := stream.readline()):
                return line.decode().strip()
            self.check()
        raise P2pcapError(f"{self.name} said nothing for {within:.0f} s. Its log is {self.log}.")

    def ask(self, within: float, *told: Any) -> Any:
        """Write a line of JSON and read the one that answers it. Raises P2pcapError as `line` does."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told).encode() + b"\n")
        return json.loads(self.line(within))

    def check(self) -> None:
        """Raises P2pcapError with the last line of its log when it has ended."""
        if self.process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            last = lines[-1] if lines else "it said nothing"
            raise P2pcapError(f"{self.name} ended with code {self.process.returncode}: {last}")

    def wait_for(self, condition: Callable[[], bool], what: str, within: float, every: float = LOOK_EVERY) -> None:
        """Look at `condition` until it is true. Raises P2pcapError when the process ends, or too much time passes."""
        deadline = time.monotonic() + within
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise P2pcapError(f"{self.name}: {what} did not happen within {within:.0f} s.")
            time.sleep(every)

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far of the process ("own") and of everything below it ("below")."""
        process = psutil.Process(self.process.pid)
        below = sum(_cpu(child) for child in process.children(recursive=True))
        return {"own": _cpu(process), "below": below}


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


class NodeView:
    """Looks at the node in `directory` over one connection, which costs the node little. A context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._client: Client | None = None

    def snapshot(self) -> NodeSnapshot | None:
        """What the node shows of itself; None while it does not answer."""
        try:
            if self._client is None:
                node = running_node(self._directory)
                self._client = Client(node.socket) if node is not None else None
            return snapshot.decode(self._client.status()) if self._client is not None else None
        except NotRunningError:
            return None

    def finished(self) -> bool:
        """Whether the node holds a row for every image. Raises P2pcapError when one of them is an error."""
        seen = self.snapshot()
        if seen is not None and seen.project.errors:
            raise P2pcapError(f"{seen.project.errors} images got no caption, so the rounds cannot be compared.")
        return seen is not None and seen.project.finished

    def __enter__(self) -> "NodeView":
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()


class Processes:
    """The processes of one benchmark; their logs and sockets lie in `folder`. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        self._started: list[Started] = []

    def run(self, *command: str) -> str:
        """Run a program to its end; its standard output. Raises P2pcapError with what it said."""
        done = subprocess.run(command, env=_environment({}), capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            raise P2pcapError(f"{' '.join(command[1:5])} failed: {done.stderr.strip()}")
        return done.stdout

    def start(
        self, name: str, *command: str, environment: Mapping[str, str] | None = None, piped: bool = False
    ) -> Started:
        """Start a program that keeps running; with `piped` its standard output is read with `Started.line`."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=_environment(environment or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if piped else file,
                stderr=file,
                bufsize=0,
                start_new_session=True,
            )
        started = Started(name, process, log)
        self._started.append(started)
        return started

    def stop(self, started: Started) -> None:
        """End one process politely, by force when that does not help, and whatever is left of its group."""
        process = started.process
        if process.stdin is not None:
            process.stdin.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started and did not end
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for started in reversed(self._started):
            self.stop(started)


@contextmanager
def temporary_processes() -> Iterator[Processes]:
    """Processes in a folder that is gone afterwards."""
    with TemporaryDirectory(prefix="p2pcap-bench-") as folder, Processes(Path(folder)) as processes:
        yield processes


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's, without what would make each start of Python compile 20,000 modules again."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}
