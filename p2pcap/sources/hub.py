"""The Hub of Hugging Face, as the maintainer's machine asks it while it plans: which commit, which files.

`huggingface_hub` asks; its calls have no deadline of their own (its session waits for ever), so each has one here.
Always holds: a `HubDataset` is pinned to a commit, and what its listing holds in memory has a bound.
"""

import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

import structlog
import trio

from p2pcap.errors import ConfigError, SourceUnavailable
from p2pcap.sources.locations import HubFile

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = structlog.get_logger()

HUB = "hf://"
FORM = "hf://datasets/OWNER/NAME[@REVISION][/PATTERN]"
NAMED = re.compile(
    r"hf://datasets/(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/(?P<pattern>.*))?",
    re.ASCII | re.S,
)
COMMIT = re.compile(r"[0-9a-f]{40}")

ANSWER_SECONDS = 120.0
"""Deadline of one question, `huggingface_hub`'s own tries included."""

MAX_FILES = 300_000
"""Files of a listing that are kept, in about 100 MB; the Hub advises against over 100,000 in a repository."""

PAGE = 1_000
"""Entries that are taken from the listing's thread at a time; the Hub's own pages have as many."""

T = TypeVar("T")


@dataclass(frozen=True)
class HubDataset:
    """A repository of the Hub at a commit, and which of its files are meant (`pattern`; empty: all)."""

    repo: str
    revision: str
    pattern: str = ""

    def file(self, path: str) -> HubFile:
        """The location of one of its files."""
        return HubFile("datasets", self.repo, self.revision, path)


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file in a listing. `sha256` is that of its content where the Hub says it (LFS files), else empty."""

    path: str
    size: int
    sha256: bytes = b""


def endpoint() -> str:
    """The Hub's address, without a slash at its end. Raises SourceError when HF_ENDPOINT is none."""
    from p2pcap.sources.web.hub import endpoint as named_by_user

    return str(named_by_user()).rstrip("/")


def named(text: str) -> tuple[str, str, str]:
    """Repository, revision (empty: the newest) and pattern (empty: all files) that an hf:// text names. Raises
    ConfigError when it is none."""
    found = NAMED.fullmatch(text)
    if found is None:
        raise ConfigError(f"{text} does not name a dataset on the Hub. Write it as {FORM}.")
    return found["repo"], unquote(found["revision"] or ""), (found["pattern"] or "").strip("/")


async def resolve(text: str) -> HubDataset:
    """The dataset that `text` names, at the commit that its revision stands for now.

    Raises ConfigError when there is none, or this machine may not read it; SourceUnavailable when the Hub does not
    answer.
    """
    repo, revision, pattern = named(text)

    def ask(api: "HfApi") -> HubDataset:
        info = api.dataset_info(repo, revision=revision or None, timeout=ANSWER_SECONDS)
        if info.gated:
            api.auth_check(repo, repo_type="dataset")
        return HubDataset(info.id, info.sha or "", pattern)

    found = await _ask(ask, repo, revision)
    if not COMMIT.fullmatch(found.revision) or not NAMED.fullmatch(f"{HUB}datasets/{found.repo}"):
        raise SourceUnavailable(f"The Hub at {endpoint()} names no commit of {repo}. Check HF_ENDPOINT.")
    return found


async def listing(dataset: HubDataset) -> AsyncGenerator[RepoFile, None]:
    """The repository's files, page by page, in the Hub's order. Raises as `resolve` does."""

    def start(api: "HfApi") -> Iterator[RepoFile]:
        tree = api.list_repo_tree(dataset.repo, recursive=True, revision=dataset.revision, repo_type="dataset")
        return (_described(entry) for entry in tree if hasattr(entry, "size"))

    entries = await _ask(start, dataset.repo, dataset.revision)
    while page := await _ask(lambda _: list(islice(entries, PAGE)), dataset.repo, dataset.revision):
        for entry in page:
            yield entry


async def files(dataset: HubDataset, keep: Callable[[str], bool] = lambda _: True) -> list[RepoFile]:
    """The repository's files whose path is to be kept, in order of their paths. Raises as `resolve` does, and
    ConfigError for more than MAX_FILES."""
    found = []
    async with aclosing(listing(dataset)) as entries:
        async for entry in entries:
            if keep(entry.path):
                found.append(entry)
            if len(found) > MAX_FILES:
                raise ConfigError(
                    f"{dataset.repo} has over {MAX_FILES} files. Name a part of them with a pattern ({FORM}), or have "
                    "them packed into Parquet or tar files."
                )
    return sorted(found, key=lambda entry: entry.path)


def _described(entry: object) -> RepoFile:
    """A file as the listing has it. What a Hub says that is not so shows when the file is read."""
    lfs = getattr(entry, "lfs", None)
    digest = bytes.fromhex(lfs.sha256) if lfs else b""
    path, size = entry.path, entry.size  # type: ignore[attr-defined]
    return RepoFile(path, size, digest if len(digest) == 32 else b"")


async def _ask(question: Callable[["HfApi"], T], repo: str, revision: str) -> T:
    """What the Hub answers, asked in a thread. A thread whose deadline is over is left behind: it holds nothing."""

    def asked() -> T:
        return _answer(question, repo, revision)

    with trio.move_on_after(ANSWER_SECONDS):
        return await trio.to_thread.run_sync(asked, abandon_on_cancel=True)
    raise SourceUnavailable(f"The Hub at {endpoint()} did not answer in time. Try again later.")


def _answer(question: Callable[["HfApi"], T], repo: str, revision: str) -> T:
    """Raises the errors of p2pcap for those of huggingface_hub, the narrower ones first."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, errors

    from p2pcap.sources.web.hub import read_token

    page = f"{endpoint()}/datasets/{repo}"
    try:
        return question(HfApi(endpoint=endpoint(), token=read_token()))
    except errors.GatedRepoError as error:
        raise ConfigError(
            f"The dataset {repo} is gated. Accept its terms at {page}, and set HF_TOKEN to a token of that account."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(f"The dataset {repo} has no revision {revision}. Its page {page} lists them.") from error
    except errors.RepositoryNotFoundError as error:
        raise ConfigError(
            f"The Hub has no dataset {repo}, or it is private. Check the name; for a private one set HF_TOKEN."
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise ConfigError("HF_HUB_OFFLINE forbids asking the Hub. Unset it to plan a dataset from there.") from error
    except errors.HfHubHTTPError as error:
        raise _refused(error.response.status_code, repo, page) from error
    except (HTTPError, OSError) as error:
        raise SourceUnavailable(
            f"The Hub at {endpoint()} cannot be reached ({type(error).__name__}). Check the network."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise SourceUnavailable(
            f"The Hub at {endpoint()} answers what no Hub does ({type(error).__name__}). Check HF_ENDPOINT."
        ) from error


def _refused(status: int, repo: str, page: str) -> ConfigError | SourceUnavailable:
    if status in (401, 403):
        return ConfigError(
            f"The Hub does not let this machine read {repo} (status {status}). Accept the terms at {page} if it has "
            "some, and set HF_TOKEN to a token that may read it."
        )
    if status in (404, 410):
        return ConfigError(f"The Hub has no dataset {repo} any more (status {status}). Check its page {page}.")
    return SourceUnavailable(f"The Hub refused to list {repo} (status {status}). Try again later.")
