"""The demo without its nodes: what it is asked for, what it prints, what it calls a fault, and what signals do."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import __main__ as demo
from demo.interrupt import SIGNALS, Interrupt
from demo.report import clean, describe, faults
from p2pcap.cli import output
from p2pcap.sources import folder

ROOT = Path(__file__).resolve().parents[2]


def row(key: str, author: str, caption: str = "a dot") -> dict[str, object]:
    return {"key": key, "author": author, "author_name": author, "caption": caption, "error": None}


def rows(alice: int, bob: int) -> list[dict[str, object]]:
    return [row(f"{number}.jpg", "alice" if number < alice else "bob") for number in range(alice + bob)]


def truth(of: list[dict[str, object]]) -> dict[str, str]:
    return {str(one["key"]): str(one["caption"]) for one in of}


def test_an_even_run_has_no_fault() -> None:
    even = rows(50, 50)
    assert faults(even, 100, truth(even)) == []


def test_a_volunteer_that_makes_little_is_a_fault_of_drawn_pictures_only() -> None:
    for uneven in (rows(10, 90), rows(100, 0)):
        assert faults(uneven, 100, truth(uneven)) == ["a volunteer made less than 20 % of the rows"]
        assert faults(uneven, 0, {}) == []


def test_missing_and_doubled_rows_are_faults() -> None:
    even = rows(50, 50)
    assert faults(even[:-1], 100, truth(even)) == ["99 rows for 100 images"]
    assert faults([*even, even[0]], 0, {}) == ["101 rows for 101 images"]


def test_wrong_captions_are_a_fault_where_the_truth_is_known() -> None:
    even = rows(50, 50)
    wrong = [row(str(one["key"]), str(one["author"]), "a lie") for one in even[:6]] + even[6:]
    assert faults(wrong, 100, truth(even)) == ["fewer than 95 % of the captions are exactly right"]
    assert faults(wrong, 100, {}) == []


def test_no_control_character_of_a_key_caption_or_name_is_printed() -> None:
    lines = describe([row("a\x1b[2J.jpg", "mal\x07lory", "red\n\x1b]0;x\x07dot")], {}, 1.0)
    assert "  a[2J.jpg: red ]0;xdot" in lines
    assert all(line.isprintable() for line in lines)


def test_the_demo_cleans_and_counts_as_p2pcap_does() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert clean(everything) == output.clean(everything)
    assert demo.SUFFIXES == folder.SUFFIXES


def test_only_images_are_counted(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.JPG", "below/b.png", "notes.txt", "below/raw.cr2"):
        (tmp_path / name).touch()
    assert demo.count_images(tmp_path) == 2


def test_a_tilde_is_the_home_folder_for_images_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of mine")
    monkeypatch.setenv("P2PCAP_DEMO_IMAGES", "~/photos")
    monkeypatch.delenv("P2PCAP_DEMO_MODEL", raising=False)
    assert (demo.arguments([]).images, demo.arguments([]).model) == (Path("/home/of mine/photos"), None)
    assert demo.arguments(["--images", "~/others", "--model", "~/model"]).images == Path("/home/of mine/others")
    assert demo.arguments(["--model", "~/model"]).model == "/home/of mine/model"


def test_nothing_chosen_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCAP_DEMO_IMAGES", "")
    monkeypatch.setenv("P2PCAP_DEMO_MODEL", "")
    assert (demo.arguments([]).images, demo.arguments([]).model) == (None, None)


@pytest.mark.parametrize("path", ["my photos", 'it\'s "mine"', "a$b$$c", "$(nothing)", "a;b#c"])
def test_make_hands_a_path_on_untouched(tmp_path: Path, path: str) -> None:
    printer = tmp_path / "python"
    printer.write_text('#!/bin/sh\nprintf "%s|%s" "$P2PCAP_DEMO_IMAGES" "$P2PCAP_DEMO_MODEL"\n')
    printer.chmod(0o755)
    chosen = [f"IMAGES={path}", f"MODEL={path}", f"PY={printer}"]
    made = subprocess.run(
        ["make", "--silent", "--no-print-directory", "-o", ".venv/.installed", "demo", *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.stderr, made.stdout) == ("", f"{path}|{path}")


@pytest.mark.parametrize(("option", "value"), [("--images", "nowhere"), ("--model", "nowhere"), ("--model", ".")])
def test_a_wrong_choice_ends_with_one_sentence_before_anything_starts(tmp_path: Path, option: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", option, value, "--output", str(tmp_path / "output")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "output").exists()


@pytest.fixture
def forced() -> Iterator[list[bool]]:
    """Whatever the suite was started with: under nohup, SIGHUP is ignored, and the demo then leaves it so."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield []
    for number, action in before.items():
        signal.signal(number, action)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_interrupts_and_the_next_ones_force(forced: list[bool], number: signal.Signals) -> None:
    interrupt = Interrupt(lambda: forced.append(True))
    interrupt.listen()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert (interrupt.arrived, forced) == (True, [])
    signal.raise_signal(number)
    signal.raise_signal(signal.SIGINT)
    assert forced == [True, True]


def test_a_signal_waits_for_what_is_held(forced: list[bool]) -> None:
    interrupt = Interrupt(lambda: forced.append(True))
    interrupt.listen()
    done: list[bool] = []

    def hold() -> None:
        with interrupt.held():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert (done, forced) == ([True], [])


def test_a_signal_while_cleaning_up_forces_and_does_not_interrupt(forced: list[bool]) -> None:
    interrupt = Interrupt(lambda: forced.append(True))
    interrupt.listen()
    interrupt.clean_up()
    signal.raise_signal(signal.SIGTERM)
    assert (interrupt.arrived, forced) == (True, [True])


def test_a_signal_that_is_ignored_stays_ignored(forced: list[bool]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt = Interrupt(lambda: forced.append(True))
    interrupt.listen()
    signal.raise_signal(signal.SIGHUP)
    assert not interrupt.arrived
