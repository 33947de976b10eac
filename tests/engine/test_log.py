from pathlib import Path

import pytest

from p2pcap.engine import log

TRACE = """\
(EngineCore pid=12) ERROR 11-22 18:20:08 [core.py:1234] Traceback (most recent call last):
(EngineCore pid=12) ERROR 11-22 18:20:08 [core.py:1234]   File "loader.py", line 3, in load
(EngineCore pid=12) ERROR 11-22 18:20:08 [core.py:1234] safetensors_rust.SafetensorError: header too small
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def test_the_cause_is_found_behind_its_consequences(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text(TRACE)
    assert log.last_error(path) == " (safetensors_rust.SafetensorError: header too small)"


def test_what_an_earlier_process_wrote_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text(TRACE)
    start = path.stat().st_size
    with path.open("a") as file:
        file.write("INFO all is well\n")
    assert log.last_error(path, start) == ""


def test_a_missing_log_says_nothing(tmp_path: Path) -> None:
    assert log.last_error(tmp_path / "none.log") == ""


def test_the_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "engine.log"
    for text in (b"one\n", b"two\n"):
        with log.continued(path) as file:
            file.write(text)
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_long_log_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "engine.log"
    monkeypatch.setattr(log, "LOG_BYTES", 10)
    path.write_bytes(b"x" * 11)
    with log.continued(path) as file:
        assert file.tell() == 0
    assert (tmp_path / "engine.log.1").read_bytes() == b"x" * 11


STEPS = [
    ("INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: x", "starting the model's processes"),
    ("WARNING [vllm.py:1703] Enforce eager set, disabling torch.compile, CUDAGraphs", "starting the model's processes"),
    ("INFO [gpu_model_runner.py:1] Starting to load model /models/m...", "loading the model"),
    ("Loading safetensors checkpoint shards:   0% Completed | 0/4 [00:00<?, ?it/s]", "loading weights: 0 %, file 0/4"),
    ("Loading safetensors checkpoint shards:  75% Completed | 3/4 [00:02<00:01]", "loading weights: 75 %, file 3/4"),
    ("INFO [default_loader.py:502] Loading weights took 2.41 seconds", "weights loaded"),
    ("INFO [kv_cache_utils.py:1] GPU KV cache size: 12,480 tokens", "preparing memory"),
    ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  40%|####      | 2/5", "capturing graphs: 40 %"),
]


def test_a_start_tells_how_far_it_has_come() -> None:
    printed = "INFO [model.py:733] Resolved architecture: X\n"
    assert log.progress(printed) == ""
    for line, words in STEPS:
        printed += f"{line}\n"
        assert log.progress(printed) == words
