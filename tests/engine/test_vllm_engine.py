"""The engine with real vLLM behind it: what it answers, what it refuses, and how it dies."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing

from models.shapes.pictures import DESCRIBE, draw, encode
from p2pcap.engine.base import EngineSettings, EngineState
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError
from p2pcap.project.task import Sampling, Task
from tests.engine.hosted import MODEL, TASK, HostedEngine

GOOD = encode(draw("held-out", 21, 0), "jpg")
LONGEST = 280.0


def sha256(file: bytes) -> bytes:
    return hashlib.sha256(file).digest()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "code"),
    [(b"", "empty"), (GOOD[: len(GOOD) // 2], "truncated"), (b"no image" * 1000, "not-image")],
    ids=["empty", "truncated", "garbage"],
)
def test_a_faulty_image_fails_alone(hosted: HostedEngine, file: bytes, code: str) -> None:
    async def ask(engine: VllmEngine) -> tuple[str, int]:
        failed = []

        async def faulty() -> None:
            with pytest.raises(ImageError) as fault:
                await engine.caption(file, sha256(file))
            failed.append(fault.value.code)

        async def good() -> None:
            assert all(output.text for output in await engine.caption(GOOD, sha256(GOOD)))

        async with trio.open_nursery() as nursery:
            for ask in (good, faulty, good, faulty, good):
                nursery.start_soon(ask)
        return failed[0], engine.state.pid

    assert hosted.run(ask) == (code, hosted.engine.state.pid)


@pytest.mark.slow
def test_more_calls_than_there_are_places_wait_their_turn(hosted: HostedEngine) -> None:
    async def ask(engine: VllmEngine) -> EngineState:
        async with trio.open_nursery() as nursery:
            for _ in range(engine.capacity + 30):
                nursery.start_soon(engine.caption, GOOD, sha256(GOOD))
            await trio.testing.wait_all_tasks_blocked()
            return engine.state

    state = hosted.run(ask)
    assert state.running == hosted.engine.capacity
    assert 0 < state.waiting <= 30, "a quick engine may have answered some before the last one asked"


@pytest.mark.slow
def test_cancelled_calls_free_their_places_at_once(hosted: HostedEngine) -> None:
    async def ask(engine: VllmEngine) -> EngineState:
        async with trio.open_nursery() as nursery:
            for _ in range(engine.capacity + 30):
                nursery.start_soon(engine.caption, GOOD, sha256(GOOD))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        state = engine.state
        await engine.caption(GOOD, sha256(GOOD))
        return state

    state = hosted.run(ask)
    assert (state.phase, state.running, state.waiting) == ("ready", 0, 0)


@pytest.mark.slow
def test_the_state_tells_what_runs(hosted: HostedEngine) -> None:
    state = hosted.engine.state
    assert state.phase == "ready"
    assert state.version.startswith("0.")
    assert state.device.startswith(("cpu ", "cuda "))
    assert len(state.engine_class) == 8
    assert psutil.Process(state.pid).is_running()
    assert [seen.phase for seen in hosted.states if seen.detail] == ["starting", "starting", "loading", "loading"]


class Witness:
    """Remembers an engine's processes, shared memory and files, to find out whether anything of them is left."""

    def __init__(self) -> None:
        self.processes: list[psutil.Process] = []
        self.memories: set[Path] = set()
        self.directories: set[Path] = set()

    def look(self, pid: int) -> None:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        maps = [Path(mapped.path) for process in family for mapped in process.memory_maps()]
        self.processes += family
        self.directories.add(Path(family[0].environ()["TMPDIR"]))
        self.memories |= {path for path in maps if path.is_relative_to("/dev/shm")}

    def assert_nothing_left(self, seconds: float) -> None:
        assert self.processes
        _, alive = psutil.wait_procs(self.processes, timeout=seconds)
        assert alive == []
        assert [path for path in self.memories | self.directories if path.exists()] == []


def first(pid: int) -> psutil.Process:
    return psutil.Process(pid)


def worker(pid: int) -> psutil.Process:
    (found,) = (process for process in psutil.Process(pid).children(recursive=True) if "Worker" in process.name())
    return found


@pytest.mark.slow
def test_a_killed_engine_is_noticed_restarted_and_captions_again(tmp_path: Path) -> None:
    witness, second_end = Witness(), trio.Event()
    ends: list[str] = []

    def changed(state: EngineState) -> None:
        if "Next start" in state.detail:
            ends.append(state.detail)
        if len(ends) == 2:
            second_end.set()

    engine = VllmEngine(MODEL, TASK, EngineSettings(threads=1), tmp_path / "engine.log", changed)

    async def forever() -> None:
        while True:
            await engine.caption(GOOD, sha256(GOOD))

    async def dies(started: trio.Event) -> None:
        started.set()
        with pytest.raises(EngineDied):
            await forever()

    async def kill(victim: Callable[[int], psutil.Process]) -> None:
        await engine.wait_ready()
        outputs = await engine.caption(GOOD, sha256(GOOD))
        assert outputs[0].text == draw("held-out", 21, 0).answers[DESCRIBE]
        witness.look(engine.state.pid)
        async with trio.open_nursery() as callers:
            started = trio.Event()
            callers.start_soon(dies, started)
            await started.wait()
            victim(engine.state.pid).kill()
        with pytest.raises(EngineDied):
            await engine.caption(GOOD, sha256(GOOD))

    async def main() -> None:
        with trio.fail_after(LONGEST):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.run)
                await kill(first)
                await kill(worker)
                await second_end.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    witness.assert_nothing_left(seconds=0)
    assert len(witness.memories) >= 4
    assert len(witness.directories) == 2
    assert ends[0] == "The engine's process was killed by SIGKILL. Next start in 1 s."
    assert ends[1].startswith("vLLM's own processes ended")
    assert (engine.state.phase, engine.state.restarts) == ("stopped", 2)


@pytest.mark.slow
def test_the_task_decides_how_an_answer_is_made_and_an_empty_one_is_a_fault(tmp_path: Path) -> None:
    """Stop at "a ": of a pair ("a small red ...") nothing is left, of a group ("three red ... on a") the beginning.

    All are asked at once, so that vLLM reads some prompts in two steps: with seeds, that would kill it on a CPU.
    """
    task = Task(
        model=TASK.model,
        prompts=TASK.prompts[:1],
        sampling=Sampling(max_tokens=48, temperature=1_000, top_p=900, repetition_penalty=1_010, stop=("a ",)),
        dtype="float32",
        system="You look at one picture of drawn shapes and answer the question about it in a few plain words.",
        image_edge=64,
        max_model_len=256,
    )
    engine = VllmEngine(MODEL, task, EngineSettings(threads=1), tmp_path / "engine.log")
    pictures = [draw("held-out", 31, number) for number in range(75)]
    truths = [picture.answers[DESCRIBE] for picture in pictures]
    told: dict[int, str] = {}

    async def ask(number: int) -> None:
        file = encode(pictures[number], "jpg")
        try:
            (output,) = await engine.caption(file, sha256(file))
            told[number] = output.text
        except ImageError as fault:
            told[number] = fault.code

    async def main() -> None:
        with trio.fail_after(LONGEST):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.run)
                await engine.wait_ready()
                async with trio.open_nursery() as callers:
                    for number in range(len(pictures)):
                        callers.start_soon(ask, number)
                nursery.cancel_scope.cancel()

    trio.run(main)
    wanted = [truth.partition("a ")[0].strip() or "empty-output" for truth in truths]
    assert {"empty-output"} < set(wanted)
    right = sum(told[number] == text for number, text in enumerate(wanted))
    assert right >= 0.9 * len(wanted), [(told[n], text) for n, text in enumerate(wanted) if told[n] != text]


NODE = """
import sys, trio
from pathlib import Path
from p2pcap.codec import decode
from p2pcap.engine.base import EngineSettings
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.project.task import Task

def told(state):
    print(state.phase, state.pid, state.detail, flush=True)

task = decode(bytes.fromhex(sys.argv[2]), Task)
trio.run(VllmEngine(Path(sys.argv[1]), task, EngineSettings(threads=1), Path(sys.argv[3]), told).run)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["loading the model", "ready"])
def test_a_killed_node_leaves_no_process_behind(tmp_path: Path, when: str) -> None:
    from p2pcap.codec import encode as encode_record

    arguments = [str(MODEL), encode_record(TASK).hex(), str(tmp_path / "engine.log")]
    node = subprocess.Popen([sys.executable, "-c", NODE, *arguments], stdout=subprocess.PIPE, text=True)
    witness = Witness()
    with node:
        assert node.stdout is not None
        witness.look(next(int(line.split()[1]) for line in node.stdout if when in line))
        node.kill()
    witness.assert_nothing_left(seconds=20)


async def fails(model: Path, log: Path) -> BaseException:
    engine = VllmEngine(model, TASK, EngineSettings(threads=1), log)
    waited: list[BaseException] = []

    async def wait() -> None:
        with pytest.raises((ModelError, EngineStartError)) as error:
            await engine.wait_ready()
        waited.append(error.value)

    with trio.fail_after(LONGEST):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            with pytest.raises((ModelError, EngineStartError)) as error:
                await engine.run()
    assert str(waited[0]) == str(error.value) == engine.state.detail
    assert (engine.state.phase, engine.state.restarts, engine.state.pid) == ("failed", 0, 0)
    assert "\n" not in str(error.value)
    return error.value


def copy_of_model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def test_a_path_that_is_no_model_is_refused_before_a_process_starts(tmp_path: Path) -> None:
    error = trio.run(fails, tmp_path / "nowhere", tmp_path / "engine.log")
    assert isinstance(error, ModelError)
    assert not (tmp_path / "engine.log").exists()


@pytest.mark.slow
def test_an_architecture_that_vllm_does_not_know_is_refused_once(tmp_path: Path) -> None:
    model = copy_of_model(tmp_path)
    config = (model / "config.json").read_text()
    (model / "config.json").write_text(config.replace("Idefics3ForConditionalGeneration", "NoSuchModel"))
    error = trio.run(fails, model, tmp_path / "engine.log")
    assert isinstance(error, ModelError)
    assert "NoSuchModel" in str(error)


@pytest.mark.slow
def test_damaged_weights_are_named_as_the_cause(tmp_path: Path) -> None:
    model = copy_of_model(tmp_path)
    weights = model / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    error = trio.run(fails, model, tmp_path / "engine.log")
    assert isinstance(error, EngineStartError)
    assert "afetensor" in str(error)
