"""Which column holds what: the maintainer's word, the dataset's, then usual names."""

import pytest

from p2pcap.errors import ConfigError
from p2pcap.sources.columns import Column, field_columns, find_image, find_url, image_column, item_key, key_column
from p2pcap.sources.columns import url_column as url_column_of
from p2pcap.sources.locations import DataFile, HubFile, WebFile
from p2pcap.sources.spec import Images

FILE = DataFile("data/a.parquet")


def images(**settings: object) -> Images:
    return Images(source="", **settings)  # type: ignore[arg-type]


def test_what_the_dataset_says_comes_before_names() -> None:
    said = Column("scan", "struct", image=True)
    assert find_image([Column("image", "bytes"), said]) == said


def test_a_usual_name_decides_between_columns_of_bytes() -> None:
    assert find_image([Column("mask", "bytes"), Column("JPG", "bytes")]) == Column("JPG", "bytes")


def test_the_only_column_of_bytes_needs_no_usual_name() -> None:
    assert find_image([Column("id", "text"), Column("scan", "bytes")]) == Column("scan", "bytes")


def test_a_usual_name_with_another_type_is_no_image() -> None:
    assert find_image([Column("image", "text"), Column("mask", "other")]) is None


def test_two_columns_that_could_be_it_are_for_the_maintainer_to_choose() -> None:
    with pytest.raises(ConfigError, match=r"`image_column`; there are: 'left', 'right', 'id'"):
        image_column([Column("left", "bytes"), Column("right", "bytes"), Column("id", "text")], images())


def test_a_named_column_of_text_holds_no_images() -> None:
    with pytest.raises(ConfigError, match="'id' holds no image files as bytes"):
        image_column([Column("left", "bytes"), Column("id", "text")], images(image_column="id"))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    columns = [Column("caption", "text"), Column("url", "text")]
    with pytest.raises(ConfigError, match=r"`fields` names the column 'captoin'.*Did you mean 'caption'\?.*'url'"):
        field_columns(columns, images(fields=("captoin",)))


def test_a_name_that_two_columns_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 columns 'a'"):
        field_columns([Column("a", "text"), Column("a", "other")], images(fields=("a",)))


def test_addresses_by_usual_names_in_any_case() -> None:
    assert find_url([Column("TEXT", "text"), Column("URL", "text")]) == Column("URL", "text")
    assert find_url([Column("TEXT", "text"), Column("picture_of", "text")]) is None
    with pytest.raises(ConfigError, match="`url_column`; there are: 'TEXT'"):
        url_column_of([Column("TEXT", "text")], images())


def test_keys_by_usual_names_and_none_is_fine() -> None:
    assert key_column([Column("name", "text"), Column("image_id", "other")], images()) == Column("image_id", "other")
    assert key_column([Column("caption", "text")], images()) is None
    assert key_column([Column("id", "bytes")], images()) is None


@pytest.mark.parametrize("blank", [None, "", " \n", "x" * 1_025])
def test_a_row_without_a_fit_key_is_called_by_file_and_row(blank: str | None) -> None:
    assert item_key(blank, FILE, 7, ()) == "data/a.parquet#7"


def test_a_repeated_key_is_not_used_again() -> None:
    assert item_key("cat", FILE, 7, {"cat"}) == "data/a.parquet#7"
    assert item_key("cat", FILE, 7, {"cat", "data/a.parquet#7"}) == "data/a.parquet#7'"


def test_a_key_is_never_too_long_and_tells_no_query() -> None:
    assert len(item_key(None, HubFile("datasets", "a/b", "0" * 40, "x" * 2_000), 123_456, ())) == 1_024
    assert item_key(None, WebFile("https://h/a.csv?token=secret#x"), 1, ()) == "https://h/a.csv#1"
