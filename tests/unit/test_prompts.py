"""What a dataset says of an image, put into a prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.project.prompts import MAX_FILLED, MAX_VALUE, asked, fields_in, fill, places, uses
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


# answers to earlier prompts

STAGES = (
    Prompt("describe", "Describe it: {tags} {describe} {brief} {last}"),
    Prompt("brief", "In short."),
    Prompt("last", "Join {describe} and {{brief}}.", system="Use {tags}, {brief} and {last}.", image=False),
    Prompt("plain", "{describe}", system=""),
)
STAGED = Task(model=Model("m"), prompts=STAGES, system="It is of {two words}.", fields=("tags", "two words"))


def test_a_prompt_uses_answers_to_prompts_before_it_and_no_others() -> None:
    assert [uses(STAGED, number) for number in range(4)] == [(), (), (0, 1), (0,)]
    assert places(STAGED, 0) == ("tags", "two words")
    assert places(STAGED, 2) == ("tags", "two words", "describe", "brief")


def test_the_system_text_of_the_task_uses_them_too() -> None:
    task = Task(model=Model("m"), prompts=STAGES[:2] + STAGES[3:], system="After {describe}.")
    assert [uses(task, number) for number in range(3)] == [(), (0,), (0,)]


def test_the_fields_asked_for_are_those_of_every_system_text() -> None:
    assert asked(STAGED) == ("two words", "tags")
    own = (Prompt("a", "x", system="{tags}"), Prompt("b", "y", system=""))
    assert asked(Task(model=Model("m"), prompts=own, system="{two words}", fields=("tags", "two words"))) == ("tags",)


def test_an_answer_goes_before_the_field_of_its_name() -> None:
    prompts = (Prompt("tags", "What?"), Prompt("more", "{tags}"))
    task = Task(model=Model("m"), prompts=prompts, fields=("tags",))
    assert (places(task, 0), places(task, 1), uses(task, 1)) == (("tags",), ("tags",), (0,))


def test_answers_are_put_in_like_fields() -> None:
    values = {"tags": "t", "describe": "{brief} " + "d" * MAX_VALUE, "brief": "short"}
    filled = fill(STAGES[2].text, places(STAGED, 2), values)
    assert filled == "Join {brief} " + "d" * (MAX_VALUE - 8) + " and {brief}."


@given(st.lists(st.sampled_from(["{p0}", "{p1}", "{p2}", "{{p1}}", "{f}", "x"]), max_size=12), st.integers(0, 2))
def test_asking_in_order_always_works(parts: list[str], number: int) -> None:
    prompts = tuple(Prompt(f"p{n}", "".join(parts) or "x") for n in range(3))
    used = uses(Task(model=Model("m"), prompts=prompts, fields=("f",)), number)
    assert list(used) == sorted(set(used))
    assert all(earlier < number for earlier in used)
