"""What a maintainer asks of a dataset is held against what there is: what bears on nothing is refused, what is left out
is said, and an error names the file that it is about."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from p2pcap.errors import ConfigError, ImageError, SourceGone, SourceUnavailable
from p2pcap.sources.locations import DataFile, WebFile
from p2pcap.sources.naming import naming
from p2pcap.sources.planning import data_folder
from p2pcap.sources.spec import Images
from tests.sources.made import digest, image, items, keys, lay, parquet, planned, tar, url_table
from tests.sources.test_planning import archive


def notices(base: Path, images: Images) -> list[dict[str, Any]]:
    """The warnings of planning."""
    with structlog.testing.capture_logs() as logs:
        planned(base, images)
    return [dict(line) for line in logs if line["log_level"] == "warning"]


# --- which files


def test_a_folder_of_several_kinds_is_taken_as_on_the_hub(tmp_path: Path) -> None:
    """One stray image does not make the shards beside it disappear, and what is left out is said."""
    lay(tmp_path / "set", {"0.tar": tar(["1.jpg"]), "b.parquet": parquet(["x"]), "stray.jpg": b"x", "u.csv": b"url\n"})
    lay(tmp_path / "set", {"0.json": b"{}", "README.md": b"x", "c.HEIC": b"x"})
    assert [Path(key).stem for key in keys(planned(tmp_path, Images(source="set")))] == ["1", "x"]
    (notice,) = notices(tmp_path, Images(source="set"))
    assert set(notice["files"].split(", ")) == {"1 × .jpg", "1 × .csv", "1 × .heic"}
    assert keys(planned(tmp_path, Images(source="set", kind="folder"))) == ["stray.jpg"]


def test_a_folder_of_images_says_what_else_it_has(tmp_path: Path) -> None:
    lay(tmp_path / "set", {"1.jpg": b"1", "1.txt": b"x", "2.zip": b"x", "metadata.parquet": parquet(["x"])})
    (notice,) = notices(tmp_path, Images(source="set"))
    assert (notice["event"], notice["files"]) == ("files of other kinds are left out", "1 × .zip")


def test_links_are_followed_to_shards_where_the_maintainer_says_so(tmp_path: Path) -> None:
    """As in the cache of the Hub, whose snapshots are links to blobs."""
    lay(tmp_path / "blobs", {"a": parquet(["x"]), "b": tar(["1.jpg"]), "more/c.parquet": parquet(["y"])})
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.parquet").symlink_to("../blobs/a")
    (tmp_path / "set" / "b.tar").symlink_to("../blobs/b")
    (tmp_path / "set" / "more").symlink_to("../blobs/more")
    followed = Images(source="set", follow_symlinks=True)
    assert [item.hash for item in items(planned(tmp_path, followed))] == [
        digest(image(name)) for name in ("x", "1.jpg", "y")
    ]
    assert data_folder(tmp_path, followed) == tmp_path / "set"
    with structlog.testing.capture_logs() as logs, pytest.raises(ConfigError, match="no files"):
        planned(tmp_path, Images(source="set"))
    assert [line["links"] for line in logs] == [3]


def test_a_link_out_of_the_folder_is_refused_unless_asked_for(tmp_path: Path) -> None:
    import trio

    from p2pcap.sources.data_folder import DataFolder

    lay(tmp_path, {"secret": b"secret", "set/a": b"x"})
    (tmp_path / "set" / "link").symlink_to("../secret")
    assert trio.run(DataFolder(tmp_path / "set", follow_symlinks=True).size, DataFile("link")) == 6
    with pytest.raises(SourceGone, match="symbolic link"):
        trio.run(DataFolder(tmp_path / "set").size, DataFile("link"))


# --- fields


def tar_of(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            packed.addfile(about, io.BytesIO(data))
    return out.getvalue()


BESIDE = {"1.jpg": b"1", "1.txt": b"a cat", "2.jpg": b"2", "2.txt": b" ", "3.jpg": b"3"} | {
    f"{n}.json": json.dumps({"title": f"t{n}", "empty": ""}).encode() for n in (1, 2)
}


def lay_described(folder: Path, kind: str) -> None:
    if kind == "tar":
        lay(folder, {"0.tar": tar_of(BESIDE)})
    else:
        lay(folder, BESIDE)


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"fields": ("titel",)}, r"`images.fields` names the field 'titel'.*none of the 3.*Did you mean 'title'"),
        ({"caption_field": "capton", "captioned": "skip"}, r"`images.caption_field`.*Did you mean 'caption'"),
        ({"fields": ("title", "zzz")}, r"'zzz'.*There are: 'empty', 'title'"),
    ],
)
def test_a_field_that_no_image_has_is_an_error(tmp_path: Path, kind: str, asked: dict[str, Any], says: str) -> None:
    lay_described(tmp_path / "set", kind)
    with pytest.raises(ConfigError, match=says):
        planned(tmp_path, Images(source="set", **asked))


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_field_that_is_blank_in_all_images_is_there(tmp_path: Path, kind: str) -> None:
    lay_described(tmp_path / "set", kind)
    assert len(items(planned(tmp_path, Images(source="set", fields=("empty",))))) == 3


@pytest.mark.parametrize("shard", [parquet(["x"]), url_table(["https://x.org/1"]), archive(["1.jpg"])])
def test_a_column_that_is_not_there_is_an_error_for_every_kind(tmp_path: Path, shard: bytes) -> None:
    name = "a.zip" if shard[:2] == b"PK" else "a.parquet"
    lay(tmp_path / "set", {name: shard})
    with pytest.raises(ConfigError, match="titel"):
        planned(tmp_path, Images(source="set", fields=("titel",)))


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize(("captioned", "what"), [("skip", "left out"), ("append", "too"), ("replace", "anew")])
def test_it_is_said_how_many_have_a_caption(tmp_path: Path, kind: str, captioned: Any, what: str) -> None:
    lay_described(tmp_path / "set", kind)
    (notice,) = notices(tmp_path, Images(source="set", caption_field="caption", captioned=captioned))
    assert (notice["field"], notice["images"]) == ("caption", "1 of 3")
    assert what in notice["so"]


def test_why_nothing_is_left_to_plan_is_said_with_counts(tmp_path: Path) -> None:
    lay(tmp_path, {"all/1.jpg": b"1", "all/1.txt": b"a cat", "a.parquet": parquet([])})
    with pytest.raises(ConfigError, match=r"1 of 1 have one in the field caption.*skip leaves them out"):
        planned(tmp_path, Images(source="all", caption_field="caption", captioned="skip"))
    with pytest.raises(ConfigError, match=r"a\.parquet has no images to caption: its files are empty"):
        planned(tmp_path, Images(source="a.parquet"))


# --- settings


@pytest.mark.parametrize(
    ("source", "asked", "says"),
    [
        ("photos", {"image_column": "foo"}, r"images.image_column is for Parquet"),
        ("photos", {"key_column": "id"}, r"images.key_column is for Parquet"),
        ("photos", {"url_column": "id"}, r"images.url_column is for tables"),
        ("photos", {"split": "train"}, r"images.split is for datasets on the Hub"),
        ("a.parquet", {"config": "foo"}, r"images.config is for datasets on the Hub"),
        ("a.parquet", {"kind": "parquet", "url_column": "url"}, r"images.url_column is for tables"),
        ("*.tar", {"image_column": "jpg"}, r"images.image_column is for Parquet"),
        ("https://example.com/a.tar", {"follow_symlinks": True}, r"files on this machine"),
        ("https://example.com/a.tar", {"split": "test"}, r"datasets on the Hub"),
    ],
)
def test_a_setting_that_bears_on_nothing_is_refused(
    tmp_path: Path, source: str, asked: dict[str, Any], says: str
) -> None:
    lay(tmp_path, {"photos/1.jpg": b"1", "a.parquet": parquet(["x"]), "a.tar": tar(["1.jpg"])})
    with pytest.raises(ConfigError, match=says):
        planned(tmp_path, Images(source=source, **asked))


def test_a_setting_of_one_of_the_kinds_that_there_are_is_taken(tmp_path: Path) -> None:
    lay(tmp_path / "set", {"a.parquet": parquet(["x"]), "b.tar": tar(["1.jpg"])})
    assert len(items(planned(tmp_path, Images(source="set", image_column="image", key_column="key")))) == 2


@pytest.mark.parametrize("source", ["ftp://x/y", "s3://bucket/a.tar", "file:///photos", "HF://datasets/o/n"])
def test_an_address_of_another_kind_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot begin with \w+://.*hf://datasets.*https"):
        planned(tmp_path, Images(source=source))


# --- messages


@pytest.mark.parametrize("kind", ["urls", "parquet"])
def test_an_error_names_the_file_that_it_is_about(tmp_path: Path, kind: Any) -> None:
    lay(tmp_path / "set", {"a.parquet": url_table(["https://x.org/1"]) if kind == "urls" else parquet(["x"])})
    lay(tmp_path / "set", {"b.parquet": url_table(["x"]) if kind == "parquet" else parquet(["x"])})
    with pytest.raises(ConfigError, match=r"b\.parquet"):
        planned(tmp_path, Images(source="set", kind=kind))


def test_an_address_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"http://127\.0\.0\.1:1/x\.tar cannot be read: .*\. Check the address"):
        planned(tmp_path, Images(source="http://127.0.0.1:1/x.tar"))


def test_what_runs_side_by_side_is_named_too() -> None:
    cause = ImageError("gone", "The server answers with status 404.")
    gone = SourceGone("The file is not as it was planned. The server answers with status 404.")
    gone.__cause__ = cause
    with pytest.raises(SourceGone, match=r"^https://x\.org/a cannot be read: The server .* 404\. Correct images"):
        with naming(WebFile("https://x.org/a")):
            raise BaseExceptionGroup("side by side", [gone])


def test_files_without_images_are_counted_once(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({"score": [1.0]}), out)
    lay(tmp_path / "set", {f"{n}.parquet": out.getvalue() for n in range(3)} | {"x.parquet": parquet(["x"])})
    (notice,) = notices(tmp_path, Images(source="set"))
    assert notice["files"] == 3
    assert "0.parquet" in notice["the_first"]
