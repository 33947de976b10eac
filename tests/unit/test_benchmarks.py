"""What the benchmarks promise besides their numbers: names, lines, clear errors, and nothing left running."""

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.__main__ import main
from benchmarks.events import event_times
from benchmarks.job import chain_model
from benchmarks.processes import Processes
from benchmarks.registry import BENCHMARKS, load
from benchmarks.report import Line, Lines, at_least, at_most, machine
from benchmarks.sides import Round, cpu_ms, rate
from benchmarks.statements import make
from benchmarks.swarm_project import read_project, write_project
from benchmarks.swarm_runs import delays, meet, new_project, percentile, start_peers, talk
from benchmarks.swarm_service import LedgerService
from p2pcap.errors import P2pcapError
from p2pcap.ledger.body import open_body
from p2pcap.ledger.validate import Verdict, validate
from p2pcap.swarm.service import Judgement

KEYS = ["name", "value", "unit", "goal", "baseline", "holds"]


def test_list_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in listed] == list(BENCHMARKS)
    assert all(what for _, what in listed)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_loaded(name: str) -> None:
    assert callable(load(name))


def test_a_line_is_one_json_object_with_six_keys() -> None:
    line = at_least("node_path.ratio", 0.912345, "ratio", 0.85, 1.0).json()
    assert "\n" not in line
    record = json.loads(line)
    assert list(record) == KEYS
    assert list(record.values()) == ["node_path.ratio", 0.9123, "ratio", 0.85, 1.0, True]


def test_without_a_goal_nothing_is_promised() -> None:
    record = json.loads(Line("node_memory.rss", 123.456, "MiB", baseline=100.0).json())
    assert record == {**record, "goal": None, "holds": None, "baseline": 100.0}


def test_what_cannot_be_measured_here_has_no_value() -> None:
    line = Line("gpu.ratio", None, "ratio", 0.97, 1.0)
    assert json.loads(line.json()) == {**json.loads(line.json()), "value": None, "holds": None, "goal": 0.97}
    assert "not measured here" in line.text()


@pytest.mark.parametrize(("value", "least", "most"), [(1.0, False, True), (2.0, True, True), (3.0, True, False)])
def test_a_goal_holds_on_its_own_side(value: float, least: bool, most: bool) -> None:
    assert at_least("x", value, "s", 2.0).holds is least
    assert at_most("x", value, "s", 2.0).holds is most
    assert ("DOES NOT HOLD" in at_least("x", value, "s", 2.0).text()) is not least


def test_an_unknown_name_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nodepath", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "did you mean node_path?" in said.err


def test_numbers_go_to_standard_output_and_the_machine_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> Lines:
        yield Line("ledger.validate", 1.0, "statements/s/core")

    monkeypatch.setattr("benchmarks.ledger.run", run)
    assert main(["run", "ledger", "--json"]) == 0
    said = capsys.readouterr()
    assert [list(json.loads(line)) for line in said.out.splitlines()] == [KEYS]
    assert said.err.count("cores, load ") == 2


def test_a_benchmark_that_breaks_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> Iterator[Line]:
        raise P2pcapError("The volunteer ended.")

    monkeypatch.setattr("benchmarks.join.run", run)
    assert main(["run", "join"]) == 1
    assert "join broke: The volunteer ended." in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(P2pcapError("The engine failed."), 1), (KeyboardInterrupt(), 130)])
def test_what_ends_a_nursery_ends_a_benchmark(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> Iterator[Line]:
        raise BaseExceptionGroup("nursery", [error])

    monkeypatch.setattr("benchmarks.join.run", run)
    assert main(["run", "join"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_the_machine_line_has_cores_and_load() -> None:
    assert " cores, load " in machine()


def test_rounds_are_pooled_by_images_and_seconds() -> None:
    rounds = [Round(100, 1.0, {"node": 0.1, "engine": 0.4}), Round(100, 3.0, {"node": 0.3, "engine": 1.2})]
    assert rate(rounds) == 50.0
    assert cpu_ms(rounds) == pytest.approx(10.0)
    assert cpu_ms(rounds, "node") == pytest.approx(2.0)


def test_events_are_found_in_a_log_that_is_being_written(tmp_path: Path) -> None:
    lines = [
        '{"event": "engine", "phase": "starting", "timestamp": "2026-01-01T00:00:00Z"}',
        '{"event": "engine", "phase": "ready", "timestamp": "2026-01-01T00:00:30.5Z"}',
        '{"event": "engine", "phase": "rea',
    ]
    (tmp_path / "node.jsonl").write_text("\n".join(lines))
    (started,) = event_times(tmp_path, "engine", phase="starting")
    (ready,) = event_times(tmp_path, "engine", phase="ready")
    assert ready - started == 30.5
    assert event_times(tmp_path, "claim") == []


def test_nothing_is_left_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a process that ends when it is told to, nor what it started itself and left behind."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    with Processes(tmp_path) as processes:
        started = processes.start("parent", "sh", "-c", "trap '' TERM; sleep 600 & echo $!; exec sleep 600", piped=True)
        left_behind = psutil.Process(int(started.line(30)))
        started.process.send_signal(9)
    assert started.process.returncode is not None
    deadline = time.monotonic() + 30
    while left_behind.is_running() and left_behind.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child of an ended process still runs"


def test_a_process_that_ends_too_early_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    with Processes(tmp_path) as processes:
        started = processes.start("early", sys.executable, "-c", "raise SystemExit('no model')", piped=True)
        with pytest.raises(P2pcapError, match="early ended with code 1: no model"):
            started.line(60)


def test_the_statements_are_valid_ones() -> None:
    made = make(20)
    for number in (0, 17):
        batch = made.batch(number)
        assert validate(made.ledger(), made.header(number).data, batch.received).verdict is Verdict.ACCEPT
        assert validate(made.ledger(), batch.envelope.data, batch.received).verdict is Verdict.ACCEPT
        assert open_body(batch.body, batch.result) == tuple(batch.rows)


def test_peers_of_a_swarm_judge_by_the_rules_of_the_ledger(tmp_path: Path) -> None:
    write_project(tmp_path)
    shared = read_project(tmp_path)
    service = LedgerService(shared.project)
    statements = shared.admissions(3)
    assert [service.judge("results", "", one.data) for one in statements] == [Judgement.ACCEPT] * 3
    assert service.judge("results", "", statements[0].data) is Judgement.IGNORE
    assert service.judge("results", "", b"") is Judgement.REJECT
    assert set(service.arrived) == {one.id for one in statements}
    assert service.status().count == 3


def test_delays_are_those_of_everybody_who_got_it() -> None:
    heard = [{"a": 10.0, "b": 20.5}, {"a": 10.25}]
    took = delays({"a": 10.0, "b": 20.0}, heard)
    assert took == [0.0, 0.25, 0.5]
    assert percentile(took, 0.5) == 0.25
    assert percentile(took, 0.99) == 0.5


def asked(url: str, path: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(f"{url}{path}", data=body, timeout=30) as answer:
        return json.load(answer)


def test_the_paced_server_speaks_as_openai_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    with Processes(tmp_path) as processes:
        server = processes.start("server", sys.executable, "-m", "benchmarks.paced_server", "shapes", "50", piped=True)
        url = server.line(30)
        assert [model["id"] for model in asked(url, "/models")["data"]] == ["shapes"]
        answers = [asked(url, "/chat/completions", b'{"messages": []}') for _ in range(3)]
    assert {answer["choices"][0]["finish_reason"] for answer in answers} == {"stop"}


LENGTHS = """
import sys, torch
from transformers import AutoProcessor, Idefics3ForConditionalGeneration
from models.shapes.pictures import draw
processor = AutoProcessor.from_pretrained(sys.argv[1])
model = Idefics3ForConditionalGeneration.from_pretrained(sys.argv[1]).eval()
content = [{"type": "image"}, {"type": "text", "text": "Describe the image."}]
text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
for number in range(12):
    asked = processor(text=text, images=[[draw("held-out", 5, number).image]], return_tensors="pt")
    with torch.no_grad():
        made = model.generate(**asked, max_new_tokens=100, do_sample=False)[0, asked["input_ids"].shape[1]:]
    print(len(made), int(made[-1]) == model.config.text_config.eos_token_id)
"""


@pytest.mark.slow
def test_the_image_decides_how_long_an_answer_of_the_chain_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    with Processes(tmp_path) as processes:
        mixed = chain_model(processes, layers=1, shortest=10, longest=60, name="mixed")
        alike = chain_model(processes, layers=1, shortest=40, longest=40, name="alike")
        said = [processes.run(sys.executable, "-c", LENGTHS, str(model)).split() for model in (mixed, alike)]
    lengths, same = ([int(word) for word in words[::2]] for words in said)
    assert {word for words in said for word in words[1::2]} == {"True"}
    assert all(10 < length <= 61 for length in lengths), "and the end of the text"
    assert len(set(lengths)) > 3
    assert set(same) == {41}


@pytest.mark.slow
def test_peers_in_two_processes_hear_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    with Processes(tmp_path) as processes:
        groups = start_peers(processes, new_project(processes), 2, 2, 8, ())
        meet(groups, 3)
        said = talk(groups, 2, 100.0)
        assert len(said) == 8
        deadline = time.monotonic() + 60
        while len(delays(said, [there for group in groups for there in group.ask(30, "heard")])) < 8 * 4:
            assert time.monotonic() < deadline, "not every peer has heard everything"
