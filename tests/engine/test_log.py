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
