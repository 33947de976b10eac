"""The captions as a dataset on the Hub of Hugging Face: Parquet files, a card, and who made them.

A file holds the rows of SHARD chunks, whatever else the project has, so a file whose rows are as before is not sent
again. What was sent is written down in the repository itself, in STATE: each file's digest over its rows' statements.
So any node of the project can go on where another one stopped, and a push that broke off goes on where it broke off.

Always holds: a repository that holds anything else, or another project's captions, is not touched unless that is asked
for; one that is made here is private unless that is asked for. What is on the Hub after each commit is whole.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from p2pcap.errors import ConfigError, SourceUnavailable
from p2pcap.export.asking import Asked
from p2pcap.export.attribution import FILES, write_attribution
from p2pcap.export.card import Said, card, facts
from p2pcap.export.gathering import Gathering, Select, pages
from p2pcap.export.parquet import write_parquet
from p2pcap.export.source import Source
from p2pcap.project.opened import Project

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SHARD = 128
"""Chunks of a file: 131,072 images in chunks of the usual size, some 15 MB of captions of 300 letters."""

TOGETHER = 16
"""Files in one commit: what is on disk at one time, and what a push that breaks off sends again at most."""

STATE = "p2pcap.json"
MAX_STATE = 16 * 1024 * 1024

CONFIGS = [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}]
"""For the Hub's viewer, and for `datasets.load_dataset`."""

OURS = (".gitattributes", "README.md", STATE, *FILES)

SHARDS = f"SELECT DISTINCT chunk // {SHARD} AS shard FROM captions WHERE error IS NULL ORDER BY shard"
DIGEST = """
SELECT count(*) AS rows, sha256(string_agg(concat_ws(' ', task, chunk, item, statement), chr(10)
    ORDER BY task, chunk, item)) AS digest FROM captions WHERE error IS NULL AND chunk BETWEEN {first} AND {last}
"""


class Shard(msgspec.Struct, frozen=True):
    """A Parquet file: its rows, and SHA-256 in hex over their task, chunk, item and statement, a line each."""

    rows: int
    digest: str


class State(msgspec.Struct, frozen=True):
    """What a repository holds: the project's hash in hex, and the files by their paths."""

    project: str
    shards: dict[str, Shard]


@dataclass(frozen=True)
class Pushed:
    """What a push did, or would do: files sent, left as they are, and deleted; whether the repository is new, and
    private."""

    sent: tuple[str, ...]
    kept: int
    deleted: tuple[str, ...]
    new: bool
    private: bool
    card: str


class Repository:
    """A dataset repository, asked by `huggingface_hub`."""

    def __init__(self, api: "HfApi", name: str) -> None:
        self.api = api
        self.name = name

    def look(self) -> tuple[bool | None, list[str]]:
        """Whether it is private, and its files; None where there is no such repository that one may see."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with hub_errors(self.name):
            try:
                found = self.api.dataset_info(self.name)
            except RepositoryNotFoundError:
                return None, []
            return bool(found.private), [sibling.rfilename for sibling in found.siblings or ()]

    def state(self, files: Sequence[str]) -> State | None:
        """What it says that it holds. Raises ConfigError when that cannot be read."""
        if STATE not in files:
            return None
        with hub_errors(self.name), tempfile.TemporaryDirectory(prefix="p2pcap-") as folder:
            (info,) = self.api.get_paths_info(self.name, [STATE], repo_type="dataset")
            if getattr(info, "size", MAX_STATE + 1) > MAX_STATE:
                raise ConfigError(f"{self.name} has a {STATE} that is too large. Delete it there, or name another one.")
            path = self.api.hf_hub_download(self.name, STATE, repo_type="dataset", local_dir=folder)
            try:
                return msgspec.json.decode(Path(path).read_bytes(), type=State)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ConfigError(f"{self.name} has a {STATE} of another form. Delete it there first.") from error

    def create(self, *, private: bool) -> None:
        """Make it."""
        with hub_errors(self.name):
            self.api.create_repo(self.name, repo_type="dataset", private=private)

    def commit(self, message: str, files: dict[str, Path | bytes], deleted: Sequence[str] = ()) -> None:
        """One commit: all of it, or nothing."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added = [
            CommitOperationAdd(
                path_in_repo=name, path_or_fileobj=content if isinstance(content, bytes) else str(content)
            )
            for name, content in files.items()
        ]
        gone = [CommitOperationDelete(path_in_repo=name) for name in deleted]
        with hub_errors(self.name):
            self.api.create_commit(self.name, [*added, *gone], commit_message=message, repo_type="dataset")


def push(
    source: Source,
    repository: Repository,
    said: Said,
    *,
    public: bool = False,
    force: bool = False,
    dry_run: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Pushed:
    """Bring the repository up to date with the node's table. Raises ConfigError, StoreError, SourceUnavailable."""
    project = Gathering(source.select).project
    private, files = repository.look()
    state = _known(repository, files, project, force)
    shards = dict(_shards(source.select))
    sent = tuple(path for path, shard in shards.items() if state.shards.get(path) != shard)
    deleted = tuple(path for path in files if path.startswith("data/") and path not in shards)
    text = card(project, facts(source.select), said, CONFIGS)
    new = private is None
    done = Pushed(sent, len(shards) - len(sent), deleted, new, not public if private is None else private, text)
    if dry_run:
        return done
    if new:
        repository.create(private=not public)
    held = {path: shard for path, shard in state.shards.items() if path in shards}
    for page in pages(sent, TOGETHER):
        _send(source, repository, project, held, {path: shards[path] for path in page})
        tell(f"sent {len(page)} files, {len(held)} of {len(shards)} are there")
    _finish(source, repository, State(project.hash.hex(), shards), text, deleted)
    return done


def _known(repository: Repository, files: Sequence[str], project: Project, force: bool) -> State:
    """What the repository holds of this project. Raises ConfigError where it holds something else."""
    state = repository.state(files)
    nothing = State(project.hash.hex(), {})
    if state is not None and state.project == project.hash.hex():
        return State(state.project, {path: shard for path, shard in state.shards.items() if path in files})
    if force or (state is None and not [name for name in files if name not in OURS[:1]]):
        return nothing
    what = "the captions of another project" if state is not None else "something else"
    raise ConfigError(f"{repository.name} holds {what}. Name another repository, or add --force to overwrite it.")


def _shards(select: Select) -> Iterator[tuple[str, Shard]]:
    """The files that the table makes, by their paths."""
    for (number,) in _rows(select, SHARDS):
        first, last = number * SHARD, (number + 1) * SHARD - 1
        ((rows, digest),) = _rows(select, DIGEST.format(first=first, last=last))
        yield f"data/chunks-{first:06}-{last:06}.parquet", Shard(rows, digest)


def _send(
    source: Source, repository: Repository, project: Project, held: dict[str, Shard], wanted: dict[str, Shard]
) -> None:
    """Some files, and the state that has them."""
    with tempfile.TemporaryDirectory(prefix="p2pcap-") as folder:
        files: dict[str, Path | bytes] = {}
        for path, shard in wanted.items():
            place = Path(folder) / Path(path).name
            first, last = (int(part) for part in place.stem.split("-")[1:])
            with source.held() as one_state:
                write_parquet(one_state, Asked(), place, chunks=(first, last))
            files[path] = place
            held[path] = shard
        files[STATE] = _encoded(State(project.hash.hex(), held))
        repository.commit(f"Captions: {len(wanted)} files", files)


def _finish(source: Source, repository: Repository, state: State, text: str, deleted: Sequence[str]) -> None:
    """The card and who made the captions, and away with files that the table does not make any more."""
    with tempfile.TemporaryDirectory(prefix="p2pcap-") as folder:
        write_attribution(Path(folder), source.select)
        named: dict[str, Path | bytes] = {name: Path(folder) / name for name in FILES}
        files = {**named, "README.md": text.encode(), STATE: _encoded(state)}
        repository.commit("Card and contributors", files, deleted)


def _encoded(state: State) -> bytes:
    return msgspec.json.format(msgspec.json.encode(state, order="sorted"), indent=1) + b"\n"


def _rows(select: Select, sql: str) -> Iterator[tuple[Any, ...]]:
    for batch in select(sql):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """What goes wrong with the Hub, as ours."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        yield
    except HFValidationError as error:
        raise ConfigError(f"{name} is no repository's name. Write it as OWNER/NAME.") from error
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        status = getattr(getattr(error, "response", None), "status_code", 401)
        if status in (401, 403, 404):
            raise ConfigError(
                f"The Hub does not let you write {name}. Log in with hf auth login, or set HF_TOKEN to one that may."
            ) from error
        raise SourceUnavailable(
            f"The Hub did not take {name}: it answered {status}. Run it again; what is there already is not sent again."
        ) from error
    except (HTTPError, OSError, ValueError, RuntimeError) as error:  # RuntimeError: a file that could not be sent
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceUnavailable(
            f"The Hub did not take {name}: {what}. Run it again; what is there already is not sent again."
        ) from error
