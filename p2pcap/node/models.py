"""The model's files: from a directory the volunteer names, from peers, or from the Hub.

A model listed file by file in the project is checked by hash wherever it comes from. Only names that can be data are
taken: no Python file, no pickle, ever reaches the engine's directory from a stranger.
"""

import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import trio

from p2pcap.engine.model import check_model
from p2pcap.errors import ModelError
from p2pcap.project.records import MAX_MODEL
from p2pcap.project.task import Model, ModelFile

DATA_FILES = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(json|safetensors|txt|jinja|model|md)\Z")
"""Files of a model that hold data, not code."""

HUB_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "*.tiktoken")

Blob = Callable[[bytes, int], Awaitable[bytes]]
"""Fetches a blob by hash and length."""

log = structlog.get_logger()


async def model_directory(model: Model, given: Path | None, keep: Path, blob: Blob) -> Path:
    """A directory with the model's files. `given` is the volunteer's own copy; `keep` is where fetched ones live.

    Raises ModelError when the copy is not this model, or the Hub does not hand it over.
    """
    if given is not None:
        await trio.to_thread.run_sync(check_copy, model, given)
        return given
    if model.files:
        return await _from_peers(model, keep, blob)
    return await trio.to_thread.run_sync(_from_hub, model, abandon_on_cancel=True)


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


def _from_hub(model: Model) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model.name, revision=model.revision, allow_patterns=list(HUB_PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"The model {model.name} cannot be had from the Hub ({type(error).__name__}). Check the network and, for a "
            "gated model, `hf auth login`; or name a local copy with --model."
        ) from error
