"""The demo's nodes: real commands in processes of their own, ended for certain.

Always holds: after `Processes.close` no process that was started here is alive, whatever happened in between.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from demo.interrupt import Interrupt
from p2pcap.errors import NotRunningError, P2pcapError
from p2pcap.node import snapshot
from p2pcap.node.client import Client
from p2pcap.node.snapshot import NodeSnapshot
from p2pcap.paths import running_node

STOP_WITHIN = 30.0
"""Seconds a node gets to end politely; the engine alone may take fifteen."""

COMMAND = (sys.executable, "-m", "p2pcap")


@dataclass
class Running:
    """One started node."""

    name: str
    directory: Path
    process: "subprocess.Popen[str]"
    log: Path

    def snapshot(self) -> NodeSnapshot | None:
        """What the node shows of itself; None while it does not answer."""
        node = running_node(self.directory)
        if node is None:
            return None
        try:
            with Client(node.socket) as client:
                return snapshot.decode(client.status())
        except NotRunningError:
            return None

    def check(self) -> None:
        """Raises P2pcapError with the last line of its log when it has ended."""
        if self.process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            last = lines[-1] if lines else "it said nothing"
            raise P2pcapError(f"{self.name} ended with code {self.process.returncode}: {last} Its log is {self.log}.")


class Processes:
    """The demo's processes and their environment. A context manager.

    `interrupt.listen()` makes signals end the block with KeyboardInterrupt, and a further one kill what still runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        self._runtime_before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        told = {"P2PCAP_HOME": str(folder / "home"), "P2PCAP_YES": "1", "PYTHONUNBUFFERED": "1"}
        self._environment = {**os.environ, **told}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._running: list[Running] = []
        self.interrupt = Interrupt(self.kill)

    @property
    def environment(self) -> dict[str, str]:
        """What every process here is told."""
        return dict(self._environment)

    def attempt(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a p2pcap command to its end, however it ends."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def run(self, *arguments: str) -> str:
        """Run a p2pcap command to its end; its standard output. Raises P2pcapError with what it said."""
        done = self.attempt(*arguments)
        if done.returncode:
            raise P2pcapError(f"p2pcap {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
        return done.stdout

    def start(
        self,
        name: str,
        directory: Path,
        *arguments: str,
        output: Any = None,
        prefix: Sequence[str] = (),
        **environment: str,
    ) -> Running:
        """Start a p2pcap command that keeps running, by way of `prefix` if given; what it says goes to a log."""
        log = self._folder / f"{name}.log"
        with log.open("w") as file, self.interrupt.held():
            process = subprocess.Popen(
                [*prefix, *COMMAND, *arguments],
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output or file,
                stderr=file,
                text=True,
                start_new_session=True,
            )
            running = Running(name, directory, process, log)
            self._running.append(running)
        return running

    def first_line(self, running: Running) -> str:
        """The first line that a node started with `output=PIPE` prints."""
        stream: IO[str] | None = running.process.stdout
        line = stream.readline() if stream is not None else ""
        if not line:
            running.process.wait(STOP_WITHIN)
            running.check()
        return line.strip()

    def stop(self, running: Running) -> None:
        """End one node politely, and by force when that does not help."""
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
        try:
            running.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()

    def kill(self) -> None:
        """Kill every node that still runs; its engine ends with it, because the socket between the two closes."""
        for running in self._running:
            if running.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):  # it was faster
                    os.killpg(running.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End everything, all at once and then one by one. A signal in between kills what is left."""
        self.interrupt.clean_up()
        for running in self._running:
            if running.process.poll() is None:
                running.process.send_signal(signal.SIGTERM)
        for running in self._running:
            self.stop(running)
            if running.process.stdout is not None:
                running.process.stdout.close()
        if self._runtime_before is None:
            os.environ.pop("XDG_RUNTIME_DIR", None)
        else:
            os.environ["XDG_RUNTIME_DIR"] = self._runtime_before

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
