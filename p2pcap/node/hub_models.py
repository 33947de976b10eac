"""A model of the Hub, at the revision that the project pins: what it takes is found out before anything is fetched.

The Hub's own library fetches, into its own cache, which other programs of this user share. Everything that may be wrong
there is said in one sentence: no such model, no such revision, closed to this user, no network, no room on the disk.
Other programs may have left a part of a model there, so only the Hub's own list says whether all of it is here.

Always holds: no pickle is fetched, and Python code only when the caller says that the volunteer allows it.
"""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from p2pcap.engine.model import check_model
from p2pcap.errors import ModelError, SourceError
from p2pcap.project.task import Model
from p2pcap.sources.hub import endpoint

if TYPE_CHECKING:
    from huggingface_hub.file_download import DryRunFileInfo

DATA_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "*.tiktoken")
CODE_PATTERNS = ("*.py",)

COPY = "Or name a copy of your own with --model."

FACTS_WITHIN = 8.0
MAX_LICENSE = 128

SPARE = 256 * 1024 * 1024
"""Bytes left free on the disk beside the model, for the database and the logs."""


log = structlog.get_logger()


class Progress:
    """How far a download is, in bytes; written by the threads that fetch, read by whoever shows it.

    After `stop` they fetch no further: the next bytes that arrive raise Stopped there.
    """

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self._stopped = False
        self._lock = Lock()

    def add(self, count: int) -> None:
        """So many bytes have come."""
        if self._stopped:
            raise Stopped
        with self._lock:
            self.done += count

    def stop(self) -> None:
        """Nobody waits for the model any more."""
        self._stopped = True


class HubFacts(msgspec.Struct, frozen=True):
    """What the Hub tells of a model: bytes of what would be fetched (0: not told), and its licence ("": none given)."""

    bytes: int = 0
    license: str = ""


def hub_facts(model: Model) -> HubFacts:
    """What the Hub tells of a model. Blocks for FACTS_WITHIN seconds or so; where it tells nothing, nothing is known
    and nothing raised: what stands in the way is said when the model is fetched."""
    try:
        from huggingface_hub import HfApi

        from p2pcap.sources.web.hub import read_token

        api = HfApi(endpoint=endpoint(), token=read_token())
        info = api.model_info(model.name, revision=model.revision, timeout=FACTS_WITHIN)
        named = info.card_data.get("license") if info.card_data is not None else None
        asked: dict[str, Any] = {"revision": model.revision, "allow_patterns": DATA_PATTERNS, "dry_run": True}
        files = api.snapshot_download(model.name, tqdm_class=_counting(Progress()), **asked)
    except Exception as error:  # noqa: BLE001 - it lets the errors of its HTTP library through
        log.info("the Hub tells nothing", model=model.name, reason=repr(error)[:200])
        return HubFacts()
    return HubFacts(sum(file.file_size or 0 for file in files), str(named or "")[:MAX_LICENSE])


class Stopped(Exception):
    """Ends the threads of a download that nobody waits for; never seen by a caller."""


def hub_model(model: Model, code: bool, progress: Progress) -> Path:
    """The directory with the model's files, fetched if need be. `code`: the volunteer allows its Python code. Where the
    Hub cannot be asked, what is here already is taken if it looks whole.

    Blocks. Raises ModelError.
    """
    with _explained(model):
        from huggingface_hub import snapshot_download

        from p2pcap.sources.web.hub import read_token

        wanted: dict[str, Any] = {
            "repo_id": model.name,
            "revision": model.revision,
            "endpoint": endpoint(),
            "token": read_token(),
            "allow_patterns": [*DATA_PATTERNS, *(CODE_PATTERNS if code else ())],
        }
        try:
            files = snapshot_download(**wanted, tqdm_class=_counting(progress), dry_run=True)
        except Exception:  # it lets the errors of its HTTP library through
            if kept := _kept(wanted):
                return kept
            raise
        _check_weights(model, files)
        missing = [file for file in files if file.will_download]
        progress.total = sum(file.file_size or 0 for file in missing)
        _check_room(model, missing, progress.total)
        return Path(snapshot_download(**wanted, tqdm_class=_counting(progress)))


def check_access(model: Model) -> None:
    """Whether the Hub lets this user have the model. Blocks. Raises ModelError."""
    with _explained(model):
        from huggingface_hub import HfApi

        from p2pcap.sources.web.hub import read_token

        HfApi(endpoint=endpoint()).auth_check(model.name, token=read_token())


def _kept(wanted: dict[str, Any]) -> Path | None:
    """The directory with what is here already, if that can be a whole model; whether it is, only the Hub knows."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        directory = Path(snapshot_download(**wanted, local_files_only=True))
        check_model(directory)
    except (LocalEntryNotFoundError, ModelError):
        return None
    return directory if any(directory.glob("*.safetensors")) else None


def _check_weights(model: Model, files: "list[DryRunFileInfo]") -> None:
    if not any(file.filename.endswith(".safetensors") for file in files):
        raise ModelError(
            f"The model {model.name} has no weights as safetensors on the Hub. Others are not fetched: pickles such as "
            f"pytorch_model.bin can run code. Ask the maintainer for another model or revision. {COPY}"
        )


def _check_room(model: Model, missing: "list[DryRunFileInfo]", needed: int) -> None:
    for file in missing[:1]:
        place = Path(file.local_path)
        check_room(model.name, needed, place)


def check_room(name: str, needed: int, place: Path) -> None:
    """Raises ModelError when a model that needs so many bytes does not fit the disk of `place`."""
    there = next(path for path in (place, *place.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed + SPARE > free:
        raise ModelError(
            f"The model {name} needs {needed / 1e9:.1f} GB more on the disk of {there}, which has {free / 1e9:.1f} GB "
            "free. Make room, or choose another disk (HF_HOME for models of the Hub, --node for others)."
        )


def _counting(progress: Progress) -> type:
    """What the Hub's library takes for a progress bar: it counts the bytes that are on disk and shows nothing."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Counting(tqdm):
        """One of the three bars of a download: bytes over the network, bytes on disk, files."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            self._counts = named.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*arguments, **{**named, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            """So many more."""
            if self._counts:
                progress.add(int(n or 0))

    return Counting


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """What the Hub's library raises, as one sentence that says what to do."""
    try:
        yield
    except (ModelError, Stopped):
        raise
    except SourceError as error:
        raise ModelError(str(error)) from error
    except Exception as error:  # it lets the errors of its HTTP library through, and its own about what is no Hub
        told = (_told(model, cause) for cause in _causes(error))
        raise ModelError(next((text for text in told if text), _unknown(model, error))) from error


def _told(model: Model, error: BaseException) -> str:
    """What is known about such an error; empty: nothing."""
    from huggingface_hub import errors

    page = f"{endpoint()}/{model.name}"
    match error:
        case errors.GatedRepoError():
            return (
                f"The model {model.name} is gated: ask its authors for access at {page}, then give your token with "
                f"HF_TOKEN or `hf auth login`. {COPY}"
            )
        case errors.RepositoryNotFoundError():
            return (
                f"The Hub at {endpoint()} has no model {model.name}, or it is private. Ask the maintainer; for a "
                f"private one give your token with HF_TOKEN or `hf auth login`. {COPY}"
            )
        case errors.RevisionNotFoundError():
            return f"The model {model.name} has no revision {model.revision} any more. Ask the maintainer. {COPY}"
        case errors.OfflineModeIsEnabled():
            return f"The model {model.name} is not here yet, and HF_HUB_OFFLINE forbids fetching it. Unset it. {COPY}"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"The disk is full: the model {model.name} does not fit. Make room, or set HF_HOME to another disk."
        case PermissionError():
            return f"The Hub's cache cannot be written ({error}). Mend its permissions, or set HF_HOME to another one."
    return ""


def _unknown(model: Model, error: BaseException) -> str:
    *_, first = (cause for cause in _causes(error) if not isinstance(cause, StopIteration))  # that is how json ends
    return (
        f"The model {model.name} cannot be fetched from the Hub at {endpoint()} ({type(first).__name__}). Check the "
        f"network, and HF_ENDPOINT and proxies if they are set. {COPY}"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
