"""Captions pushed to a Hub by `huggingface_hub` itself, and read back by `datasets` and `p2pcap verify`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import HfApi, constants

from p2pcap.errors import ConfigError, SourceUnavailable
from p2pcap.export import hub as hubs
from p2pcap.export.card import LARGEST, Said, size_class
from p2pcap.export.hub import Pushed, Repository, push
from p2pcap.export.verifying import verify_parquet
from tests.sources.fake_hub_writes import WritableHub
from tests.unit.proven import sourced
from tests.unit.store_project import ADA, BOB, kept, sample
from tests.unit.test_parquet_proof import everything

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""huggingface_hub's own way to send a file."""

PROJECT = sample(chunks=6, images=64)
REPO = "me/shapes"
FIRST = [PROJECT.slice(ADA, chunk, 0, 40) for chunk in range(5)]
LATER = [*FIRST, PROJECT.slice(BOB, 4, 40, 24), PROJECT.slice(BOB, 5, 0, 10)]
SAID = Said("CC-BY-4.0 by their authors", ("en",), ("shapes",), adult=True)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks in a file, two files in a commit."""
    monkeypatch.setattr(hubs, "SHARD", 2)
    monkeypatch.setattr(hubs, "SHARDS", hubs.SHARDS.replace("128", "2"))
    monkeypatch.setattr(hubs, "TOGETHER", 2)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As FakeHub.environment says; `huggingface_hub` was imported before."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub() -> Iterator[WritableHub]:
    with WritableHub({"me/other": {"README.md": b"mine"}}, tokens=("secret",)) as found:
        yield found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(tmp_path_factory.mktemp("first"), everything(PROJECT, FIRST))


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(tmp_path_factory.mktemp("later"), everything(PROJECT, LATER))


def pushed(hub: WritableHub, database: Path, repo: str = REPO, token: str = "secret", **options: Any) -> Pushed:
    api = HfApi(endpoint=hub.url, token=token)
    with sourced(database) as source:
        return push(source, Repository(api, repo), options.pop("said", SAID), **options)


def files(hub: WritableHub, repo: str = REPO) -> dict[str, bytes]:
    held = hub.repositories[repo]
    return {path: bytes(entry.content) for path, entry in held.commits[held.head].items()}


def test_a_first_push_makes_a_private_repository_with_everything(hub: WritableHub, first: Path) -> None:
    done = pushed(hub, first)
    assert (done.new, done.private, len(done.sent), done.kept) == (True, True, 3, 0)
    assert hub.repositories[REPO].private
    assert set(files(hub)) == {*hubs.OURS, *done.sent}
    assert [len(commit.added) for commit in hub.commits] == [3, 2, 4]


def test_each_file_proves_itself(hub: WritableHub, first: Path, tmp_path: Path) -> None:
    rows = 0
    for path in pushed(hub, first, public=True).sent:
        (tmp_path / "file.parquet").write_bytes(files(hub)[path])
        rows += verify_parquet(tmp_path / "file.parquet", PROJECT.project.hash, processes=1).tally.rows
    assert rows == 200
    assert not hub.repositories[REPO].private


def test_the_viewer_and_datasets_find_the_files(hub: WritableHub, first: Path, tmp_path: Path) -> None:
    import datasets

    pushed(hub, first)
    for path, data in files(hub).items():
        (tmp_path / "repo" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repo" / path).write_bytes(data)
    found = datasets.load_dataset(str(tmp_path / "repo"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.num_rows == 200
    assert found[0]["caption"] == "a red circle 0/0"
    assert found[0]["answers"][1]["prompt"] == "objects"


def test_a_later_push_sends_what_is_new_alone(hub: WritableHub, first: Path, later: Path) -> None:
    before = pushed(hub, first)
    kept = files(hub)[before.sent[0]]
    hub.commits.clear()
    done = pushed(hub, later)
    assert (done.sent, done.kept, done.new) == (("data/chunks-000004-000005.parquet",), 2, False)
    assert [path for commit in hub.commits for path in commit.added if path.startswith("data/")] == list(done.sent)
    assert files(hub)[before.sent[0]] == kept
    hub.commits.clear()
    assert pushed(hub, later).sent == ()
    assert not [path for commit in hub.commits for path in commit.added if path.startswith("data/")]


def test_files_that_the_table_does_not_make_any_more_go(hub: WritableHub, first: Path, tmp_path: Path) -> None:
    pushed(hub, first)
    fewer = kept(tmp_path, everything(PROJECT, FIRST[:2]))
    done = pushed(hub, fewer)
    assert len(done.deleted) == 2
    assert sorted(path for path in files(hub) if path.startswith("data/")) == ["data/chunks-000000-000001.parquet"]


def test_a_dry_run_changes_nothing_and_shows_the_card(hub: WritableHub, first: Path) -> None:
    done = pushed(hub, first, dry_run=True)
    assert (hub.commits, REPO in hub.repositories) == ([], False)
    assert len(done.sent) == 3
    assert done.card.startswith("---\n")


def test_a_push_that_broke_off_goes_on(hub: WritableHub, first: Path) -> None:
    calls: list[str] = []

    def break_off(line: str) -> None:
        calls.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pushed(hub, first, tell=break_off)
    assert len([path for path in files(hub) if path.startswith("data/")]) == 2
    done = pushed(hub, first)
    assert (len(done.sent), done.kept) == (1, 2)


def test_the_card_tells_all(hub: WritableHub, first: Path) -> None:
    pushed(hub, first)
    _, head, body = files(hub)["README.md"].decode().split("---\n", 2)
    found = yaml.safe_load(head)
    assert found["configs"] == hubs.CONFIGS
    assert found["size_categories"] == "n<1K"
    assert found["annotations_creators"] == ["machine-generated"]
    assert {"not-for-all-audiences", "p2pcap", "shapes"} <= set(found["tags"])
    for told in (
        PROJECT.project.hash.hex(),
        "tiny-shapes",
        "describe?",
        "CC-BY-4.0 by their authors".replace("-", r"\-"),
    ):
        assert told.replace(".", r"\.") in body or told in body


def test_other_repositories_are_left_alone(hub: WritableHub, first: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="something else"):
        pushed(hub, first, "me/other")
    assert files(hub, "me/other") == {"README.md": b"mine"}
    pushed(hub, first)
    strangers = sample(chunks=1, images=64, title="Others")
    other = kept(tmp_path, everything(strangers, [strangers.slice(ADA, 0, 0, 3)]))
    with pytest.raises(ConfigError, match="another project"):
        pushed(hub, other)
    assert pushed(hub, first, "me/other", force=True).new is False


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (lambda hub: hub.fail("/commit/", 500), SourceUnavailable),
        (lambda hub: hub.fail("/api/repos/create", 403), ConfigError),
        (lambda hub: hub.tokens.__class__, ConfigError),
    ],
)
def test_what_the_hub_refuses_is_told(
    hub: WritableHub, first: Path, break_it: Callable[[WritableHub], object], error: type[Exception]
) -> None:
    refused = break_it(hub)
    token = "wrong" if refused is tuple else "secret"
    with pytest.raises(error, match="Hub"):
        pushed(hub, first, token=token)


def test_a_name_that_is_none_is_told(hub: WritableHub, first: Path) -> None:
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        pushed(hub, first, "a/b/c")


@pytest.mark.parametrize(
    ("rows", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (999_999, "100K<n<1M"), (1_000_000, "1M<n<10M"),
     (9_999_999, "1M<n<10M"), (10_000_000, "10M<n<100M"), (10**9, LARGEST)],
)  # fmt: skip
def test_sizes_are_the_hubs(rows: int, name: str) -> None:
    assert size_class(rows) == name


def test_the_table_of_contributors_is_read_by_itself(hub: WritableHub, first: Path, tmp_path: Path) -> None:
    pushed(hub, first)
    (tmp_path / "who.parquet").write_bytes(files(hub)["contributors.parquet"])
    assert pq.read_table(tmp_path / "who.parquet").num_rows == 1
