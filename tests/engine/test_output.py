"""What is made of a model's text, and which texts are no answer."""

import json
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from p2pcap.engine.form import CHECK_SECONDS, Form
from p2pcap.engine.output import FILTERED, Policy
from p2pcap.engine.repetition import LEAST_CHARACTERS, LEAST_TIMES, loops
from p2pcap.engine.time_limit import limited
from p2pcap.errors import ImageError, ModelError
from p2pcap.project.failures import CODES
from p2pcap.project.sampling import Format, OutputPolicy

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
        "required": ["colour"],
        "additionalProperties": False,
    }
)
ENDLESS = "a" * 40 + "!"
"""Takes (a+)+b longer than a life."""


def answer(raw: str, finish: str = "stop", policy: OutputPolicy | None = None, form: Format | UnsetType = UNSET) -> str:
    return Policy(policy or OutputPolicy(), Form(form)).answer(raw, finish)


def code(raw: str, finish: str = "stop", policy: OutputPolicy | None = None, form: Format | UnsetType = UNSET) -> str:
    with pytest.raises(ImageError) as fault:
        answer(raw, finish, policy, form)
    assert fault.value.code in CODES
    assert CODES[fault.value.code].lasting
    return fault.value.code


def fits(text: str, form: Format) -> bool:
    return not Form(form).fault(text)


def test_blanks_around_a_text_go_and_those_inside_stay() -> None:
    assert answer("\n  a cat \n\n on a mat.\t") == "a cat \n\n on a mat."


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_an_empty_text_is_no_answer(finish: str) -> None:
    assert code(" \n", finish) == "empty-output"


@pytest.mark.parametrize(("finish", "expected"), [("error", "rejected"), ("None", "rejected"), (FILTERED, "refusal")])
def test_an_answer_that_did_not_end_by_itself_is_none(finish: str, expected: str) -> None:
    assert code("a cat", finish) == expected


def test_a_text_ends_before_the_first_mark() -> None:
    policy = OutputPolicy(cut=("\n\n", "<end>", "Note:"))
    assert answer("a cat. <end> Note: x", policy=policy) == "a cat."
    assert answer("a cat. Note: <end> x\n\n", policy=policy) == "a cat."
    assert answer("a cat.", policy=policy) == "a cat."
    assert code("<end> a cat", policy=policy) == "empty-output"


@pytest.mark.parametrize("text", ["I'm sorry, no.", "i\u2019M SORRY", " \nI\u02bcm sorry"])
def test_a_refusal_is_known_by_its_beginning_in_any_case_and_any_apostrophe(text: str) -> None:
    policy = OutputPolicy(refusals=("I'm sorry", "ICH KANN NICHT"))
    assert code(text, policy=policy) == "refusal"
    assert answer("A sign says \u201cI'm sorry\u201d.", policy=policy)
    assert answer(text) == text.strip(), "a task without refusals takes it"


def test_marks_of_blanks_refuse_nothing() -> None:
    assert answer("a cat", policy=OutputPolicy(refusals=(" ",))) == "a cat"


def test_the_least_length_counts_what_is_kept() -> None:
    policy = OutputPolicy(least=5, cut=("|",))
    assert code("a cat | on a mat"[1:], policy=policy) == "empty-output"
    assert answer("a cat| on a mat", policy=policy) == "a cat"


def test_a_whole_answer_ends_by_itself_or_at_a_mark() -> None:
    policy = OutputPolicy(whole=True, cut=("\n",))
    assert code("a cat on a", "length", policy) == "unfinished"
    assert answer("a cat.\nAnd on a", "length", policy) == "a cat."
    assert answer("a cat on a", "length") == "a cat on a"


def test_rules_hold_in_their_order() -> None:
    policy = OutputPolicy(refusals=("no",), loops=True, least=1_000, whole=True)
    assert code("no " * 100, "length", policy) == "refusal"
    assert code("a no " * 100, "length", policy) == "repetition"
    assert code("a cat", "length", policy) == "empty-output"


# Loops


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red square, a red circle, a red star and a red triangle, a red square.",
        "ha ha ha ha ha!",
        "Wow" + "!" * 30,
        "The sign says NO NO NO NO NO NO.",
        "1, 1, 1, 1, 1, 1, 1, 1",
        "a cat on a mat. " * 3,
        "a dog sleeps under the table, quite alone. " * 3,
        "-" * 200 + " a line above a title",
        "".join(f"{number}. a row with a cat in it\n" for number in range(40)),
        json.dumps([{"box": [0, 0, 10, 10], "label": "cat"}] * 3),
    ],
)
def test_what_repeats_words_is_no_loop(text: str) -> None:
    assert not loops(text)


@pytest.mark.parametrize("part", ["a", "ha ", "the cat sat on the mat. ", "a long sentence about nothing, " * 9 + "x "])
@pytest.mark.parametrize("before", ["", "A photograph of a cat: "])
@pytest.mark.parametrize("after", [0, 1])
def test_a_part_that_comes_again_and_again_to_the_end_is_a_loop(part: str, before: str, after: int) -> None:
    times = max(LEAST_TIMES, -(-LEAST_CHARACTERS // len(part)))
    text = before + part * times + part[: after * len(part) // 2]
    assert loops(text)
    assert not loops(text + " And then")


@given(st.text("ab", max_size=12), st.text("ab ", min_size=1, max_size=40), st.integers(1, 30), st.integers(0, 39))
def test_the_rule_is_the_one_that_is_written_down(before: str, part: str, times: int, broken: int) -> None:
    text = before + part * times + part[:broken]
    expected = any(
        text[-length:-period] == text[-length + period :]
        for period in range(1, len(text) // LEAST_TIMES + 1)
        if (length := max(LEAST_TIMES * period, LEAST_CHARACTERS)) <= len(text)
    )
    assert loops(text) == expected


@pytest.mark.parametrize("text", ["ab" * 8 + "c", "a" * 16 + "b", "abcdefgh" * 4 + "xyz"])
def test_the_longest_text_is_looked_through_in_time(text: str) -> None:
    """Many places that look like the end and are no loop."""
    long = text * 100_000 + text[:16] + "".join(map(chr, range(200, 210))) + text[:16]
    start = time.thread_time()
    loops(long)
    assert time.thread_time() - start < 2


# Formats


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"a": 1}', True),
        ("{}", True),
        ("[1]", False),
        ('"a"', False),
        ("", False),
        ('{"a": 1', False),
        ('{"a": 1} and', False),
        ('```json\n{"a": 1}\n```', False),
        ('{"a": 1, "a": 2}', False),
        ('{"a": {"b": 1, "b": 1}}', False),
        ('{"a": NaN}', False),
        ('{"a": -Infinity}', False),
        ('{"a": 1e999}', False),
        ('{"a": ' + "1" * 5_000 + "}", False),
        ("[" * 100_000, False),
        ('{"a":' * 50_000, False),
    ],
)
def test_a_json_answer_is_one_strict_object(text: str, good: bool) -> None:
    assert fits(text, Format("json")) == good


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"colour": "red"}', True),
        ('{"colour": "blue", "count": 2}', True),
        ('{"colour": "green"}', False),
        ('{"count": 2}', False),
        ('{"colour": "red", "more": 1}', False),
        ("red", False),
        ('{"colour": "red", "colour": "red"}', False),
    ],
)
def test_an_answer_fits_its_schema(text: str, good: bool) -> None:
    assert fits(text, Format("schema", SCHEMA)) == good


def test_a_schema_may_ask_for_other_things_than_objects() -> None:
    assert fits('["a"]', Format("schema", '{"type": "array"}'))


def test_references_are_followed_nowhere() -> None:
    schema = '{"properties": {"a": {"$ref": "http://example.com/x"}}}'
    assert not fits('{"a": 1}', Format("schema", schema))


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "number", "multipleOf": 0.01}, "1" * 400),
        ({"properties": {"a": {"$ref": "#/x/y"}}, "x": {"y": {"pattern": r"\p{L}"}}}, '{"a": "b"}'),
        ({"properties": {"a": {"$ref": "#/x/y"}}, "x": {"y": {"type": "strange"}}}, '{"a": "b"}'),
    ],
    ids=["a number too large", "a pattern in a part", "a type in a part"],
)
def test_whatever_a_schema_raises_is_the_answers_fault(schema: dict[str, object], text: str) -> None:
    assert Form(Format("schema", json.dumps(schema))).fault(text) == "no JSON that fits the schema"


def test_a_regular_expression_matches_the_whole_text() -> None:
    form = Format("regex", r"(red|blue) [a-z]+")
    assert fits("red square", form)
    assert not fits("a red square", form)
    assert not fits("red square.", form)


def test_an_answer_is_one_of_the_choices() -> None:
    form = Format("choice", choices=("red", " blue"))
    assert fits("red", form)
    assert fits("blue", form)
    assert not fits("Red", form)


@pytest.mark.parametrize(
    "form",
    [
        Format("regex", "("),
        Format("schema", "{"),
        Format("schema", '{"type": "strange"}'),
        Format("schema", '{"type": 1, "type": 2}'),
        Format("schema", "[" * 16_000),
        Format("schema", '{"$ref": "#"}'),
        Format("schema", '{"$ref": "#/$defs/none"}'),
        Format("schema", '{"$ref": "#/x", "x": {"type": "strange"}}'),
    ],
)
def test_a_format_that_makes_no_sense_is_refused_at_the_start(form: Format) -> None:
    with pytest.raises(ModelError):
        Form(form)


def test_a_text_without_the_form_is_no_answer() -> None:
    assert code("green", form=Format("choice", choices=("red",))) == "bad-format"
    assert answer(" red\n", "length", form=Format("choice", choices=("red",))) == "red"


def test_a_match_that_would_never_end_is_broken_off() -> None:
    start = time.process_time()
    assert "within a second" in Form(Format("regex", "(a+)+b")).fault(ENDLESS)
    assert time.process_time() - start < 10 * CHECK_SECONDS
    schema = Format("schema", json.dumps({"type": "string", "pattern": "^(a+)+b$"}))
    assert "within a second" in Form(schema).fault(json.dumps(ENDLESS))
    assert Form(Format("regex", "(a+)+!")).fault(ENDLESS) == "", "the next one has its own time"


def test_what_ends_in_time_is_left_alone() -> None:
    assert limited(5.0, lambda: "done") == "done"
    with pytest.raises(ValueError, match="its own"):
        limited(5.0, fail)


def test_no_timer_is_left_behind() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    limited(0.5, lambda: None)
    with pytest.raises(ValueError, match="its own"):
        limited(0.5, fail)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == before


def fail() -> None:
    raise ValueError("its own")
