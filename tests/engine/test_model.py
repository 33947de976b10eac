"""The shipped model, through unmodified vLLM."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from models.shapes.pictures import PROMPTS, Picture, draw, encode
from p2pcap.engine.base import Output
from p2pcap.engine.vllm_engine import VllmEngine
from tests.engine.hosted import MODEL, HostedEngine

HELD_OUT = 400
SEED = 11
GOOD = 0.95


async def caption_all(engine: VllmEngine, files: list[bytes]) -> list[tuple[Output, ...]]:
    answers: dict[int, tuple[Output, ...]] = {}

    async def one(number: int, file: bytes) -> None:
        answers[number] = await engine.caption(file, hashlib.sha256(file).digest())

    async with trio.open_nursery() as nursery:
        for number, file in enumerate(files):
            nursery.start_soon(one, number, file)
    return [answers[number] for number in range(len(files))]


@pytest.mark.slow
def test_held_out_pictures_are_captioned_exactly_right(hosted: HostedEngine) -> None:
    pictures = [draw("held-out", SEED, number) for number in range(HELD_OUT)]
    files = [encode(picture, "jpg" if number % 5 else "png") for number, picture in enumerate(pictures)]
    answers = hosted.run(caption_all, files)
    for place, prompt in enumerate(PROMPTS):
        right = sum(
            outputs[place].text == picture.answers[prompt] for outputs, picture in zip(answers, pictures, strict=True)
        )
        assert right >= GOOD * HELD_OUT, f"{prompt}: {right} of {HELD_OUT}"
    assert {output.finish for outputs in answers for output in outputs} == {"stop"}


def test_the_shipped_model_is_small_and_says_what_it_is() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 12 * 1024 * 1024
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("Idefics3", "train.py", "license"))


def test_no_picture_is_in_both_splits_and_each_is_the_same_every_time() -> None:
    def hashes(split: str) -> set[str]:
        return {hashlib.sha256(encode(draw(split, 1, number), "png")).hexdigest() for number in range(200)}

    assert len(hashes("training") | hashes("held-out")) == 400
    assert hashes("held-out") == hashes("held-out")


def test_the_pictures_are_written_beside_their_truth(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(MODEL / "pictures.py"), str(tmp_path), "--count", "12", "--seed", "3"],
        check=True,
        capture_output=True,
    )
    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        data = (tmp_path / "images" / line["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["sha256"]
        assert line["captions"] == draw("held-out", 3, number).answers
    assert len(lines) == len([path for path in (tmp_path / "images").rglob("*") if path.is_file()]) == 12


@pytest.mark.slow
def test_the_training_script_makes_this_model_and_repeats_itself(tmp_path: Path) -> None:
    """A few steps only: everything but the weights must be what is shipped, and the weights equal in two runs."""
    command = [sys.executable, str(MODEL / "train.py"), "--steps", "3", "--pictures", "64", "--held-out", "16", "--out"]
    runs = [tmp_path / "one", tmp_path / "two"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    processes = [subprocess.Popen([*command, str(out)], env=environment, stdout=subprocess.DEVNULL) for out in runs]
    assert [process.wait() for process in processes] == [0, 0]
    for path in sorted(runs[0].iterdir()):
        assert path.read_bytes() == (runs[1] / path.name).read_bytes(), path.name
        if path.suffix != ".safetensors":
            assert path.read_bytes() == (MODEL / path.name).read_bytes(), path.name


def test_pictures_have_one_answer_a_prompt() -> None:
    picture: Picture = draw("held-out", 1, 1)
    assert set(picture.answers) == set(PROMPTS)


def test_the_training_script_is_short() -> None:
    assert len((MODEL / "train.py").read_text().splitlines()) < 400
