"""A whole swarm on one machine.

A coordinator signs a project over a folder of images and hands out a ticket; two volunteers join with it, each with
its own vLLM; an observer joins without. Each is a process of its own, and the images reach the volunteers over libp2p.
At the end demo-output/ holds captions.jsonl and the observer's DuckDB file.

Without arguments the images are 2,048 drawn pictures and the model is the small one shipped in models/shapes, so the
captions can be compared with the truth. On a machine with GPUs each volunteer takes one of them, or half of the only.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from demo.processes import Processes, Running
from demo.report import clean, describe, faults, read_rows, read_truth
from p2pcap.errors import ConfigError, P2pcapError
from p2pcap.node.snapshot import NodeSnapshot

HERE = Path(__file__).resolve().parent.parent
SHAPES = HERE / "models" / "shapes"
PICTURES = 2_048
SEED = 2_026
PROMPT = "Describe the image."
LOOPBACK = ("--listen", "/ip4/127.0.0.1/tcp/0")
CHUNKS = 16
"""Chunks at least, so that there is something to share out."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"})
"""Names that p2pcap takes for images."""

AGREE_WITHIN = 60.0
"""Seconds until all nodes hold the same table; who missed a piece of gossip gets it within thirty."""

TICK = 0.5
"""Seconds between two looks at the nodes."""


def main() -> int:
    """Run the demo; 0 when all of it came out as promised, 2 when what was asked for is wrong, 130 when stopped."""
    chosen = arguments(sys.argv[1:])
    code = 1
    with tempfile.TemporaryDirectory(prefix="p2pcap-demo-") as folder, Processes(Path(folder)) as processes:
        try:
            processes.interrupt.listen()
            code = _attempt(Demo(processes, Path(folder), chosen.images, chosen.model, chosen.output))
            processes.interrupt.clean_up()  # nothing below may be broken off, or nodes would be left
        except KeyboardInterrupt:
            _tell("\nstopping everything …\n")
    return 130 if processes.interrupt.arrived else code


def arguments(given: list[str]) -> argparse.Namespace:
    """What was asked for. `make demo` names images and model in the environment."""
    images, model = os.environ.get("P2PCAP_DEMO_IMAGES"), os.environ.get("P2PCAP_DEMO_MODEL")
    parser = argparse.ArgumentParser(prog="python -m demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=_path, default=images or None, help="a folder of your own photographs")
    parser.add_argument(
        "--model", type=os.path.expanduser, default=model or None, help="a model directory or a name on the Hub"
    )
    parser.add_argument("--output", type=_path, default=Path("demo-output"))
    return parser.parse_args(given)


def count_images(folder: Path) -> int:
    """About how many images a project over that folder has."""
    return sum(1 for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))


def _attempt(demo: "Demo") -> int:
    try:
        return demo.run()
    except ConfigError as error:
        _tell(f"{clean(str(error))}\n")
        return 2
    except P2pcapError as error:
        _tell(f"the demo failed: {clean(str(error))}\n")
        demo.keep_logs()
        return 1


class Demo:
    """One run. Progress goes to standard error, the report to standard output."""

    def __init__(
        self, processes: Processes, folder: Path, images: Path | None, model: str | None, output: Path
    ) -> None:
        self._processes = processes
        self._folder = folder
        self._own_images = images is not None
        self._images = images or folder / "pictures" / "images"
        self._model = model or str(SHAPES)
        self._shapes = model is None
        self._output = output
        self._line = ""

    def run(self) -> int:
        """Everything, in order. Raises ConfigError before anything is started."""
        project = self._make_project()
        if not self._own_images:
            self._draw()
        self._say(f"signing a project over {self._images}")
        self._ask("project", "sign", str(project))
        coordinator, ticket = self._serve(project)
        self._say(f"ticket: {ticket}")
        volunteers = [self._join(name, ticket, number) for number, name in enumerate(("alice", "bob"))]
        observer = self._observe(ticket)
        seconds = self._wait(coordinator, volunteers, observer)
        return self._report(observer, [coordinator, *volunteers], seconds)

    def _make_project(self) -> Path:
        """The folder of a project that is not signed yet, so that a wrong folder or model is found at once."""
        project = self._folder / "project"
        if not self._own_images:
            self._images.mkdir(parents=True)
        count = count_images(self._images) if self._own_images else PICTURES
        chunk = min(1024, max(64, count // CHUNKS))
        shapes = ("--dtype", "float32", "--max-tokens", "48") if self._shapes else ()
        given = ("--images", str(self._images), "--model", self._model, "--prompt", PROMPT, "--name", "demo")
        policy = ("--chunk", str(chunk), "--wait-for-engines", "2")
        self._ask("project", "init", str(project), *given, *policy, *shapes)
        return project

    def _draw(self) -> None:
        self._say(f"drawing {PICTURES} pictures")
        draw = [str(SHAPES / "pictures.py"), str(self._folder / "pictures")]
        numbers = ["--count", str(PICTURES), "--seed", str(SEED), "--split", "held-out"]
        subprocess.run([sys.executable, *draw, *numbers], check=True, stdout=subprocess.DEVNULL)

    def _ask(self, *arguments: str) -> None:
        """A command that looks at the user's images and model. Raises ConfigError, in its words, if they are wrong."""
        done = self._processes.attempt(*arguments)
        if done.returncode:
            said = done.stderr.strip() or f"p2pcap {' '.join(arguments[:2])} failed."
            raise (ConfigError if done.returncode == 2 else P2pcapError)(said)

    def _serve(self, project: Path) -> tuple[Running, str]:
        command = ("bootstrap", "serve", str(project), *LOOPBACK)
        coordinator = self._processes.start("coordinator", project / "node", *command, output=subprocess.PIPE)
        return coordinator, self._processes.first_line(coordinator)

    def _join(self, name: str, ticket: str, number: int) -> Running:
        directory = self._folder / name
        local = Path(self._model).is_dir() and not self._shapes
        model = ("--model", self._model) if local else ()
        share, environment = _gpu(number)
        command = ("join", ticket, "--name", name, "--node", str(directory), *LOOPBACK, *model, *share)
        return self._processes.start(name, directory, *command, **environment)

    def _observe(self, ticket: str) -> Running:
        directory = self._folder / "observer"
        return self._processes.start(
            "observer", directory, "join", ticket, "--observe", "--node", str(directory), *LOOPBACK
        )

    def _wait(self, coordinator: Running, volunteers: list[Running], observer: Running) -> float:
        """Until the observer holds every row; the seconds from the first claim to the last row."""
        self._say("two volunteers start their engines; work is released when both are ready")
        started: float | None = None
        while True:
            for running in (coordinator, *volunteers, observer):
                running.check()
            seen = observer.snapshot()
            workers = [volunteer.snapshot() for volunteer in volunteers]
            if started is None and any(worker and worker.claims for worker in workers):
                started = time.monotonic()
            self._show(seen, workers)
            if seen is not None and seen.project.finished:
                self._say("the observer holds every row")
                return time.monotonic() - (started or time.monotonic() - TICK)
            time.sleep(TICK)

    def _report(self, observer: Running, others: list[Running], seconds: float) -> int:
        alike = self._agree([observer, *others])
        self._output.mkdir(parents=True, exist_ok=True)
        captions = self._output / "captions.jsonl"
        self._processes.run("export", "jsonl", str(captions), "--proofs", "--node", str(observer.directory), "--force")
        rows = read_rows(captions)
        self._processes.run("verify", str(captions))
        for running in [observer, *others]:
            self._processes.stop(running)
        shutil.copy(observer.directory / "ledger.duckdb", self._output / "captions.duckdb")
        truth = {} if self._own_images else read_truth(self._folder / "pictures" / "truth.jsonl", PROMPT)
        print("\n".join(describe(rows, truth, seconds)))
        print(f"left in {self._output}: captions.jsonl, captions.duckdb")
        wrong = faults(rows, 0 if self._own_images else PICTURES, truth if self._shapes else {})
        wrong += [] if alike else ["the nodes hold different tables"]
        for fault in wrong:
            _tell(f"FAULT: {fault}\n")
        return 1 if wrong else 0

    def _agree(self, nodes: list[Running]) -> bool:
        """Whether all nodes come to hold the same table within AGREE_WITHIN."""
        until = time.monotonic() + AGREE_WITHIN
        while len({self._processes.run("table-hash", "--node", str(node.directory)) for node in nodes}) > 1:
            if time.monotonic() > until:
                return False
            time.sleep(TICK)
        return True

    def keep_logs(self) -> None:
        """Copies what the nodes wrote to the output folder; the folder they lie in is removed at the end."""
        logs = [*self._folder.glob("*.log"), *self._folder.glob("*/engine.log")]
        if not logs:
            return
        kept = self._output / "logs"
        kept.mkdir(parents=True, exist_ok=True)
        for log in logs:
            shutil.copy(log, kept / (log.name if log.parent == self._folder else f"{log.parent.name}-{log.name}"))
        _tell(f"the nodes' logs are in {kept}\n")

    def _show(self, seen: NodeSnapshot | None, workers: list[NodeSnapshot | None]) -> None:
        if seen is None or not sys.stderr.isatty():
            return
        project = seen.project
        states = ", ".join(f"{w.node.name} {w.engine.phase} {w.engine.rate:.0f}/s" for w in workers if w)
        line = f"{project.done}/{project.images or '?'} images, {len(seen.peers)} peers | {states}"
        self._line = line[: shutil.get_terminal_size().columns - 1]
        _tell(f"\r\x1b[2K{self._line}")

    def _say(self, text: str) -> None:
        wipe = "\r\x1b[2K" if self._line else ""
        self._line = ""
        _tell(f"{wipe}{time.strftime('%H:%M:%S')}  {clean(text)}\n")


def _gpu(number: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """Which GPU the volunteer takes: its own, or half of the only one; nothing on a machine without."""
    if shutil.which("nvidia-smi") is None:
        return (), {}
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    gpus = listed.stdout.count("GPU ") if listed.returncode == 0 else 0
    if gpus == 0:
        return (), {}
    share = ("--gpu-memory", "0.9" if gpus > 1 else "0.42")
    return share, {"CUDA_VISIBLE_DEVICES": str(number % gpus)}


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone, and whoever sat there with it
        print(text, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
