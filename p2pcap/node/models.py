"""The model's files: from a directory the volunteer names, from peers, or from the Hub.

A model listed file by file in the project is checked by hash wherever it comes from. Only names that can be data are
taken: no pickle ever reaches the engine's directory from a stranger, and no Python file unless the volunteer allows it
for that model of the Hub.
"""

import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from p2pcap.engine.model import check_model
from p2pcap.errors import ModelError
from p2pcap.node.hub_models import Progress, check_room, hub_model
from p2pcap.project.records import MAX_MODEL
from p2pcap.project.task import Model, ModelFile

if TYPE_CHECKING:
    from p2pcap.node.fetching import Fetching

DATA_FILES = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(json|safetensors|txt|jinja|model|md)\Z")
"""Files of a model that hold data, not code."""

LOOK_EVERY = 1.0
"""Seconds between two looks at a download."""

Blob = Callable[[bytes, int], Awaitable[bytes]]
"""Fetches a blob by hash and length."""

log = structlog.get_logger()


def no_one(text: str) -> None:
    """Hears nothing."""


async def model_directory(
    model: Model, given: Path | None, keep: Path, blob: Blob, *, code: bool = False, say: Callable[[str], None] = no_one
) -> Path:
    """A directory with the model's files. `given` is the volunteer's own copy; `keep` is where fetched ones live.
    `code`: the volunteer allows the Python code that a model of the Hub brings. `say` hears how far a download is.

    Raises ModelError when the copy is not this model, the Hub does not hand it over, or the disk has no room.
    """
    if given is not None:
        await trio.to_thread.run_sync(check_copy, model, given)
        return given
    if model.files:
        return await _from_peers(model, keep, blob)
    return await _from_hub(model, code, say)


def patient(fetching: "Fetching", say: Callable[[str], None]) -> Blob:
    """Fetches a file of the model from peers; waits, and says so, while no peer has it."""

    async def blob(hash_: bytes, length: int) -> bytes:
        data = await fetching.now(hash_, length)
        if data is None:
            say("no peer has the model's files now; waiting for the coordinator, or a seeder that has them")
            data = await fetching.blob(hash_, length)
        return data

    return blob


def list_model(directory: Path) -> tuple[ModelFile, ...]:
    """The data files of a model directory with their hashes, in order of name. Raises ModelError."""
    check_model(directory)
    try:
        paths = sorted(path for path in directory.iterdir() if path.is_file() and DATA_FILES.match(path.name))
        files = tuple(_described(path) for path in paths if path.suffix != ".md")
    except OSError as error:
        raise ModelError(f"The model {directory} cannot be read: {error.strerror}.") from error
    if not any(file.name.endswith(".safetensors") for file in files):
        raise ModelError(
            f"{directory} has no .safetensors file. Save the weights as safetensors; pickles are not used."
        )
    return files


def _described(path: Path) -> ModelFile:
    with path.open("rb") as file:
        return ModelFile(path.name, hashlib.file_digest(file, "sha256").digest(), path.stat().st_size)


def check_copy(model: Model, directory: Path) -> None:
    """Raises ModelError when `directory` is no model, or not the one the project lists.

    A model that the project takes from the Hub is not listed file by file: the volunteer's copy is taken as it is.
    """
    check_model(directory)
    if not model.files:
        return
    found = {file.name: file.hash for file in list_model(directory)}
    for file in model.files:
        if found.get(file.name) != file.hash:
            raise ModelError(
                f"{directory} is not the project's model {model.name}: {file.name} differs. "
                "Leave --model out, and the right files come from the swarm."
            )


async def _from_peers(model: Model, keep: Path, blob: Blob) -> Path:
    if sum(file.length for file in model.files) > MAX_MODEL or not all(DATA_FILES.match(f.name) for f in model.files):
        raise ModelError(f"The project's model {model.name} has files that this node does not take from strangers.")
    directory = keep / hashlib.sha256(b"".join(file.hash for file in model.files)).hexdigest()[:16]
    missing = sum(file.length for file in model.files if not (directory / file.name).exists())
    check_room(model.name, missing, keep)
    for file in model.files:
        path = directory / file.name
        if not await trio.to_thread.run_sync(_is, path, file.hash):
            log.info("fetching model", file=file.name, bytes=file.length)
            data = await blob(file.hash, file.length)
            await trio.to_thread.run_sync(_write, path, data)
    return directory


def _is(path: Path, hash_: bytes) -> bool:
    return path.is_file() and _described(path).hash == hash_


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise ModelError(f"The model cannot be kept at {path}: {error.strerror}. Make room or use --node.") from error


async def _from_hub(model: Model, code: bool, say: Callable[[str], None]) -> Path:
    progress = Progress()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell, model, progress, say)
        try:
            return await trio.to_thread.run_sync(hub_model, model, code, progress, abandon_on_cancel=True)
        finally:
            progress.stop()
            nursery.cancel_scope.cancel()


async def _tell(model: Model, progress: Progress, say: Callable[[str], None]) -> None:
    """Say how far the download is, each time it got further by a percent or so."""
    said = ""
    while True:
        text = f"fetching the model {model.name}: {progress.done / 1e9:.2f} of {progress.total / 1e9:.2f} GB"
        if progress.total and text != said:
            said = text
            say(text)
        await trio.sleep(LOOK_EVERY)
