"""What a dataset says of an image, put into a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.project.prompts import MAX_FILLED, MAX_VALUE, asked, fields_in, fill
from p2pcap.project.task import Model, Prompt, Task

NAMES = ("caption", "tags", "a+b", "two words")
VALUES = {"caption": "a cat", "tags": "{caption} {{tags}}", "a+b": "sum", "two words": "", "more": "no"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Improve: {caption}", "Improve: a cat"),
        ("{caption}{caption}", "a cata cat"),
        ("{tags}", "{caption} {{tags}}"),
        ("{{caption}} is {caption}", "{caption} is a cat"),
        ("{{{caption}}}", "{{caption}}"),
        ('{"caption": "{caption}", "n": {}}', '{"caption": "a cat", "n": {}}'),
        ("{more} {{more}} {Caption} { caption }", "{more} {{more}} {Caption} { caption }"),
        ("{a+b} {aab} ({two words})", "sum {aab} ()"),
        ("{caption", "{caption"),
    ],
)
def test_a_field_stands_where_its_name_is(text: str, filled: str) -> None:
    assert fill(text, NAMES, VALUES) == filled


def test_a_field_that_the_image_lacks_is_empty() -> None:
    assert fill("[{caption}]", NAMES, {}) == "[]"


@given(st.text("{}ab\\n", max_size=60), st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=20)))
def test_without_fields_every_text_stays_as_it_is(text: str, values: dict[str, str]) -> None:
    assert fill(text, (), values) == text
    assert fields_in(text, ()) == []


@given(st.lists(st.sampled_from(["{a}", "{b}", "x", "{"]), max_size=40), st.integers(0, 10_000))
def test_what_fields_add_is_bounded(parts: list[str], length: int) -> None:
    text = "".join(parts)
    filled = fill(text, ("a", "b"), {"a": "y" * length, "b": "z"})
    assert len(filled) <= len(text) + MAX_FILLED
    assert filled.count("y") <= min(parts.count("{a}") * min(length, MAX_VALUE), MAX_FILLED)


def test_a_long_field_is_cut_and_leaves_room_for_others() -> None:
    filled = fill("{caption}|{tags}", NAMES, {"caption": "c" * 9_000, "tags": "t" * 100})
    assert filled == "c" * MAX_VALUE + "|" + "t" * 100


def test_a_task_asks_for_the_fields_that_its_texts_name() -> None:
    prompts = (Prompt("a", "{tags} {{caption}}"), Prompt("b", "{tags}"))
    task = Task(model=Model("m"), prompts=prompts, system="{two words}", fields=NAMES)
    assert asked(task) == ("two words", "tags")
    assert asked(Task(model=Model("m"), prompts=prompts)) == ()


def test_many_fields_leave_no_room_for_more() -> None:
    assert fill("{caption}" * 9 + "!", NAMES, {"caption": "c" * 2_000}) == "c" * MAX_FILLED + "!"
