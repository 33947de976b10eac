"""Configuration files as commands meet them: flag over variable over file over default."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.core import ParameterSource

from p2pcap import config
from p2pcap.cli.config_option import CONFIGURED
from p2pcap.cli.main import program, run
from p2pcap.errors import ConfigError
from tests.unit.control_node import running, runtime

__all__ = ["runtime"]

Capture = pytest.CaptureFixture[str]

RUNNING = [name for name, component in CONFIGURED.items() if component == "node"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; there is no configuration file anywhere."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "nodes"))
    for name in CONFIGURED:
        monkeypatch.delenv(f"P2PCAP_{name.replace(' ', '_').upper()}_CONFIG", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_DIRS", raising=False)
    monkeypatch.setattr(config, "SYSTEM", tmp_path / "etc")
    return here


def command(name: str) -> tuple[click.Command, click.Context]:
    """A command, and the context of what it is in."""
    context = click.Context(program, info_name="p2pcap", auto_envvar_prefix="P2PCAP")
    found: click.Command = program
    for word in name.split():
        assert isinstance(found, click.Group)
        if found is not program:
            context = click.Context(found, parent=context, info_name=name.partition(" ")[0])
        inner = found.get_command(context, word)
        assert inner is not None
        found = inner
    return found, context


def parsed(name: str, *arguments: str) -> click.Context:
    """The context of a command that was typed with these arguments."""
    found, context = command(name)
    needed = {"seed": ["ticket", "pictures"], "bootstrap serve": ["cats"]}.get(name, [])
    return found.make_context(name.split()[-1], [*needed, *arguments], parent=context)


def fails(capsys: Capture, name: str, *arguments: str) -> str:
    """What is said when a command's file is refused."""
    assert run([*name.split(), *{"seed": ["t", "p"], "bootstrap serve": ["cats"]}.get(name, []), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    *_, last = err.splitlines()
    return str(last)


# precedence


@pytest.mark.parametrize(
    ("option", "key", "in_file", "variable", "in_environment", "typed", "values"),
    [
        ("name", "name", "File", "NAME", "Env", ["--name", "Flag"], ("", "File", "Env", "Flag")),
        ("gpu_memory", "gpu-memory", 0.5, "GPU_MEMORY", "0.6", ["--gpu-memory", "0.7"], (0.9, 0.5, 0.6, 0.7)),
        ("until_done", "until-done", True, "UNTIL_DONE", "false", ["--until-done"], (False, True, False, True)),
        (
            "private_hosts", "private-hosts", False, "PRIVATE_HOSTS", "true", ["--no-private-hosts"],
            (True, False, True, False),
        ),
        ("peers", "peer", ["/a", "/b"], "PEERS", "/c", ["--peer", "/d"], ((), ("/a", "/b"), ("/c",), ("/d",))),
        ("store", "store", "share", "STORE", "archive", ["--store", "full"], ("full", "share", "archive", "full")),
    ],
)  # fmt: skip
def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    key: str,
    in_file: object,
    variable: str,
    in_environment: str,
    typed: list[str],
    values: tuple[Any, ...],
) -> None:
    default, from_file, from_environment, from_flag = values
    assert parsed("join").params[option] == default
    (folder / "node.yaml").write_text(yaml.safe_dump({key: in_file}))
    held = parsed("join")
    assert held.params[option] == from_file
    assert held.get_parameter_source(option) is ParameterSource.DEFAULT_MAP
    monkeypatch.setenv(f"P2PCAP_JOIN_{variable}", in_environment)
    assert parsed("join").params[option] == from_environment
    assert parsed("join", *typed).params[option] == from_flag


def test_a_command_s_own_section_goes_before_what_is_for_all(folder: Path) -> None:
    (folder / "node.yaml").write_text(
        "seed: {name: Seeder}\nname: All\nlisten: /ip4/127.0.0.1/tcp/1\n"
        "bootstrap: {upload-limit: 3, serve: {upload-limit: 4}}\nupload-limit: 2\njoin: {name: Joiner}\n"
    )
    assert parsed("join").params["name"] == "Joiner"
    assert parsed("seed").params["name"] == "Seeder"
    assert [parsed(name).params["upload_limit"] for name in ("join", "seed", "bootstrap serve")] == [2, 2, 4]
    assert all(parsed(name).params["listen"] == ("/ip4/127.0.0.1/tcp/1",) for name in RUNNING if name != "bench")
    assert "name" not in parsed("bench").params


def sample(option: click.Option) -> tuple[str, list[str]]:
    """What may stand behind a key, and what is typed for the same."""
    flag = max(option.opts, key=len)
    if option.is_flag:
        if option.default is True:
            return "false", [max(option.secondary_opts, key=len)]
        return "true", [flag]
    text = "text"
    if isinstance(option.type, click.Choice):
        text = str(option.type.choices[-1])
    elif isinstance(option.type, click.IntRange | click.FloatRange):
        least = option.type.min
        text = str(least if least is not None else 1)
    elif isinstance(option.type, click.Path):
        text = "/a/folder"
    return text, [flag, text]


def every_option() -> Iterator[tuple[str, str]]:
    for name in CONFIGURED:
        for option in command(name)[0].params:
            if isinstance(option, click.Option) and option.name != "config":
                yield name, max(option.opts, key=len)[2:]


@pytest.mark.parametrize(("name", "key"), list(every_option()))
def test_every_option_may_stand_in_the_file_at_the_top_and_in_its_section(folder: Path, name: str, key: str) -> None:
    option = next(option for option in command(name)[0].params if f"--{key}" in option.opts)
    assert isinstance(option, click.Option)
    text, typed = sample(option)
    expected = parsed(name, *typed).params
    file = folder / f"{CONFIGURED[name]}.yaml"
    file.write_text(f"{key}: {text}\n")
    assert parsed(name, "--config", str(file)).params == expected
    inner = f"{key}: {text}\n"
    for word in reversed(name.split()):
        inner = f"{word}: {{{inner.strip()}}}"
    file.write_text(inner)
    assert parsed(name, "--config", str(file)).params == expected


def test_a_text_is_read_as_it_was_written(folder: Path) -> None:
    for text in ("010", "2020-01-02", "0,2", "yes", "1e3", "'5'", "!!int 7"):
        (folder / "node.yaml").write_text(f"gpus: {text}\n")
        assert parsed("join").params["gpus"] == text.strip("'").removeprefix("!!int ")


def test_relative_paths_start_at_the_file_and_homes_are_found(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    file = other / "mine.yaml"
    file.write_text("node: cats\nlocal-images: ~/pictures\njoin: {model: /models/a}\n")
    held = parsed("join", "--config", str(file)).params
    assert held["node"] == other / "cats"
    assert held["local_images"] == tmp_path / "home" / "pictures"
    assert held["model"] == Path("/models/a")


def test_the_variable_names_a_file_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "node.yaml").write_text("name: Here\n")
    (tmp_path / "mine.yaml").write_text("name: Mine\n")
    monkeypatch.setenv("P2PCAP_JOIN_CONFIG", str(tmp_path / "mine.yaml"))
    assert parsed("join").params["name"] == "Mine"
    assert parsed("seed").params["name"] == "Here"


def test_dev_null_stands_for_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    (folder / "node.yaml").write_text("name: Here\n")
    monkeypatch.setenv("P2PCAP_JOIN_CONFIG", "/dev/null")
    assert parsed("join").params["name"] == ""
    assert capsys.readouterr().err == ""


# what is said


def test_the_file_in_use_is_said_on_standard_error(folder: Path, capsys: Capture) -> None:
    parsed("join")
    assert capsys.readouterr().err == ""
    (folder / "node.yaml").write_text("")
    parsed("join")
    assert capsys.readouterr().err == f"configuration: {folder / 'node.yaml'}\n"
    (folder / "examples").mkdir()
    (folder / "node.yaml").rename(folder / "examples" / "node.yaml")
    parsed("join")
    assert capsys.readouterr().err.startswith(f"warning: the example {folder / 'examples' / 'node.yaml'} is in use.")
    assert capsys.readouterr().out == ""


def test_help_and_other_commands_read_no_file(folder: Path, capsys: Capture) -> None:
    (folder / "node.yaml").write_text("[")
    assert run(["join", "--help"]) == 0
    assert "--config FILE" in capsys.readouterr().out
    assert run(["paths"]) == 0
    assert str(folder / "node.yaml") in capsys.readouterr().out


def test_paths_name_the_files_in_use(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    tui = tmp_path / "home" / ".p2pcap" / "tui.yaml"
    tui.parent.mkdir(parents=True)
    tui.touch()
    (folder / "examples").mkdir()
    (folder / "examples" / "project.yaml").touch()
    (folder / "node.yaml").touch()
    (folder / "node.yaml").chmod(0o666)
    assert run(["paths", "--json"]) == 0
    out, err = capsys.readouterr()
    example = str(folder / "examples" / "project.yaml")
    assert json.loads(out)["config"] == {"project": example, "node": None, "tui": str(tui)}
    assert "everybody may write it" in err
    assert run(["paths"]) == 0
    told = capsys.readouterr().out
    assert f"project.yaml  {example} (an example)\n" in told
    assert "node.yaml     none\n" in told


@pytest.mark.usefixtures("runtime")
def test_tui_yaml_says_which_node_is_shown(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    node = tmp_path / "n"
    (folder / "tui.yaml").write_text("node: ~/none\nstatus: {json: true}\n")
    with running(node):
        assert run(["status"]) == 4
        assert "~/none" in capsys.readouterr().err
        assert run(["status", "--node", str(node)]) == 0
    assert json.loads(capsys.readouterr().out)


# what is refused


@pytest.mark.parametrize("name", RUNNING)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n\nlisen: /ip4/127.0.0.1/tcp/1\n", "line 3: unknown key `lisen`; did you mean `listen`?"),
        ("join:\n  gpu: 0\n", "line 2: unknown key `gpu`; did you mean `gpus`?"),
        ("seed: {gpus: 0}\n", "line 1: unknown key `gpus`. p2pcap seed --help lists all."),
        ("zzzzzz: 1\n", "line 1: unknown key `zzzzzz`. p2pcap bench --help lists all."),
        ("jion: {name: a}\n", "did you mean `join`?"),
        ("bootstrap: {server: {}}\n", "unknown key `server`; did you mean `serve`?"),
        ("local_images: x\n", "did you mean `local-images`?"),
        ("no-private-hosts: true\n", "did you mean `private-hosts`?"),
        ("config: other.yaml\n", "unknown key `config`"),
        ("help: true\n", "unknown key `help`"),
        ("5: true\n", "unknown key `5`"),
        ("[a]: true\n", "line 1: a key is a single word."),
        (f"{'z' * 900}: true\n", f"unknown key `{'z' * 80}`. p2pcap"),
        ("join: {url: http://127.0.0.1/v1}\n", "does not count in a file that lay in the current folder"),
        ("name: a\nengines: many\n", "line 2: `engines` cannot be that: 'many' is not a valid integer range."),
        ("join:\n  gpu-memory: 1.5\n", "line 2: `gpu-memory` cannot be that: 1.5 is not in the range"),
        ("gpu-memory: .nan\n", "line 1: `gpu-memory` cannot be that"),
        ("engines: true\n", "line 1: `engines` cannot be that: 'true' is not"),
        ("dht: perhaps\n", "line 1: `dht` cannot be that: 'perhaps' is not a valid boolean"),
        ("log-level:\n  loud\n", "line 2: `log-level` cannot be that: 'loud' is not one of"),
        ("name: [a]\n", "line 1: `name` has to be a single value."),
        ("name:\n  first: a\n", "line 2: `name` has to be a single value."),
        ("listen:\n- [a]\n", "line 2: `listen` has to be a list of single values."),
        ("listen: {a: 1}\n", "line 1: `listen` has to be a list of single values."),
        ("name:\n", "line 1: `name` has no value. Give it one, or remove the line."),
        ("listen: [a, ~]\n", "line 1: `listen` has no value."),
        ('name: "a\\0b"\n', "line 1: `name` holds a NUL"),
        ("model: ~nobody.here/a\n", "line 1: ~nobody.here/a cannot be found: there is no such user"),
        ("name: a\nname: b\n", "line 2: `name` is given a second time, after line 1"),
        ("join: 5\n", "line 1: section join holds no keys with values"),
        ("join:\nname: a\n", "line 1: section join holds no keys with values"),
        ("bootstrap: {serve: []}\n", "section bootstrap serve holds no keys"),
        ("- name\n", "line 1: the file holds no keys with values"),
        ("just text\n", "line 1: the file holds no keys with values"),
        ("name: [\n", "is not YAML"),
        ("trust-remote-code: owner/model\n", "does not count in a file that lay in the current folder"),
    ],
)  # fmt: skip
def test_each_fault_has_its_sentence_whichever_command_reads_the_file(
    folder: Path, capsys: Capture, name: str, text: str, says: str
) -> None:
    (folder / "node.yaml").write_text(text)
    told = fails(capsys, name)
    assert says in told
    assert told.startswith(str(folder / "node.yaml"))


def test_a_model_s_code_is_trusted_by_a_file_that_was_named_or_is_at_home(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home" / ".p2pcap" / "node.yaml"
    home.parent.mkdir(parents=True)
    home.write_text("trust-remote-code: [owner/model]\n")
    assert parsed("join").params["trust_remote_code"] == ("owner/model",)
    (folder / "node.yaml").write_text("trust-remote-code: [owner/other]\n")
    with pytest.raises(ConfigError):
        parsed("join")
    assert parsed("join", "--config", "node.yaml").params["trust_remote_code"] == ("owner/other",)


@pytest.mark.parametrize("named", ["gone.yaml", "~nobody.here/node.yaml", "."])
def test_a_file_that_was_named_and_cannot_be_read_is_one_sentence(folder: Path, capsys: Capture, named: str) -> None:
    (folder / "node.yaml").write_text("name: Ada\n")
    assert fails(capsys, "join", "--config", named)


def test_no_section_is_called_like_an_option() -> None:
    """A key of one file is either a section or an option."""
    for component in set(CONFIGURED.values()):
        own = {name for name, its in CONFIGURED.items() if its == component}
        words = {word for name in own for word in name.split()}
        assert words & {key for name, key in every_option() if name in own} == set()
