"""A project that was served is signed again: what was captioned stays in its place, and the rest may change."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from p2pcap.errors import CodecError, ConfigError, UntrustedError
from p2pcap.node.bundle import read_bundle, write_bundle
from p2pcap.project.items import Item, ItemList, ParquetRows, TarRange, decode_list, encode_list
from p2pcap.project.opened import Project, check_follows, open_items
from p2pcap_bootstrap import config, earlier, known_images, signing
from p2pcap_bootstrap.inspecting import inspect
from p2pcap_bootstrap.known_images import KnownImages, identity
from p2pcap_bootstrap.planning import list_blob
from p2pcap_bootstrap.signing import Signed, sign
from p2pcap_bootstrap.workspace import Workspace
from tests.makers import chunks_of
from tests.unit.coordinator import change, file_of, new_project, sign_again, signed_project, tree, write_images

OTHER = [{"name": "caption", "text": "What is that?"}]
URLS = ["url\n", *(f"https://example.org/{number:06}.jpg\n" for number in range(64 * 1_030))]
THIRD = [{"name": "caption", "text": "And that?"}]


def served(base: Path, images: int = 100) -> tuple[Workspace, Project]:
    workspace = signed_project(base, images)
    workspace.draft.unlink()
    return workspace, workspace.project()


def again(workspace: Workspace, **fields: Any) -> tuple[Signed, Project]:
    """Signed again with these keys in the file, and what follows from it checked as every volunteer does."""
    before = workspace.project()
    change(workspace, **fields)
    signed = sign(workspace, file_of(workspace), lambda number: None)
    after = workspace.project()
    check_follows(after, before)
    assert after.manifest.version == before.manifest.version + 1
    return signed, after


def keys_of(workspace: Workspace) -> list[list[str]]:
    project = workspace.project()
    return [[item.key for item in open_items(workspace.blob(chunk.items), chunk)] for chunk in chunks_of(project)]


def test_a_draft_is_one_until_it_was_served(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    assert workspace.draft.exists()
    sign_again(workspace)
    assert signing.in_force(workspace) is None
    workspace.draft.unlink()
    sign_again(workspace)
    assert not workspace.draft.exists()
    assert signing.in_force(workspace) == workspace.project()


def test_new_images_make_new_chunks_behind_the_others(tmp_path: Path) -> None:
    workspace, before = served(tmp_path)
    images = tmp_path / "images"
    (images / "00000a.png").write_bytes(b"comes second by its name")
    (images / "zz").mkdir()
    (images / "zz" / "z.png").write_bytes(b"comes last")
    signed, after = again(workspace)
    assert (signed.added, signed.gone) == (2, 0)
    assert chunks_of(after)[:2] == chunks_of(before)
    assert keys_of(workspace)[2:] == [["00000a.png", "zz/z.png"]]
    assert after.stages == before.stages


def test_nothing_new_adds_nothing(tmp_path: Path) -> None:
    workspace, before = served(tmp_path)
    signed, after = again(workspace)
    assert (signed.added, signed.gone, after.plan.chunks) == (0, 0, before.plan.chunks)


def test_images_that_went_stay_in_their_places(tmp_path: Path) -> None:
    workspace, before = served(tmp_path)
    for name in ("00003.png", "00070.png"):
        (tmp_path / "images" / name).unlink()
    signed, after = again(workspace)
    assert (signed.added, signed.gone, after.plan.chunks) == (0, 2, before.plan.chunks)


def test_a_file_that_changed_is_a_new_image(tmp_path: Path) -> None:
    workspace, _before = served(tmp_path)
    (tmp_path / "images" / "00003.png").write_bytes(b"another")
    signed, _after = again(workspace)
    assert (signed.added, signed.gone) == (1, 1)
    assert keys_of(workspace)[2] == ["00003.png"]


def test_copies_stay_as_many_as_there_are(tmp_path: Path) -> None:
    workspace = new_project(tmp_path, 3)
    images = [b"a", b"b", b"a", b"a"]
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "id": ["x"] * 4}), tmp_path / "a.parquet")
    change(workspace, images={"source": "../a.parquet", "key_column": "id"})
    sign_again(workspace)
    workspace.draft.unlink()
    pyarrow.parquet.write_table(pyarrow.table({"image": [*images, b"a"], "id": ["x"] * 5}), tmp_path / "a.parquet")
    signed, _ = again(workspace)
    assert (signed.added, signed.gone) == (1, 0)


def test_another_size_of_chunks_is_for_new_ones(tmp_path: Path) -> None:
    workspace, before = served(tmp_path)
    write_images(tmp_path / "images", 400)
    _, after = again(workspace, chunk=128)
    assert [*after.counts] == [64, 36, 128, 128, 44]
    assert chunks_of(after)[:2] == chunks_of(before)


def test_many_signings_keep_every_earlier_chunk(tmp_path: Path) -> None:
    workspace, before = served(tmp_path, 10)
    for count in (70, 71, 200):
        write_images(tmp_path / "images", count)
        _, after = again(workspace)
        assert chunks_of(after)[: len(before.counts)] == chunks_of(before)
        before = after
    assert [*before.counts] == [10, 60, 1, 64, 64, 1]
    assert sorted(key for keys in keys_of(workspace) for key in keys) == [f"{number:05}.png" for number in range(200)]


def test_a_changed_prompt_is_a_new_task_and_the_old_one_a_former_one(tmp_path: Path) -> None:
    workspace, before = served(tmp_path)
    _, second = again(workspace, prompts=OTHER)
    assert second.plan.former == (before.stages[0].task,)
    _, third = again(workspace, prompts=THIRD)
    assert third.plan.former == (before.stages[0].task, second.stages[0].task)
    _, back = again(workspace, prompts=OTHER)
    assert back.stages[0].task == second.stages[0].task
    assert back.plan.former == (before.stages[0].task, third.stages[0].task)


def test_a_second_stage_leaves_the_first_as_it_is(tmp_path: Path) -> None:
    workspace, before = served(tmp_path)
    _, after = again(workspace, stages=[{"name": "first"}, {"name": "second", "prompts": OTHER}])
    assert after.stages[0].task == before.stages[0].task
    assert after.plan.former is UNSET


def test_a_stage_keeps_what_its_earlier_tasks_have_answered(tmp_path: Path) -> None:
    workspace, before = served(tmp_path)
    _, second = again(workspace, prompts=OTHER, keep=True)
    assert second.stages[0].keeps == (before.stages[0].task.tid,)
    _, third = again(workspace, prompts=THIRD)
    assert third.stages[0].keeps == (before.stages[0].task.tid, second.stages[0].task.tid)
    _, same = again(workspace)
    assert same.stages == third.stages
    _, anew = again(workspace, keep=False)
    assert anew.stages[0].keeps is UNSET


def test_too_many_earlier_tasks_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, _ = served(tmp_path, 3)
    monkeypatch.setattr(earlier, "MAX_FORMER_TASKS", 1)
    again(workspace, prompts=OTHER)
    files = tree(workspace.directory / "signed")
    with pytest.raises(ConfigError, match="would have 2 former tasks; 1 are the most"):
        again(workspace, prompts=THIRD)
    assert tree(workspace.directory / "signed") == files
    monkeypatch.undo()
    monkeypatch.setattr(earlier, "MAX_STAGES", 1)
    change(workspace, keep=True)
    again(workspace, prompts=THIRD)
    with pytest.raises(ConfigError, match="Stage main keeps the answers of 2 earlier tasks"):
        again(workspace, prompts=[{"name": "caption", "text": "a fourth"}])


def test_a_pause_stays_until_the_file_says_otherwise(tmp_path: Path) -> None:
    workspace, _ = served(tmp_path, 3)
    two: list[dict[str, Any]] = [{"name": "first"}, {"name": "second", "prompts": OTHER, "paused": True}]
    _, paused = again(workspace, paused=True, stages=two)
    assert (paused.plan.paused, [stage.paused for stage in paused.stages]) == (True, [UNSET, True])
    del two[1]["paused"]
    file = workspace.directory / config.FILE
    silent = {key: value for key, value in yaml.safe_load(file.read_text()).items() if key != "paused"}
    file.write_text(yaml.safe_dump(silent))
    _, still = again(workspace, stages=two)
    assert (still.plan.paused, still.stages) == (True, paused.stages)
    _, none = again(workspace, paused=False, stages=[two[0], two[1] | {"paused": False}])
    assert (none.plan.paused, [stage.paused for stage in none.stages]) == (UNSET, [UNSET, UNSET])


def test_a_field_that_signed_images_lack_cannot_be_asked_for(tmp_path: Path) -> None:
    workspace, _ = served(tmp_path, 3)
    (tmp_path / "images" / "00001.txt").write_text("A cat.")
    asks = [{"name": "caption", "text": "Improve: {txt}"}]
    with pytest.raises(ConfigError, match="Stage main asks for the field 'txt', which the signed images do not have"):
        again(workspace, images={"source": "../images", "fields": ["txt"]}, prompts=asks)
    other = signed_project(tmp_path / "other", 3)
    (tmp_path / "other" / "images" / "00001.txt").write_text("A cat.")
    change(other, images={"source": "../images", "fields": ["txt"]})
    sign_again(other)
    other.draft.unlink()
    _, after = again(other, prompts=asks)
    assert after.stages[0].task.fields == ("txt",)


def test_without_images_nobody_looks_for_them(tmp_path: Path) -> None:
    workspace, before = served(tmp_path, 3)
    (tmp_path / "images").rename(tmp_path / "away")
    change(workspace, prompts=OTHER)
    assert sign(workspace, file_of(workspace), lambda number: None, images=False).added == 0
    after = workspace.project()
    check_follows(after, before)
    assert after.stages != before.stages


def test_images_here_and_elsewhere_do_not_mix(tmp_path: Path) -> None:
    workspace, before = served(tmp_path, 3)
    (tmp_path / "urls.csv").write_text("url\nhttps://example.org/1.jpg\n")
    with pytest.raises(ConfigError, match="Make a new project"):
        again(workspace, images={"source": "../urls.csv"})
    assert workspace.project() == before


def test_addresses_that_are_added_come_behind_the_others(tmp_path: Path) -> None:
    workspace = new_project(tmp_path, 1)
    table = tmp_path / "urls.csv"
    table.write_text("url\n" + "".join(f"https://example.org/{number}.jpg\n" for number in range(70)))
    change(workspace, images={"source": str(table)})
    sign_again(workspace)
    workspace.draft.unlink()
    before = workspace.project()
    table.write_text("url\n" + "".join(f"https://example.org/{number}.jpg\n" for number in range(-5, 70)))
    signed, after = again(workspace)
    assert (signed.added, signed.gone) == (5, 0)
    assert after.plan.fetch == before.plan.fetch
    added = open_items(workspace.blob(chunks_of(after)[-1].items), chunks_of(after)[-1])
    assert [item.url for item in added] == [f"https://example.org/{number}.jpg" for number in range(-5, 0)]


def test_a_chunk_that_is_gone_is_not_signed_over(tmp_path: Path) -> None:
    workspace, before = served(tmp_path)
    (workspace.directory / "signed" / "blobs" / chunks_of(before)[1].items.hex()).unlink()
    with pytest.raises(UntrustedError, match="misses a file"):
        again(workspace)


# the deadline


def test_a_day_is_a_deadline_at_its_end(tmp_path: Path) -> None:
    workspace, _ = served(tmp_path, 3)
    _, after = again(workspace, deadline=datetime.date(2999, 1, 31))
    assert after.plan.deadline == datetime.datetime(2999, 2, 1, tzinfo=datetime.UTC).timestamp()
    zone = datetime.timezone(datetime.timedelta(hours=2))
    _, after = again(workspace, deadline=datetime.datetime(2999, 1, 31, 18, tzinfo=zone))
    assert after.plan.deadline == datetime.datetime(2999, 1, 31, 16, tzinfo=datetime.UTC).timestamp()


def test_a_deadline_that_has_passed_is_not_signed(tmp_path: Path) -> None:
    workspace, _ = served(tmp_path, 3)
    with pytest.raises(ConfigError, match=r"The deadline in project.yaml, 2020-01-02 00:00 UTC, has passed"):
        again(workspace, deadline=datetime.date(2020, 1, 1))


# what tells one image from another

HUB, NEWER = (f"hf://datasets/owner/name@{digit * 40}/a.parquet" for digit in "01")
ROW = Item("a.parquet#7", b"", 0, at=7)


def rows_of(file: str, size: int = 100, groups: tuple[int, ...] = (0,)) -> ItemList:
    return ItemList((ROW,), parquet=ParquetRows(file, size, groups, "image"))


def of_one(item: Item) -> ItemList:
    return ItemList((item,))


SAME = [
    (of_one(Item("a", bytes(32), 5)), of_one(Item("a", bytes(32), 5, fields={"t": "x"}))),
    (rows_of(HUB), rows_of(NEWER)),
    (rows_of(HUB), rows_of(HUB, groups=(0, 1))),
    (of_one(Item("a#1", b"", 0, url="https://e.org/1")), of_one(Item("a#9", b"", 0, url="https://e.org/1"))),
]
OTHERS = [
    of_one(Item("a", bytes(32), 5)),
    of_one(Item("b", bytes(32), 5)),
    of_one(Item("a", b"\1" * 32, 5)),
    of_one(Item("a", b"", 0, url="https://e.org/1")),
    of_one(Item("a", bytes(32), 0, url="https://e.org/1")),
    of_one(Item("a", b"", 0, url="https://e.org/2")),
    rows_of(HUB),
    rows_of(HUB, size=101),
    rows_of(HUB.replace("name", "other")),
    ItemList((Item("a", b"", 5, at=512),), tar=TarRange("https://e.org/a.tar", 10_000, 0, 10_000)),
    ItemList((Item("a", b"", 5, at=1024),), tar=TarRange("https://e.org/a.tar", 10_000, 0, 10_000)),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_is_the_same_image_for_planning(one: ItemList, other: ItemList) -> None:
    assert identity(one, one.items[0]) == identity(other, other.items[0])


def test_what_are_different_images_for_planning() -> None:
    assert len({identity(found, found.items[0]) for found in OTHERS}) == len(OTHERS)


@given(st.lists(st.integers(0, 9), max_size=60), st.lists(st.integers(0, 9), max_size=60))
def test_known_images_are_a_set_with_numbers(added: list[int], taken: list[int]) -> None:
    known, left = KnownImages(), list(added)
    for number in added:
        known.add(of_one(Item(str(number), bytes(32), 5)))
    for number in taken:
        item = Item(str(number), bytes(32), 5)
        assert known.take(of_one(item), item) is (number in left)
        if number in left:
            left.remove(number)
    assert known.left == len(left)


def test_tails_that_overlap_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bucket, the bytes of two images that are neighbours are no third one."""
    monkeypatch.setattr(known_images, "identity", lambda found, item: item.hash[:10])

    def image(tail: bytes) -> Item:
        return Item("a", (b"hd" + tail).ljust(32), 5)

    known = KnownImages()
    known.add(ItemList((image(b"abcdefgh"), image(b"ijklmnop"))))
    third = image(b"efghijkl")
    assert not known.take(of_one(third), third)
    known.add(of_one(third))
    assert known.take(of_one(third), third)
    assert known.left == 2


# the blob of a list

LINK = b"\x01\x55\x12\x1c" + bytes(28)
"""A hash that libipld takes for a link."""

texts = st.text(max_size=20)
hashes = st.sampled_from([b"", bytes(32), LINK, b"\xd8\x2a" * 16]) | st.binary(min_size=32, max_size=32)
places = st.builds(
    Item,
    key=st.text(min_size=1, max_size=20),
    hash=hashes,
    length=st.integers(0, 2**26),
    url=st.text(min_size=1, max_size=20),
    fields=st.just(UNSET) | st.dictionaries(st.text(min_size=1, max_size=9), texts, max_size=3),
)


@given(st.lists(places, min_size=1, max_size=5))
def test_a_list_is_written_as_the_protocol_says(items: list[Item]) -> None:
    found = ItemList(tuple(items))
    assert list_blob(found) == encode_list(found)
    assert decode_list(list_blob(found), 1 << 20) == found


def test_a_list_of_a_file_is_written_as_the_protocol_says() -> None:
    for found in OTHERS:
        assert list_blob(found) == encode_list(found)


def test_the_library_makes_links_of_hashes() -> None:
    """Why not all lists are written by it."""
    import libipld

    found = of_one(Item("a", LINK, 5))
    assert libipld.encode_dag_cbor([{"key": "a", "hash": LINK, "length": 5}]) != encode_list(found)
    assert list_blob(found) == encode_list(found)


def test_a_list_beyond_a_limit_is_no_blob() -> None:
    with pytest.raises(CodecError, match="does not fit its schema"):
        list_blob(of_one(Item("k" * 1_025, bytes(32), 5)))


# a chunk table with pages


def test_rows_that_fill_a_page_keep_their_places_and_travel_with_the_project(tmp_path: Path) -> None:
    table, file = tmp_path / "urls.csv", tmp_path / "urls.p2pcap"
    table.write_text("".join(URLS[: 64 * 1_010 + 1]))
    workspace = new_project(tmp_path, images=1)
    change(workspace, images={"source": "../urls.csv"}, chunk=64)
    sign_again(workspace)
    workspace.draft.unlink()
    before = workspace.project()
    assert (len(before.counts), before.plan.chunks.pages) == (1_010, ())

    table.write_text("".join(URLS))
    sign_again(workspace)
    after = workspace.project()
    (page,) = after.plan.chunks.pages
    assert (len(after.counts), len(after.plan.chunks.rows)) == (1_030, 6 * 36)
    kept = after.chunks(workspace.blob)
    assert [kept[number] for number in range(1_010)] == list(before.chunks(workspace.blob))
    with pytest.raises(UntrustedError, match="not the one that the plan names"):
        check_follows(after, before)
    check_follows(after, before, workspace.blob(page))

    write_bundle(after, workspace.lists(after), file)
    seed = read_bundle(file, after.hash)
    assert dict(seed.blobs) == dict(workspace.lists(after))
    assert len(seed.blobs) == 1 + 1_030
    path = workspace.directory / "signed" / "blobs" / page.hex()
    report = inspect(str(path), 0.0, lambda limit: b"")
    assert (report.kind, report.holds) == ("page", True)

    whole = file.read_bytes()
    at = whole.index(path.read_bytes()) + 40
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(UntrustedError, match="damaged"):
        read_bundle(file, after.hash)
    path.unlink()
    with pytest.raises(UntrustedError, match="misses a file"):
        sign_again(workspace)
