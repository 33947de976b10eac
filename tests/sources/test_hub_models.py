"""Models of the Hub, from a Hub on loopback: what is fetched, what is said meanwhile, and what is in the way."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from huggingface_hub import close_session, hf_hub_download

from p2pcap.errors import ModelError
from p2pcap.node import hub_models
from p2pcap.node.hub_models import HubFacts, Progress, Stopped, check_room, hub_facts, hub_model
from p2pcap.node.models import model_directory
from p2pcap.project.task import Model
from tests.engine.test_weights import safetensors
from tests.sources.fake_hub import FakeHub

FILES: dict[str, Any] = {
    "config.json": b'{"architectures": ["X"]}',
    "model.safetensors": safetensors({"a": ("F32", [75_000], 300_000)}),
    "pytorch_model.bin": b"pickle",
    "modeling_x.py": b"print('code')",
    "README.md": b"# X",
}
WEIGHTS = len(FILES["model.safetensors"])
NAME = "lab/model"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's library tries five times, and waits 23 s between."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    gated, private = f"{NAME}-gated", f"{NAME}-private"
    with FakeHub({NAME: FILES, gated: FILES, private: FILES}, (gated,), (private,), ("hf_let_in",)) as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def model(hub: FakeHub, name: str = NAME) -> Model:
    return Model(name, hub.revision(name))


def fetched(hub: FakeHub, name: str = NAME, code: bool = False) -> set[str]:
    return {path.name for path in hub_model(model(hub, name), code, Progress()).iterdir()}


def test_data_is_fetched_and_nothing_that_could_run(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    directory = hub_model(model(hub), False, progress)
    assert {path.name for path in directory.iterdir()} == {"config.json", "model.safetensors"}
    assert (directory / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert progress.done == progress.total == WEIGHTS + len(FILES["config.json"])
    assert hub.asked("pickle") == hub.asked("modeling_x.py") == hub.asked("pytorch_model.bin") == 0
    assert capfd.readouterr() == ("", ""), "the library shows no bars of its own"


def test_code_is_fetched_with_the_volunteer_s_word_also_later(hub: FakeHub) -> None:
    assert "modeling_x.py" not in fetched(hub)
    assert fetched(hub, code=True) == {"config.json", "model.safetensors", "modeling_x.py"}
    assert hub.bytes_of("model.safetensors") == WEIGHTS, "what was here stayed"


def test_the_pinned_revision_is_fetched_and_not_a_newer_one(hub: FakeHub) -> None:
    pinned = model(hub)
    hub.commit(NAME, {**FILES, "config.json": b"{}"})
    assert (hub_model(pinned, False, Progress()) / "config.json").read_bytes() == FILES["config.json"]


@pytest.mark.usefixtures("impatient")
def test_what_is_here_needs_no_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hub_model(model(hub), False, Progress())
    asked = len(hub.requests)
    assert hub_model(model(hub), False, Progress()) == first
    assert len(hub.requests) == asked
    # Older libraries, and other programs with them, leave no list of a model's files beside it.
    monkeypatch.setattr("huggingface_hub._snapshot_download.read_tree_cache", lambda *arguments: None)
    hub.fail("", 500, times=100)
    assert hub_model(model(hub), False, Progress()) == first


def left_by_another(hub: FakeHub, *names: str) -> None:
    """Some of the model's files in the cache, as a program that fetched them one by one leaves them."""
    for name in names:
        hf_hub_download(NAME, name, revision=hub.revision(NAME), endpoint=hub.url)


def test_what_another_program_has_fetched_in_part_is_fetched_whole(hub: FakeHub) -> None:
    left_by_another(hub, "config.json")
    assert fetched(hub) == {"config.json", "model.safetensors"}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "part", [("config.json",), ("model.safetensors",), ("config.json", "pytorch_model.bin")], ids=" ".join
)
def test_a_part_is_not_taken_for_the_model_when_the_hub_is_away(hub: FakeHub, part: tuple[str, ...]) -> None:
    left_by_another(hub, *part)
    hub.fail("", 500, times=100)
    with pytest.raises(ModelError, match="cannot be fetched from the Hub"):
        fetched(hub)


def test_a_model_of_pickles_says_that_these_are_not_fetched(hub: FakeHub) -> None:
    pickles = Model(NAME, hub.commit(NAME, {"config.json": FILES["config.json"], "pytorch_model.bin": b"pickle"}))
    with pytest.raises(ModelError, match=r"no weights as safetensors.*pytorch_model\.bin can run code.*--model"):
        hub_model(pickles, False, Progress())
    assert hub.sent == 0


def test_people_hear_how_far_it_is(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    seen = trio.Event()

    def say(text: str) -> None:
        heard.append(text)
        seen.set()

    def slow(model: Model, code: bool, progress: Progress) -> Path:
        progress.total = 2_000_000_000
        progress.add(500_000_000)
        trio.from_thread.run(seen.wait)
        return hub_model(model, code, Progress())

    async def no_blob(hash_: bytes, length: int) -> bytes:
        raise AssertionError("a model of the Hub does not come from peers")

    async def main() -> Path:
        return await model_directory(model(hub), None, Path("/nowhere"), no_blob, say=say)

    monkeypatch.setattr("p2pcap.node.models.hub_model", slow)
    directory = trio.run(main)
    assert heard[0] == "fetching the model lab/model: 0.50 of 2.00 GB"
    assert (directory / "config.json").exists()


def test_a_download_that_nobody_waits_for_ends(hub: FakeHub) -> None:
    progress = Progress()
    progress.stop()
    with pytest.raises(Stopped):
        hub_model(model(hub), False, progress)
    assert hub.bytes_of("model.safetensors") <= WEIGHTS


# what is in the way


def test_a_gated_model_says_where_to_ask_and_opens_with_a_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    gated = f"{NAME}-gated"
    with pytest.raises(ModelError, match=rf"{gated} is gated: ask its authors for access at http.*/{gated}.*HF_TOKEN"):
        fetched(hub, gated)
    monkeypatch.setenv("HF_TOKEN", "hf_let_in")
    assert "config.json" in fetched(hub, gated)


def test_a_private_model_and_one_that_is_not_there_are_told_alike(hub: FakeHub) -> None:
    for missing in (model(hub, f"{NAME}-private"), Model("lab/nothing", "0" * 40)):
        with pytest.raises(ModelError, match=rf"has no model {missing.name}, or it is private"):
            hub_model(missing, False, Progress())


def test_a_revision_that_is_gone(hub: FakeHub) -> None:
    with pytest.raises(ModelError, match="has no revision 0000"):
        hub_model(Model(NAME, "0" * 40), False, Progress())


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_is_not_there(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(ModelError, match=r"cannot be fetched.*Check the network.*--model"):
            fetched(hub)


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_fails(hub: FakeHub) -> None:
    hub.fail("", 500, times=100)
    with pytest.raises(ModelError, match=r"cannot be fetched from the Hub at http"):
        fetched(hub)


ANSWERS = {
    "RemoteProtocolError": b"",
    "JSONDecodeError": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nhtml",
    "TypeError": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n[[]]",
    "ProxyError": b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n",
}


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """Something on loopback that answers whatever it is asked with `data` and hangs up."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Hub's library reads proxies once and keeps its connections."""
    close_session()
    yield
    monkeypatch.undo()
    close_session()


@pytest.mark.usefixtures("impatient", "forgetful")
@pytest.mark.parametrize("error", ANSWERS)
def test_a_hub_that_is_none(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    pinned = model(hub)
    with answering(ANSWERS[error]) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        if error == "ProxyError":
            monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
            monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(ModelError, match=rf"cannot be fetched from the Hub.*\({error}\)\. Check the network"):
            hub_model(pinned, False, Progress())


def test_an_endpoint_that_is_none(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(ModelError, match="HF_ENDPOINT"):
        fetched(hub)


def test_a_disk_without_room_is_found_before_a_byte_is_fetched(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_models, "SPARE", 10**18)
    with pytest.raises(ModelError, match=r"lab/model needs 0\.0 GB more on the disk of .* GB free\. Make room"):
        fetched(hub)
    assert hub.sent == 0


def test_a_disk_that_fills_up_meanwhile(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Progress, count: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Progress, "add", full)
    with pytest.raises(ModelError, match="The disk is full"):
        fetched(hub)


def test_room_is_looked_for_on_the_disk_where_the_model_goes(tmp_path: Path) -> None:
    check_room("m", 1, tmp_path / "not" / "made" / "yet")
    with pytest.raises(ModelError, match=f"on the disk of {tmp_path}"):
        check_room("m", 10**18, tmp_path / "not" / "made" / "yet")


def test_messages_are_one_line(hub: FakeHub) -> None:
    for bad in (Model("lab/nothing", "0" * 40), Model(NAME, "0" * 40), model(hub, f"{NAME}-gated")):
        with pytest.raises(ModelError) as error:
            hub_model(bad, False, Progress())
        assert "\n" not in str(error.value)


def test_what_the_hub_tells_before_anything_is_fetched(hub: FakeHub) -> None:
    found = hub_facts(model(hub))
    assert found.bytes == sum(
        len(data) for name, data in FILES.items() if Path(name).suffix in (".json", ".safetensors")
    )
    assert hub.sent == 0
    assert hub_facts(Model("owner/none", "0" * 40)) == HubFacts()
