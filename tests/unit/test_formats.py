"""The form of an answer: what each key of a format becomes, and one sentence for a form that no answer can have."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from p2pcap.engine.form import Form
from p2pcap.errors import ConfigError
from p2pcap.project.sampling import Format
from p2pcap_bootstrap import config
from p2pcap_bootstrap.schemas import MAX_DEPTH
from p2pcap_bootstrap.stages import make_stages
from tests.unit.tasks import ASK, LEAST, prompt_of, task_of

SCHEMA = {
    "type": "object",
    "properties": {"z": {"$ref": "#/$defs/name"}, "a": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["z"],
    "$defs": {"name": {"type": "string", "pattern": "^[a-z]+$"}},
}


def test_a_schema_keeps_the_order_of_its_keys(tmp_path: Path) -> None:
    (tmp_path / "tags.json").write_text(json.dumps(SCHEMA, indent=2), encoding="utf-8")
    here, there = (prompt_of(tmp_path, format={"schema": given}) for given in (SCHEMA, "tags.json"))
    assert here.format == Format("schema", json.dumps(SCHEMA, separators=(",", ":")))
    assert here == there
    form = Form(here.format)
    assert [bool(form.fault(text)) for text in ('{"z":"b"}', '{"z":"b","a":[{"z":"c"}]}', '{"z":"B"}')] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"json": True}, Format("json")),
        ({"regex": r"\d{4}-(?:0[1-9]|1[0-2])"}, Format("regex", r"\d{4}-(?:0[1-9]|1[0-2])")),
        ({"regex": r"[(?=*+]+\(\?=\++"}, Format("regex", r"[(?=*+]+\(\?=\++")),
        ({"choice": ["photo", "drawing"]}, Format("choice", choices=("photo", "drawing"))),
    ],
)
def test_a_format_is_one_of_four(tmp_path: Path, given: dict[str, Any], made: Format) -> None:
    assert prompt_of(tmp_path, format=given).format == made
    assert Form(made).fault("")


def test_a_pattern_of_properties_is_one_that_engines_know(tmp_path: Path) -> None:
    given = {"type": "object", "patternProperties": {"^[a-z]+$": {"type": "integer"}}, "additionalProperties": False}
    made = Form(prompt_of(tmp_path, format={"schema": given}).format)
    assert [bool(made.fault(text)) for text in ('{"a":1}', '{"A":1}')] == [False, True]


# what cannot be signed

DEEP: dict[str, Any] = {}
for _ in range(MAX_DEPTH):
    DEEP = {"not": DEEP}


def schema(**keys: Any) -> dict[str, Any]:
    return {"prompts": [ASK | {"format": {"schema": keys}}]}


def form(**keys: Any) -> dict[str, Any]:
    return {"prompts": [ASK | {"format": keys}]}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "two formats": (form(json=True, choice=["a"]), "has json and choice. Keep one"),
    "no regular expression": (form(regex="(a"), "`regex` is no regular expression"),
    "one that Python warns of": (form(regex="[[a]--b]"), "`regex` is no regular expression"),
    "look-ahead": (form(regex="(?=a)b"), "uses (?, which an engine's grammar does not know"),
    "a reference": (form(regex=r"(a)\1"), r"uses \1,"),
    "a named group": (form(regex="(?P<n>a)"), "uses (?,"),
    "a word bound": (form(regex=r"\bcat\b"), r"uses \b,"),
    "a possessive repeat": (form(regex="a*+"), "uses *+,"),
    "an expression too long": (form(regex="a" * 16_385), "beyond the protocol's limits"),
    "a choice twice": (form(choice=["a", "b", "a"]), "names one text twice"),
    "a choice with blanks": (form(choice=["a "]), "is empty or has blanks around it"),
    "an empty choice": (form(choice=[""]), "is empty or has blanks around it"),
    "a choice too long": (form(choice=["a" * 257]), "beyond the protocol's limits"),
    "a wrong type in a schema": (schema(type="strnig"), "no JSON Schema, at type: 'strnig'"),
    "a schema of another draft": (schema(**{"$schema": "http://json-schema.org/draft-07/schema#"}), "another draft"),
    "a schema on the web": (schema(**{"$ref": "https://example.org/s.json"}), "outside of itself"),
    "a schema in a file": (schema(properties={"a": {"$ref": "other.json#/a"}}), "outside of itself"),
    "a schema with an address": (schema(**{"$id": "https://example.org/"}), "uses $id"),
    "a reference to nothing": (schema(**{"$ref": "#/$defs/a"}), "which it does not have"),
    "a reference to itself": (schema(**{"$ref": "#"}), "leads back to itself"),
    "a circle": (
        schema(**{"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
        "leads back to itself",
    ),
    "a pattern in a schema": (schema(properties={"a": {"pattern": r"(?!a)"}}), "`pattern` uses (?,"),
    "a schema too deep": (schema(**DEEP), "nested over 32 deep"),
    "a schema too long": (schema(description="x" * 20_000), "beyond the protocol's limits"),
    "a schema with what JSON lacks": (schema(const=float("nan")), "what JSON cannot say"),
    "a schema file that is not there": (form(schema="no.json"), "no.json cannot be read"),
    "a schema file that is no JSON": (form(schema="bad.json"), "is not JSON"),
    "a schema file that is no schema": (form(schema="list.json"), "is no mapping"),
    "a pattern of properties": (schema(patternProperties={"(?=a)": {}}), "`patternProperties` uses (?,"),
    "a pattern of inner properties": (
        schema(properties={"a": {"patternProperties": {r"\bcat": {}}}}),
        r"`patternProperties` uses \b,",
    ),
    "a schema file at no path": (form(schema="a\0b"), "cannot be read"),
    "a schema file of nobody's": (form(schema="~nobody.here/x.json"), "x.json cannot be read"),
    "an empty schema": (form(schema={}), "`schema` is empty"),
    "an empty schema file": (form(schema="empty.json"), "`schema` is empty"),
    "an empty path": (form(schema=""), "length >= 1 - at `$.prompts[0].format.schema`"),
    "an empty expression": (form(regex=""), "length >= 1 - at `$.prompts[0].format.regex`"),
    "no choices": (form(choice=[]), "length >= 1 - at `$.prompts[0].format.choice`"),
    "an empty form beside another": (form(json=True, choice=[]), "length >= 1"),
}


@pytest.mark.parametrize(("keys", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_has_its_sentence(tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    for name, text in {"bad.json": "{", "list.json": "[]", "empty.json": "{}"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        task_of(tmp_path, **keys)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schema_that_holds_itself_is_one_clear_error(tmp_path: Path) -> None:
    text = yaml.safe_dump(LEAST | form(schema="HERE")).replace("HERE", "&a {not: *a}")
    with pytest.raises(ConfigError, match="an alias stands for what it is in"):
        make_stages(config.parse(text, tmp_path / config.FILE), tmp_path)


NEVER: dict[str, tuple[dict[str, Any], str]] = {
    "a refusal": ({"output": {"refusals": ["I cannot"]}}, "it begins with one of output.refusals"),
    "cut": ({"output": {"cut": ["not t"]}}, "it is cut by output.cut"),
    "cut at its beginning": ({"output": {"cut": ["i can"]}}, "it is cut by output.cut"),
    "too short": ({"output": {"least": 14}}, "it is shorter than output.least"),
    "stopped": ({"sampling": {"stop": ["tell"]}}, "it is cut by sampling.stop"),
    "stopped in its middle": (
        {"sampling": {"stop": ["not"], "include_stop_str_in_output": True}},
        "it is cut by sampling.stop",
    ),
}


@pytest.mark.parametrize(("keys", "says"), NEVER.values(), ids=NEVER.keys())
def test_a_choice_that_is_never_an_answer_is_refused(tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task_of(tmp_path, **form(choice=["an outdoor scene", "i cannot tell"]), **keys)
    assert "Prompt caption has the choice 'i cannot tell', which is never an answer: " in str(caught.value)
    assert says in str(caught.value)


def test_a_choice_that_is_a_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"repeats itself to its end \(output\.loops\)"):
        task_of(tmp_path, **form(choice=["7, " * 40 + "7"]), output={"loops": True})


@pytest.mark.parametrize(
    "keys",
    [
        {"output": {"refusals": ["cannot"], "cut": ["outdoors"], "least": 13, "loops": True, "whole": True}},
        {"sampling": {"stop": ["tell"], "include_stop_str_in_output": True}},
    ],
)
def test_a_choice_that_can_be_an_answer_is_signed(tmp_path: Path, keys: dict[str, Any]) -> None:
    task = task_of(tmp_path, **form(choice=["an outdoor scene", "I cannot tell"]), **keys)
    assert task.prompts[0].format == Format("choice", choices=("an outdoor scene", "I cannot tell"))
