"""The documentation says what the code says.

docs/protocol.md and docs/maintainer.md describe records and settings in tables; here each table is compared with the
code it describes, in both directions, so neither a new field nor a stale line gets by.
"""

import ast
import json
import pkgutil
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import click
import msgspec
import pytest

from p2pcap.cli.exits import MEANINGS
from p2pcap.cli.main import program
from p2pcap.cli.reference import commands
from p2pcap.envelope import LIMITS
from p2pcap.ledger import checkpoint, evidence, fork, puzzle, rulings
from p2pcap.ledger import records as volunteers
from p2pcap.node.state import NodeState
from p2pcap.paths import NodePaths
from p2pcap.project import audit, items, sampling, task, ticket
from p2pcap.project import records as maintainers
from p2pcap.project.record import Record
from p2pcap.project.records import DEFAULT_ERROR_AUTHORS, DEFAULT_PEER_AUDITS, Policy
from p2pcap.sources.spec import Images
from p2pcap.swarm import messages
from p2pcap.swarm.nat import messages as reaching
from p2pcap.swarm.nat.reach import NAME as REACH
from p2pcap.swarm.service import KINDS
from p2pcap_bootstrap.config import ProjectFile
from p2pcap_bootstrap.sections import DEFAULTS, FormatFile, PromptFile, SamplingFile, StageFile

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
HOSTS = {
    "theupdateframework.github.io",
    "127.0.0.1",
    "api.example.com",
    "example.org",
    "download.pytorch.org",
    "duckdb.org",
    "keepachangelog.com",
    "semver.org",
}
"""Hosts that the documentation may name; 127.0.0.1 and the examples only show how an address is written."""

FOLDERS = "benchmarks|bootstrap|demo|docs|examples|models|p2pcap|requirements|tests"

Table = list[list[str]]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """What stands below each heading, up to the next one of any level."""
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> Table:
    """The cells of every table row in `text`, heads left out, code marks taken off."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, row in enumerate(cells) if set(row[0]) == {"-"}]
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def column(text: str, number: int = 0) -> list[str]:
    return [row[number] for row in rows(text)]


def structs() -> Iterator[type[msgspec.Struct]]:
    for module in (
        maintainers,
        items,
        task,
        sampling,
        audit,
        ticket,
        volunteers,
        puzzle,
        rulings,
        checkpoint,
        evidence,
        fork,
        messages,
        reaching,
    ):
        for name, kind in vars(module).items():
            if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct) or kind is Record:
                continue
            if kind.__module__ == module.__name__ and not name.startswith("_"):
                yield kind


@pytest.mark.parametrize("kind", list(structs()), ids=lambda kind: kind.__name__)
def test_every_field_of_a_record_is_in_its_section_and_no_other(kind: type[msgspec.Struct]) -> None:
    assert column(sections(text_of("docs/protocol.md"))[kind.__name__]) == list(kind.__struct_fields__)


def test_every_type_topic_and_request_is_described() -> None:
    found = sections(text_of("docs/protocol.md"))
    assert set(column(found["Signed statements"])) == set(LIMITS)
    assert set(column(found["Gossip"])) == set(messages.TOPICS)
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "p2pcap" / "swarm").rglob("*.py")]
    served = {name for text in sources for name in re.findall(r'\bserve\("(\w+)"', text)}
    assert served, "the pattern no longer finds what the swarm serves"
    assert set(column(found["Requests"])) == served | {*KINDS, REACH}


VERDICT_TABLES = {
    "A grant": "_grant",
    "A claim": "_claim",
    "A result": "_result",
    "A profile": "_profile",
    "A verdict": "_verdict",
    "A ban or a void": "coordinator",
    "A redaction": "_redact",
    "A checkpoint": "checkpoint",
    "A stamp": "stamp",
    "A fork": "fork",
    "Last, for every type": "signed",
}


SAYING = {"misshapen": "REJECT", "_misinvited": "REJECT", "refusal": "IGNORE", "fault": "REJECT"}
"""Functions that answer with the reason alone, and the verdict that their callers make of it."""


def test_every_verdict_is_described_in_the_order_of_the_code() -> None:
    page = sections(text_of("docs/protocol.md"))["Verdicts"]
    parts = re.split(r"^(A[^:|\n]*|Last[^:|\n]*):$", page, flags=re.MULTILINE)
    tables = {head: rows(part) for head, part in zip(parts[1::2], parts[2::2], strict=True)}
    source = verdict_source()
    assert [(row[2], row[3]) for row in tables.pop("All statements")] == verdicts("validate", source)
    assert set(tables) == set(VERDICT_TABLES)
    for head, name in VERDICT_TABLES.items():
        assert [(row[2], row[3]) for row in tables[head]] == verdicts(name, source), head
    numbers = [row[0] for row in rows(page)]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def verdict_source() -> dict[str, ast.FunctionDef]:
    """The functions of the validator, by name, with those that say what is wrong with a grant or a fork."""
    found = {}
    for module in ("validate", "authority", "judgement", "fork", "grants", "members"):
        for node in ast.walk(ast.parse(text_of(f"p2pcap/ledger/{module}.py"))):
            if isinstance(node, ast.FunctionDef) and (module not in ("grants", "members") or node.name in SAYING):
                found[node.name] = node
    return found


def verdicts(name: str, source: dict[str, ast.FunctionDef], role: str = "") -> list[tuple[str, str]]:
    """The verdicts a function gives, in the order of the source, with their reasons; also those of what it calls.
    `role` is the role whose keys are asked for."""
    given: list[tuple[str, str]] = []
    places = (node for node in ast.walk(source[name]) if isinstance(node, ast.expr | ast.Assign))
    for node in sorted(places, key=lambda node: (node.lineno, node.col_offset)):
        if isinstance(node, ast.Call):
            given += called(node, name, source, role)
        elif isinstance(node, ast.Constant) and name in SAYING and said_by(node, source[name]):
            given.append((SAYING[name], str(node.value)))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp) and name not in SAYING:
            given += [("REJECT", text_in(part, role)) for part in (node.value.body, node.value.orelse) if text_in(part)]
    return given


def called(call: ast.Call, name: str, source: dict[str, ast.FunctionDef], role: str) -> list[tuple[str, str]]:
    """The verdicts of a call within the function `name`."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    texts = [text_in(argument, role) for argument in call.args]
    if function == "Judgement" and "ACCEPT" in ast.unparse(call):
        return []
    if function in ("ignore", "reject", "_unknown_key", "Judgement"):
        verdict = "IGNORE" if function in ("ignore", "Judgement") else "REJECT"
        return [(verdict, text.partition(":")[0]) for text in texts if text]
    if function in source and function not in (name, "signed"):
        return verdicts(function, source, next(filter(None, texts), ""))
    return []


def text_in(node: ast.expr, role: str = "") -> str:
    """The text of a literal; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "{role}" for part in node.values]
        return "".join(parts).replace("{role}", role)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def said_by(text: ast.Constant, function: ast.FunctionDef) -> bool:
    """Whether `function` returns this text, and not an empty one."""
    answers = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
    chosen = [
        part for node in answers for part in ([node.body, node.orelse] if isinstance(node, ast.IfExp) else [node])
    ]
    return bool(text.value) and text in chosen


@pytest.mark.parametrize(
    ("number", "place"), [row[1:] for row in rows(sections(text_of("docs/protocol.md"))["Numbers"])]
)
def test_a_number_is_the_code_s(number: str, place: str) -> None:
    assert float(number.replace(",", "")) == pkgutil.resolve_name(place)


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "": ProjectFile,
    "sampling.": SamplingFile,
    "output.": sampling.OutputPolicy,
    "policy.": Policy,
    "images.": Images,
    "prompts.": PromptFile,
    "stages.": StageFile,
    "prompts.format.": FormatFile,
}
LEFT_OUT = {f"sampling.{name}": value for name, value in msgspec.structs.asdict(DEFAULTS).items()}
LEFT_OUT["policy.error_authors"] = DEFAULT_ERROR_AUTHORS
LEFT_OUT["policy.admission"] = "invite"
LEFT_OUT["policy.peer_audits"] = DEFAULT_PEER_AUDITS
LEFT_OUT["policy.bans"] = True
"""What a key stands for that is left out."""


def settings() -> dict[str, str]:
    """Every key of project.yaml with its default as YAML writes it, "required" when it has none."""
    found: dict[str, str] = {}
    for prefix, kind in SECTIONS.items():
        for field in msgspec.structs.fields(kind):
            key = prefix + field.encode_name
            found[key] = "required" if field.required else said(default_of(field, key))
    return found


def default_of(field: msgspec.structs.FieldInfo, key: str) -> object:
    if field.default is msgspec.UNSET:
        return LEFT_OUT.get(key, msgspec.UNSET)
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def said(default: object) -> str:
    if default is msgspec.UNSET:
        return "none"
    return "section" if isinstance(default, msgspec.Struct) else json.dumps(default)


def test_every_key_of_project_yaml_is_described_with_its_default() -> None:
    page = sections(text_of("docs/maintainer.md"))["project.yaml"]
    assert {row[0]: row[1] for row in rows(page)} == settings()


def test_every_exit_code_is_described() -> None:
    page = sections(text_of("docs/volunteer.md"))["Exit codes"]
    assert {int(row[0]): row[1] for row in rows(page)} == MEANINGS


def test_every_state_of_a_node_is_described() -> None:
    page = sections(text_of("docs/volunteer.md"))["Pause"]
    assert [row[0] for row in rows(page)] == list(get_args(NodeState))


def test_every_file_of_a_node_is_described() -> None:
    page = sections(text_of("docs/volunteer.md"))["Files"]
    names = [name for name, value in vars(NodePaths).items() if isinstance(value, property) and name != "socket_name"]
    assert set(column(page)) == {getattr(NodePaths(Path("node")), name).name for name in names}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in {slug(name) for name in sections(there.read_text(encoding="utf-8"))}, (
                f"{page.name}: {target}"
            )


def slug(heading: str) -> str:
    """The anchor of a heading: lower case, blanks to hyphens, everything else but letters, digits, - and _ left out."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_only_known_hosts_are_named(page: Path) -> None:
    found = re.findall(r"https?://[^\s)>`\"]+", page.read_text(encoding="utf-8"))
    assert {urlsplit(url).hostname for url in found} <= HOSTS


def command_lines() -> Iterator[tuple[str, str]]:
    """Every line of a code block that runs p2pcap, with its page's name."""
    for page in PAGES:
        for block in re.findall(
            r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        ):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("p2pcap "):
                    yield page.name, line


def find_command(words: list[str]) -> click.Command:
    """The command that `words` begin with; what belongs to its name is taken off them."""
    command: click.Command = program
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(program), words.pop(0))
        assert found is not None, "there is no such command"
        command = found
    return command


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_every_command_shown_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = find_command(words)
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    for word in takewhile(lambda word: word not in ("--", "|"), words):
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in options, line


@pytest.mark.parametrize(
    ("page", "section", "words"),
    [("docs/volunteer.md", "Join", ["join"]), ("docs/maintainer.md", "Serve", ["bootstrap", "serve"])],
)
def test_a_table_of_options_is_complete(page: str, section: str, words: list[str]) -> None:
    command = find_command(words)
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert set(column(sections(text_of(page))[section])) == options


def test_every_check_of_the_doctor_is_described() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "p2pcap" / "cli").glob("*check*.py"))
    made = set(re.findall(r'Finding\(\s*"([a-z ]+)"', sources))
    assert made
    table = column(sections(text_of("docs/volunteer.md"))["When something is wrong"])
    assert {name for cell in table for name in cell.replace("`", "").split(", ")} == made


VARIABLE = re.compile(r'"(P2PCAP_[A-Z_]+)"')


def test_every_variable_that_is_read_is_described() -> None:
    """Those of options are in docs/cli.md, which is made from them."""
    sources = [path for folder in ("p2pcap", "bootstrap", "tui") for path in (ROOT / folder).rglob("*.py")]
    read = {name for path in sources for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    told = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {"P2PCAP_HOME", "P2PCAP_NODE", "P2PCAP_DEBUG"} <= read
    assert {name for name in read if name not in told} == set()


def test_every_option_and_its_variable_is_in_the_reference() -> None:
    text = sections(text_of("docs/cli.md"))
    context = program.make_context("p2pcap", [], resilient_parsing=True)
    for command, inner in commands(program, context):
        told = " ".join(text[inner.command_path].split())
        for option in command.params:
            if isinstance(option, click.Option):
                assert all(name in told for name in option.opts), (inner.command_path, option.opts)
                named = option.envvar or f"{inner.auto_envvar_prefix}_{option.name}".upper()
                variables = named if isinstance(named, str) else ", ".join(named)
                assert f"[env var: {variables}" in told, variables


GUIDES = ("volunteer", "maintainer", "export", "proof", "sql")


def test_every_command_is_told_of_where_people_read() -> None:
    text = "".join(text_of(f"docs/{name}.md") for name in GUIDES)
    names = program.list_commands(click.Context(program))
    assert {name for name in names if f"p2pcap {name}" not in text} == set()


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), flags=re.MULTILINE))
    for page in PAGES:
        for name in re.findall(r"`make ([a-z]+)", page.read_text(encoding="utf-8")):
            assert name in targets, f"{page.name}: make {name}"


def test_every_event_named_is_logged() -> None:
    events = " ".join(sections(text_of("docs/volunteer.md"))["Logs"].partition("Events worth knowing: ")[2].split())
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "p2pcap").rglob("*.py"))
    logged = set(re.findall(r'log\.\w+\(\s*"([^"]+)"', sources))
    assert events
    assert set(re.findall(r"`([^`]+)`", events)) <= logged


def test_every_file_in_backquotes_exists() -> None:
    for page in PAGES:
        for name in re.findall(rf"`((?:{FOLDERS})/[\w./]*)`", page.read_text(encoding="utf-8")):
            made = "node_modules" in name  # by the tests that need it
            assert made or (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_name_that_the_architecture_mentions_exists() -> None:
    sources = [path for folder in ("p2pcap", "bootstrap") for path in (ROOT / folder).rglob("*.py")]
    texts = "".join(path.read_text(encoding="utf-8") for path in sources)
    known = {"p2pcap"} | {part for path in sources for part in (path.stem, path.parent.name)}
    known |= {name for pair in re.findall(r"(?:def|class) (\w+)|self\.(\w+)", texts) for name in pair}
    for name in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)+)`", text_of("docs/architecture.md")):
        assert set(name.split(".")) <= known, name


def test_pages_can_be_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", text_of("README.md")))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
