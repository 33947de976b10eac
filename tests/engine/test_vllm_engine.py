"""The engine with real vLLM behind it: what it answers, what it refuses, and how it dies."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from models.shapes.pictures import DESCRIBE, draw, encode
from p2pcap.engine.base import EngineSettings, EngineState, Output
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError
from p2pcap.project.sampling import Sampling
from p2pcap.project.task import Task
from tests.engine.hosted import MODEL, SETTINGS, TASK, HostedEngine

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
    async def ask(engine: VllmEngine) -> tuple[EngineState, int]:
        async with trio.open_nursery() as nursery:
            for _ in range(engine.capacity + 60):
                nursery.start_soon(engine.caption, GOOD, sha256(GOOD))
            await trio.testing.wait_all_tasks_blocked()
            return engine.state, engine.capacity

    state, capacity = hosted.run(ask)
    assert state.running >= capacity, "some may have come in before it became less"
    assert 0 < state.waiting <= 60, "a quick engine may have answered some before the last one asked"


async def told(engine: VllmEngine, wanted: Callable[[EngineState], bool]) -> EngineState:
    """The state once it is as wanted; of an engine's load nobody is told."""
    with trio.fail_after(LONGEST):
        while not wanted(engine.state):  # noqa: ASYNC110 - there is no event to wait for
            await trio.sleep(0.01)
    return engine.state


def busy(state: EngineState) -> int:
    return state.load.running + state.load.waiting


LONG = replace(TASK, prompts=TASK.prompts[:1], sampling=Sampling(max_tokens=400, ignore_eos=True))
"""Answers of 400 tokens, whatever the model thinks."""


@pytest.mark.slow
def test_cancelled_calls_free_their_places_at_once_and_vllm_of_its_work(hosted: HostedEngine) -> None:
    async def ask(engine: VllmEngine) -> tuple[EngineState, int]:
        before = await told(engine, lambda state: not busy(state))
        await engine.use(LONG)
        async with trio.open_nursery() as nursery:
            for _ in range(80):
                nursery.start_soon(engine.caption, GOOD, sha256(GOOD))
            await told(engine, lambda state: state.load.running > 20)
            nursery.cancel_scope.cancel()
        state = engine.state
        after = await told(engine, lambda state: not busy(state))
        await engine.use(TASK)
        await engine.caption(GOOD, sha256(GOOD))
        return state, after.load.made - before.load.made

    state, made = hosted.run(ask)
    assert (state.phase, state.running, state.waiting) == ("ready", 0, 0)
    assert made < 80 * 400 / 2, "cancelled requests were generated to their end"


@pytest.mark.slow
def test_a_task_is_changed_without_loading_anything_and_no_image_gets_answers_of_two(hosted: HostedEngine) -> None:
    other = replace(TASK, prompts=TASK.prompts[1:2])

    async def ask(engine: VllmEngine) -> tuple[list[tuple[Output, ...]], list[tuple[Output, ...]], EngineState]:
        before: list[tuple[Output, ...]] = []
        after: list[tuple[Output, ...]] = []

        async def one(answers: list[tuple[Output, ...]]) -> None:
            answers.append(await engine.caption(GOOD, sha256(GOOD)))

        async with trio.open_nursery() as nursery:
            for _ in range(engine.capacity + 30):  # more than there are places: some are asked after the change
                nursery.start_soon(one, before)
            await trio.testing.wait_all_tasks_blocked()
            await engine.use(other)
            for _ in range(30):
                nursery.start_soon(one, after)
        await engine.use(TASK)
        return before, after, engine.state

    before, after, state = hosted.run(ask)
    answers = draw("held-out", 21, 0).answers
    assert {tuple(output.text for output in outputs) for outputs in before} == {
        tuple(answers[prompt.text] for prompt in TASK.prompts)
    }
    assert {tuple(output.text for output in outputs) for outputs in after} == {(answers[other.prompts[0].text],)}
    assert (state.restarts, state.pid) == (0, hosted.engine.state.pid)


@pytest.mark.slow
def test_a_task_that_cannot_be_used_leaves_the_one_before(hosted: HostedEngine) -> None:
    async def ask(engine: VllmEngine) -> int:
        with pytest.raises(ModelError, match="another dtype"):
            await engine.use(replace(TASK, dtype="bfloat16"))
        with pytest.raises(ModelError):
            await engine.use(replace(TASK, chat_template="{{ raise_exception('no') }}"))
        return len(await engine.caption(GOOD, sha256(GOOD)))

    assert hosted.run(ask) == len(TASK.prompts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "ids"),
    [(0, ()), (9, (1, 2)), (-1, (1, 2)), (0, (-1,)), (0, (2**70,)), (0, (5,) * 9_000), (0, (2**31,))],
    ids=["no tokens", "no such prompt", "below", "negative", "huge", "too many", "no such token"],
)
def test_what_is_no_answer_cannot_be_scored(hosted: HostedEngine, prompt: int, ids: tuple[int, ...]) -> None:
    async def ask(engine: VllmEngine) -> str:
        with pytest.raises(ImageError) as fault:
            await engine.score(GOOD, sha256(GOOD), prompt, ids)
        return fault.value.code

    assert hosted.run(ask) == "unscorable"


@pytest.mark.slow
def test_a_claimed_answer_is_scored(hosted: HostedEngine) -> None:
    async def ask(engine: VllmEngine) -> tuple[float, ...]:
        outputs = await engine.caption(GOOD, sha256(GOOD))
        return (await engine.score(GOOD, sha256(GOOD), 1, outputs[1].ids)).margins

    margins = hosted.run(ask)
    assert margins
    assert max(margins) < 1e-3


@pytest.mark.slow
def test_the_state_tells_what_runs(hosted: HostedEngine) -> None:
    state = hosted.engine.state
    assert state.phase == "ready"
    assert state.version.startswith("0.")
    assert state.device.startswith(("cpu ", "cuda "))
    assert len(state.engine_class) == 8
    assert psutil.Process(state.pid).is_running()
    told = [(seen.phase, seen.detail) for seen in hosted.states if seen.detail]
    assert told[0] == ("starting", "starting the engine's process")
    assert [phase for phase, _ in told] == sorted((phase for phase, _ in told), key=["starting", "loading"].index)
    assert ("loading", "loading the model") in told
    assert {"importing vLLM", "starting the model's processes"} < {detail for _, detail in told}


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
        self.memories |= {path for path in maps if path.parent == Path("/dev/shm")}

    def assert_nothing_left(self, seconds: float) -> None:
        assert self.processes
        _, alive = psutil.wait_procs(self.processes, timeout=seconds)
        assert alive == []
        assert [path for path in self.memories | self.directories if path.exists()] == []


def first(pid: int) -> psutil.Process:
    return psutil.Process(pid)


def core(pid: int) -> psutil.Process:
    (found,) = (process for process in psutil.Process(pid).children(recursive=True) if "EngineCore" in process.name())
    return found


@pytest.mark.slow
def test_a_killed_engine_is_noticed_restarted_and_captions_again(tmp_path: Path) -> None:
    witness, second_end = Witness(), trio.Event()
    ends: list[str] = []

    def changed(state: EngineState) -> None:
        if "started again" in state.detail:
            ends.append(state.detail)
        if len(ends) == 2:
            second_end.set()

    engine = VllmEngine(MODEL, TASK, SETTINGS, tmp_path / "engine.log", changed)

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
                await kill(core)
                await second_end.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    witness.assert_nothing_left(seconds=0)
    assert witness.memories
    assert len(witness.directories) == 2
    assert ends[0] == "The engine's process was killed by SIGKILL. It is started again."
    assert ends[1].startswith("vLLM's own processes ended")
    assert (engine.state.phase, engine.state.restarts) == ("stopped", 2)


@pytest.mark.slow
def test_the_task_decides_how_an_answer_is_made_and_an_empty_one_is_a_fault(tmp_path: Path) -> None:
    """Stop at "a ": of a pair ("a small red ...") nothing is left, of a group ("three red ... on a") the beginning.

    All are asked at once, so that vLLM reads some prompts in two steps: with seeds, that would kill it on a CPU. It is
    told to take more memory than there is, and comes up with less.
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
    engine = VllmEngine(MODEL, task, EngineSettings(threads=1, kv_cache_gib=4096), tmp_path / "engine.log")
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
    assert re.fullmatch(r"Memory was short, .* with \d+ GiB for keys and values\.", engine.state.notice)
    assert engine.state.restarts == 1
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
settings = EngineSettings(threads=1, kv_cache_gib=1 / 16)
trio.run(VllmEngine(Path(sys.argv[1]), task, settings, Path(sys.argv[3]), told).run)
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


async def fails(model: Path, log: Path, task: Task = TASK) -> BaseException:
    engine = VllmEngine(model, task, SETTINGS, log)
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


def test_damaged_weights_are_named_before_a_process_starts(tmp_path: Path) -> None:
    model = copy_of_model(tmp_path)
    weights = model / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    error = trio.run(fails, model, tmp_path / "engine.log")
    assert isinstance(error, ModelError)
    assert "model.safetensors is damaged" in str(error)
    assert not (tmp_path / "engine.log").exists()


def test_a_models_own_code_is_refused_before_a_process_starts(tmp_path: Path) -> None:
    error = trio.run(fails, MODEL, tmp_path / "engine.log", replace(TASK, remote_code=True))
    assert isinstance(error, ModelError)
    assert "--trust-remote-code shapes" in str(error)
    assert not (tmp_path / "engine.log").exists()


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("ImportError('libcuda.so.1: cannot open shared object file: No such file')", "no GPU or no driver for it"),
        ("RuntimeError('operator torchvision::nms does not exist')", "vLLM cannot be imported"),
    ],
)
def test_a_vllm_that_cannot_be_imported_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str, told: str
) -> None:
    (tmp_path / "vllm.py").write_text(f"raise {raised}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    error = trio.run(fails, MODEL, tmp_path / "engine.log")
    assert isinstance(error, EngineStartError)
    assert told in str(error)


@pytest.mark.slow
def test_a_model_that_vllm_cannot_load_is_one_sentence(tmp_path: Path) -> None:
    """An architecture that it does not know, and weights that do not fit what config.json says of them."""
    model = copy_of_model(tmp_path)
    config = json.loads((model / "config.json").read_text())
    for change, sentence in (
        ({"architectures": ["NoSuchModel"]}, "vLLM does not know the model's architecture NoSuchModel. "),
        ({"text_config": config["text_config"] | {"hidden_size": 256}}, "The model's weights do not fit its config"),
    ):
        (model / "config.json").write_text(json.dumps(config | change))
        error = trio.run(fails, model, tmp_path / "engine.log")
        assert isinstance(error, ModelError)
        assert str(error).startswith(sentence)
