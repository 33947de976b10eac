"""The Hub's listing and errors, with huggingface_hub unmodified against the fake Hub on loopback."""

import hashlib
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from p2pcap.errors import ConfigError, P2pcapError, SourceUnavailable
from p2pcap.sources import hub
from p2pcap.sources.hub import HubDataset, RepoFile
from tests.sources.fake_hub import FakeHub

FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/a.parquet": b"PAR1 not really",
    "images/two words/ü 'quoted' \"#1\" 😀.jpg": b"jpeg",
    "notes.txt": b"text",
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    names = ("open/set", "gated/set", "private/set")
    with FakeHub(
        dict.fromkeys(names, FILES), gated=("gated/set",), private=("private/set",), tokens=("let-in",), page=2
    ) as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        yield fake


def resolved(text: str) -> HubDataset:
    return trio.run(hub.resolve, text)


@pytest.mark.parametrize(
    ("text", "repo", "revision", "pattern"),
    [
        ("hf://datasets/o/n", "o/n", "", ""),
        ("hf://datasets/o/n/", "o/n", "", ""),
        ("hf://datasets/o/n@v1.0/data/*.parquet", "o/n", "v1.0", "data/*.parquet"),
        ("hf://datasets/o/n@refs/convert/parquet/default/**", "o/n", "refs/convert/parquet", "default/**"),
        ("hf://datasets/o/n@refs%2Fpr%2F3", "o/n", "refs/pr/3", ""),
        ("hf://datasets/o-1/n.2_x/a b/\n*.tar", "o-1/n.2_x", "", "a b/\n*.tar"),
    ],
)
def test_names_of_datasets(text: str, repo: str, revision: str, pattern: str) -> None:
    assert hub.named(text) == (repo, revision, pattern)


@pytest.mark.parametrize("text", ["hf://o/n", "hf://datasets/n", "hf://models/o/n", "hf://datasets/../n", "hf://"])
def test_other_names_say_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match="hf://datasets/OWNER/NAME"):
        hub.named(text)


def test_a_dataset_is_pinned_to_its_newest_commit(served: FakeHub) -> None:
    first = resolved("hf://datasets/open/set/data/**")
    assert first == HubDataset("open/set", served.revision("open/set"), "data/**")
    second = served.commit("open/set", {"b.parquet": b"other"})
    assert resolved("hf://datasets/open/set").revision == second != first.revision
    assert resolved(f"hf://datasets/open/set@{first.revision}").revision == first.revision


def test_the_listing_has_every_file_of_the_commit_over_several_pages(served: FakeHub) -> None:
    dataset = resolved("hf://datasets/open/set")
    served.commit("open/set", {"later.parquet": b""})
    found = trio.run(hub.files, dataset)
    assert [file.path for file in found] == sorted(FILES)
    assert served.asked("/tree/") > 2
    by_path = {file.path: file for file in found}
    data = FILES["data/a.parquet"]
    assert by_path["data/a.parquet"] == RepoFile("data/a.parquet", len(data), hashlib.sha256(data).digest())
    assert by_path["notes.txt"] == RepoFile("notes.txt", 4), "git's own hash is not that of the content"
    assert served.sent == 0


def test_a_listing_without_end_is_cut(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_FILES", 3)
    dataset = resolved("hf://datasets/open/set")
    with pytest.raises(ConfigError, match="pattern"):
        trio.run(hub.files, dataset)
    assert len(trio.run(hub.files, dataset, lambda path: path != "notes.txt")) == 3, "only what is kept counts"


def test_a_gated_dataset_says_to_accept_its_terms(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("", "not-let-in"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(ConfigError, match=r"gated\. Accept its terms at http.*/datasets/gated/set.*HF_TOKEN"):
            resolved("hf://datasets/gated/set")
    monkeypatch.setenv("HF_TOKEN", "let-in")
    assert resolved("hf://datasets/gated/set").revision == served.revision("gated/set")


def test_the_older_name_of_the_token_counts(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"private.*HF_TOKEN"):
        resolved("hf://datasets/private/set")
    monkeypatch.setenv("HUGGINGFACE_HUB_TOKEN", "let-in")
    assert len(trio.run(hub.files, resolved("hf://datasets/private/set"))) == len(FILES)
    monkeypatch.setenv("HF_TOKEN", "other")
    with pytest.raises(ConfigError, match="private"):
        resolved("hf://datasets/private/set")
    assert served.requests[-1].token == "other"


@pytest.mark.parametrize("status", [401, 403])
def test_access_that_is_revoked_while_listing_says_what_to_do(served: FakeHub, status: int) -> None:
    dataset = resolved("hf://datasets/open/set")
    served.fail("/tree/", status)
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        trio.run(hub.files, dataset)


@pytest.mark.parametrize("text", ["hf://datasets/no/such", "hf://datasets/open/set@no-such-branch"])
def test_what_is_not_there_is_named(served: FakeHub, text: str) -> None:
    with pytest.raises(ConfigError, match=r"no/such|no-such-branch"):
        resolved(text)


def test_a_hub_out_of_order_is_for_later(served: FakeHub) -> None:
    served.fail("/api/datasets/open/set", 500)
    with pytest.raises(SourceUnavailable, match="status 500"):
        resolved("hf://datasets/open/set")


def test_no_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(SourceUnavailable, match=r"cannot be reached.*Check the network"):
        resolved("hf://datasets/open/set")


def test_offline_says_what_forbids_it(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # read from the environment when the library is imported
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        resolved("hf://datasets/open/set")


def test_a_server_that_is_no_hub_is_said_to_be_none(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{served.url}/api/datasets/open/set/tree/main/notes.txt?")
    with pytest.raises(P2pcapError):
        resolved("hf://datasets/open/set")


def test_a_hub_that_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """`huggingface_hub` has no deadline of its own: its session waits for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(SourceUnavailable, match="did not answer in time"):
            trio.run(hub.files, HubDataset("open/set", "0" * 40), clock=trio.testing.MockClock(rate=1_000))
        end_of_thread, _ = silent.accept()
        with end_of_thread:
            end_of_thread.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
