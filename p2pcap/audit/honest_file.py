"""Honest captions in a file: made on one machine, scored on another, so that a calibration knows both.

Two GPUs add the same numbers up in another order. How far that moves an answer can only be seen by letting one score
what the other wrote. The file is JSON; who writes it is somebody whom the maintainer asked, and it is read within
limits all the same.

Always holds: answers are of the task that they name, and are tied to images by hash.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from p2pcap.audit.cheats import Answers
from p2pcap.audit.measuring import Captioned, Shown
from p2pcap.engine.base import Finish, Output
from p2pcap.errors import ConfigError
from p2pcap.project.sampling import Token

MAX_FILE = 256 * 1024 * 1024
"""Bytes: 10,000 images with 3 answers of 1,000 tokens have some 200 MB."""

Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class HonestAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer as its engine made it."""

    text: Annotated[str, msgspec.Meta(max_length=65_536)]
    finish: Finish
    ids: Annotated[tuple[Token, ...], msgspec.Meta(min_length=1, max_length=8_192)]


class HonestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers to the prompts of the task `task`, by the image's SHA-256; `engine_class` and `device` say what made
    them."""

    version: Literal[1]
    task: Hex
    engine_class: Hex
    device: Annotated[str, msgspec.Meta(max_length=200)]
    answers: Annotated[dict[Sha256, tuple[HonestAnswer, ...]], msgspec.Meta(max_length=100_000)]


def write(path: Path, tid: bytes, engine_class: bytes, device: str, items: Sequence[Captioned]) -> None:
    """Raises ConfigError when the disk refuses."""
    answers = {item.shown.sha256.hex(): tuple(map(_plain, item.answers)) for item in items}
    file = HonestFile(1, tid.hex(), engine_class.hex(), device[:200], answers)
    try:
        path.write_bytes(msgspec.json.encode(file))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}. Name another file.") from error


def read(path: Path, tid: bytes) -> HonestFile:
    """Raises ConfigError for what is no such file, or is of another task."""
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ConfigError(f"{path} has over {MAX_FILE >> 20} MiB. Export fewer images.")
        file = msgspec.json.decode(data, type=HonestFile)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Name another file.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no file of `project calibrate --export`: {error}.") from error
    if file.task != tid.hex():
        raise ConfigError(f"{path} holds captions of another task ({file.task}). Export them again, of this one.")
    return file


def join(file: HonestFile, images: Mapping[bytes, Shown], prompts: int) -> list[Captioned]:
    """The file's answers with their images; those of other images are left out."""
    known = [(images.get(bytes.fromhex(name)), answers) for name, answers in file.answers.items()]
    return [
        Captioned(shown, _answers(answers)) for shown, answers in known if shown is not None and len(answers) == prompts
    ]


def _plain(answer: Output) -> HonestAnswer:
    return HonestAnswer(answer.text, answer.finish, answer.ids)


def _answers(answers: Sequence[HonestAnswer]) -> Answers:
    return tuple(Output(one.text, len(one.ids), one.finish, one.ids) for one in answers)
