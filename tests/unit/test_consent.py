"""What a volunteer is asked before anything is lent, and when it is asked again."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio

from p2pcap.cli.consent import Consent, described
from p2pcap.cli.main import run
from p2pcap.errors import ConfigError
from p2pcap.node.consent import Offer, changed, from_where, make_sure, read_terms, terms_of
from p2pcap.node.options import EngineOptions, NodeOptions
from p2pcap.project.items import Item, ItemList, ParquetRows
from p2pcap.project.opened import Project
from p2pcap.project.records import Stage
from p2pcap.project.task import Model, ModelFile, Prompt
from p2pcap.project.ticket import Ticket
from p2pcap.swarm.settings import SwarmSettings
from tests.makers import ADA, TASK, make_project, signed

PLAN = make_project((64,)).project.plan
HUB_TASK = msgspec.structs.replace(
    TASK, model=Model("Qwen/Qwen2.5-VL-7B", "ab" * 20), prompts=tuple(Prompt(f"p{n}", f"What {n}?") for n in range(6))
)


def project(*stages: Stage, **changes: object) -> Project:
    return signed(msgspec.structs.replace(PLAN, stages=stages or PLAN.stages, **changes))


def offer(of: Project, name: str = "Ada", **changes: object) -> Offer:
    return msgspec.structs.replace(Offer(of, terms_of(of, name), ADA.peer_id), **changes)


def options(folder: Path = Path("x"), **changes: object) -> NodeOptions:
    return NodeOptions(folder, "volunteer", Ticket("Shapes", bytes(32)), name="Ada", **changes)  # type: ignore[arg-type]


def test_what_is_shown() -> None:
    asked = project(
        Stage("caption", HUB_TASK), license="CC0-1.0", description="\x1b[2JPictures of\nshapes " + "x" * 1_000
    )
    large = {f"Qwen/Qwen2.5-VL-7B@{'ab' * 20}": 16_400_000_000}
    places = {"images_at": "the Hub (owner/pictures)", "image_bytes": 200_000.0}
    shown = msgspec.structs.replace(offer(asked), bytes=large, licenses=dict.fromkeys(large, "apache-2.0"), **places)
    limited = options(network=SwarmSettings(upload=1_000_000.0))
    text = "\n".join(described(shown, limited))
    for part in (
        "[2JPictures of shapes xxx",
        "64 images; captions under the licence: CC0-1.0",
        "(manifest 1; project ",
        "Qwen/Qwen2.5-VL-7B, of the Hub, revision abababababab, 16.4 GB, licence: apache-2.0",
        "asks       What 0?",
        "and 2 prompts more",
        "up to 90 % of each GPU (--gpu-memory)",
        "16.4 GB of models",
        "images come from the Hub (owner/pictures), about 200.0 kB for each that you caption",
        "up: 1.0 MB/s, down: no limit (--upload-limit, --download-limit)",
        f'with your key {ADA.peer_id} and the name "Ada"; peers see your IP address',
    ):
        assert part in text
    assert "\x1b" not in text
    assert shown.signed_by.startswith("12D3")
    assert shown.signed_by in text
    assert max(map(len, text.splitlines())) < 500


def test_what_is_not_known_is_said_to_be_so() -> None:
    small = msgspec.structs.replace(TASK, model=Model("shapes", files=(ModelFile("a.json", bytes(32), 10),)))
    text = "\n".join(described(offer(project(Stage("caption", small)), ""), options()))
    assert "shapes, from peers, by hash, size not told, licence: ask the maintainer" in text
    assert "captions under the licence: none given" in text
    assert 'the name "Ada"' in text
    served = options(engine=EngineOptions(kind="openai"))
    assert "servers that you name run it" in "\n".join(described(offer(project()), served))


def test_it_is_asked_again_when_something_material_has_changed() -> None:
    first = terms_of(project(), "Ada")
    assert changed(first, terms_of(project(description="other words", paused=True), "Ada")) == []
    other_prompts = msgspec.structs.replace(TASK, prompts=(Prompt("caption", "And now?"),))
    assert changed(first, terms_of(project(Stage("caption", other_prompts)), "Ada")) == []
    assert changed(first, terms_of(project(), "Grace")) == ["another name for your captions (Grace)"]
    (said,) = changed(first, terms_of(project(Stage("caption", HUB_TASK)), "Ada"))
    assert said.startswith("another model (Qwen/Qwen2.5-VL-7B@abab")
    assert changed(first, msgspec.structs.replace(first, root="0", project="1")) == [
        "another project", "other keys of the maintainer",
    ]  # fmt: skip


def listed(*files: ModelFile, name: str = "shapes") -> Project:
    return project(Stage("caption", msgspec.structs.replace(TASK, model=Model(name, files=files))))


def test_other_weights_of_one_name_are_asked_about() -> None:
    weights, config = ModelFile("model.safetensors", bytes(32), 10), ModelFile("config.json", b"\1" * 32, 5)
    first = terms_of(listed(weights, config), "Ada")
    assert changed(first, terms_of(listed(config, weights), "Ada")) == [], "the same, listed in another order"
    other = msgspec.structs.replace(weights, hash=b"\2" * 32)
    for files in ((other, config), (weights,), (msgspec.structs.replace(weights, name="w.safetensors"), config)):
        (said,) = changed(first, terms_of(listed(*files), "Ada"))
        assert said.startswith("another model (other weights of shapes@")
    assert len(said) < 100, "hashes are cut for people"
    (said,) = changed(first, terms_of(listed(weights, config, name="forms"), "Ada"))
    assert said.startswith("another model (forms@")
    stages = (Stage(name, msgspec.structs.replace(TASK, model=Model("shapes", files=files)))
              for name, files in (("one", (weights,)), ("two", (other,))))  # fmt: skip
    two = project(*stages)
    both = terms_of(two, "Ada")
    assert len(both.models) == 2
    assert changed(both, terms_of(listed(weights), "Ada")) == [], "fewer models ask for nothing more"
    shown = "\n".join(described(msgspec.structs.replace(offer(two), bytes=dict.fromkeys(both.models, 7)), options()))
    assert shown.count("shapes, from peers, by hash, 7 B") == 2, "each of them is shown"


def test_what_was_remembered_by_name_alone_is_asked_again(tmp_path: Path) -> None:
    asker, file, found = Asker(), tmp_path / "consent", listed(ModelFile("a.json", bytes(32), 10))
    by_name = msgspec.structs.replace(terms_of(found, "Ada"), models=("shapes@listed",))
    file.write_bytes(msgspec.json.encode(by_name))
    for _ in range(2):
        trio.run(make_sure, asker, Alone(), found, "Ada", file)  # type: ignore[arg-type]
    assert [asked.before for asked in asker.asked] == [by_name]


class Asker:
    """Says yes, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Offer] = []

    async def __call__(self, offer: Offer) -> None:
        self.asked.append(offer)


class Alone:
    """A swarm without peers, as far as consent needs one."""

    peer_id = ADA.peer_id

    async def fetch(self, *arguments: object) -> AsyncIterator[object]:
        for nothing in list[object]():
            yield nothing


def test_an_answer_is_remembered(tmp_path: Path) -> None:
    asker, file, found = Asker(), tmp_path / "consent", project()

    async def ask(of: Project, name: str) -> None:
        await make_sure(asker, Alone(), of, name, file)  # type: ignore[arg-type]

    trio.run(ask, found, "Ada")
    trio.run(ask, found, "Ada")
    assert [asked.before for asked in asker.asked] == [None]
    trio.run(ask, found, "Grace")
    assert [asked.before for asked in asker.asked[1:]] == [terms_of(found, "Ada")]
    file.write_bytes(b"{")
    trio.run(ask, found, "Grace")
    assert len(asker.asked) == 3
    assert read_terms(file) == terms_of(found, "Grace")


def test_nobody_there_and_nothing_said_is_no(tmp_path: Path) -> None:
    quiet: list[bool] = []
    before = terms_of(project(), "Grace")
    with pytest.raises(ConfigError, match=r"another name for your captions \(Ada\).*--yes"):
        trio.run(Consent(options(tmp_path), False, quiet.append), offer(project(), before=before))
    trio.run(Consent(options(tmp_path), True, quiet.append), offer(project()))
    assert quiet == [True, False], "the terminal is given back"


def test_a_first_join_without_a_terminal_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["join", str(Ticket("Shapes", bytes(32))), "--node", str(tmp_path / "node")]
    server = ["--engine", "openai", "--url", "http://127.0.0.1:9/v1"]
    assert run([*command, *server]) == 2
    assert "--yes" in capsys.readouterr().err
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize(
    ("found", "where"),
    [
        (ItemList((Item("a", bytes(32), 1),)), "other peers"),
        (ItemList((Item("a", b"", 0, url="https://a.example/x.jpg"), Item("b", b"", 0, url="https://b.example/"))),
         "a.example, b.example"),
        (ItemList(tuple(Item("a", b"", 0, url=f"https://{host}.example/") for host in "abcde")),
         "a.example, b.example, c.example and 2 more"),
        (ItemList((Item("a", b"", 0, at=0),),
                  parquet=ParquetRows(f"hf://datasets/owner/name@{'ab' * 20}/x.parquet", 9, (0,), "image")),
         "the Hub (owner/name)"),
        (ItemList((Item("a", b"", 0, url="gopher://x"),)), "a place that this version cannot read"),
    ],
)  # fmt: skip
def test_where_images_come_from(found: ItemList, where: str) -> None:
    assert from_where(found) == where
