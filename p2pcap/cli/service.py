"""`p2pcap service`: let systemd run the node of this user, from the start of the machine on.

Always holds: nothing of the system is touched, only this user's own units; each call to systemd has a deadline.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from p2pcap.cli.exits import OK, exit_code
from p2pcap.cli.forms import Form, forms
from p2pcap.cli.join import find_ticket
from p2pcap.cli.output import result, result_json, say
from p2pcap.cli.unit import FINISH_WITHIN, unit
from p2pcap.errors import ConfigError, NotRunningError, P2pcapError
from p2pcap.paths import NodePaths, expanded
from p2pcap.whole_file import replace_whole

ANSWER_WITHIN = 30.0
SHOWN = ("LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "ExecMainStatus", "FragmentPath")
HEADLESS = ("--no-tui",)
"""What `join` needs to be told where nobody sits in front of it. Not --yes: other keys, or another model, are agreed to
by whoever is asked on a terminal, and until then the node ends with an exit code that the unit does not retry."""

PLACES = ("P2PCAP_HOME", "HF_HOME", "SSL_CERT_FILE")
"""Variables that may hold a relative path, which would be another one in the unit's folder."""

NO_SYSTEMD = "This machine has no systemd for this user ({why}). Have whatever starts programs here run: p2pcap join"
NAME = click.option(
    "--name", default="p2pcap", show_default=True, callback=lambda ctx, parameter, value: _checked(value), help="Unit."
)


def _checked(name: str) -> str:
    """A name that a unit may have (systemd.unit(5)). Raises ConfigError."""
    if (
        not name
        or len(name) > 200
        or not all(letter.isascii() and (letter.isalnum() or letter in ":-_.") for letter in name)
    ):
        raise ConfigError(f"{name!r} can be no unit's name. Use letters, digits and - _ . only.")
    return name.removesuffix(".service")


@click.group()
def service() -> None:
    """Let systemd run this user's node, also after a restart of the machine."""


@service.command(
    epilog="""\b
Examples:
  p2pcap service install
  p2pcap service install --node ~/cats --name p2pcap-cats -- --gpus 0,2 --until-done
  p2pcap service install --print > p2pcap.service"""
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF JOIN]...")
@click.option("--node", type=click.Path(path_type=Path), help="Folder of the node. [default: the only one joined]")
@NAME
@click.option("--start/--no-start", default=True, show_default=True, help="Start it at once.")
@click.option("--print", "shown", is_flag=True, help="Print the unit, and change nothing.")
def install(options: tuple[str, ...], node: Path | None, name: str, start: bool, shown: bool) -> None:
    """Install a systemd unit that runs `p2pcap join` for the project joined before, and start it.

    Join once by hand first: there it is said what the project is, and asked; after "--", --observe needs no answer, and
    --yes gives it, now and later. Settings stand best in node.yaml; what follows "--" is given to join each time.
    Variables that say where things are (P2PCAP_HOME, HF_HOME …) are taken along; tokens go into
    ~/.config/p2pcap/environment, as NAME=VALUE lines in a file that only you can read.
    """
    paths, _ = find_ticket(None, expanded(node).absolute() if node else None)
    command = _command(paths, ["--node", str(paths.directory)] if node else [], options)
    text = unit(name, command, _environment(), str(paths.directory))
    if shown:
        for line in text.splitlines():
            result(line)
        return
    _systemctl("show-environment")
    path = _place(name)
    _verify(name, text)
    _write(path, text)
    _systemctl("daemon-reload")
    _systemctl("enable", f"{name}.service")
    if start:
        _systemctl("restart", f"{name}.service")
    say(f"wrote {path}; it {'runs, and ' if start else ''}starts when you log in. To have it start with the machine:")
    say("  loginctl enable-linger")
    say(f"see how it does: p2pcap service status{'' if name == 'p2pcap' else f' --name {name}'}, p2pcap log -f")


@service.command(
    epilog="""\b
Example:
  p2pcap service uninstall"""
)
@NAME
def uninstall(name: str) -> None:
    """Stop the unit, once what it has in hand is finished, and remove it. The node's folder stays."""
    path = _place(name)
    if not path.is_file():
        raise NotRunningError(f"There is no {path}. See what is there: systemctl --user list-unit-files")
    _systemctl("disable", "--now", f"{name}.service", within=FINISH_WITHIN + ANSWER_WITHIN)
    path.unlink()
    _systemctl("daemon-reload")
    say(f"removed {path}; the node's folder is as it was")


@service.command(
    epilog="""\b
Examples:
  p2pcap service status
  p2pcap service status -q          active, inactive, failed …"""
)
@NAME
@forms("As one JSON object.", "Only the state, in systemd's word.")
def status(name: str, form: Form) -> int:
    """Say whether the unit is installed and runs, and whether it starts with the machine. Ends with 4 if it does not
    run."""
    found = _state(name)
    if form == "json":
        result_json(found)
    elif form == "quiet":
        result(str(found["state"]))
    else:
        result(f"unit        {found['unit'] or 'not installed: p2pcap service install'}")
        result(
            f"state       {found['state']} ({found['detail']})" + (f", process {found['pid']}" if found["pid"] else "")
        )
        result(f"starts      {_starts(found)}")
        if found["state"] == "failed":
            say(f"it ended with exit code {found['exit_code']}; p2pcap log says why, and p2pcap --help what that means")
    return OK if found["state"] == "active" else exit_code(NotRunningError())


def _starts(found: dict[str, object]) -> str:
    if not found["enabled"]:
        return "by hand only: p2pcap service install"
    return "with the machine" if found["lingers"] else "when you log in; with the machine after: loginctl enable-linger"


def _state(name: str) -> dict[str, object]:
    """What systemd says of the unit."""
    told = _systemctl("show", f"{name}.service", f"--property={','.join(SHOWN)}")
    said = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    return {
        "unit": said.get("FragmentPath") or None,
        "state": said.get("ActiveState", "unknown"),
        "detail": said.get("SubState", "unknown"),
        "pid": int(said.get("MainPID") or 0) or None,
        "exit_code": int(said.get("ExecMainStatus") or 0),
        "enabled": said.get("UnitFileState") == "enabled",
        "lingers": _lingers(),
    }


def _lingers() -> bool:
    """Whether this user's services run while he is not logged in."""
    try:
        return _run(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]).stdout.strip() == "yes"
    except P2pcapError:
        return False


def _command(paths: NodePaths, chosen: Sequence[str], options: Sequence[str]) -> list[str]:
    """What the unit runs: the same wherever it is run. Raises what `join` would raise for these options, and
    ConfigError when nobody has agreed to what it would lend."""
    from p2pcap.cli.main import program

    context = click.Context(program, info_name="p2pcap")
    join = program.get_command(context, "join")
    assert join is not None
    given = [*chosen, *HEADLESS, *options]
    with join.make_context("join", list(given), parent=context, resilient_parsing=False) as parsed:
        if parsed.params.get("ticket") is not None:
            raise ConfigError("A service goes on with what was joined before, so it takes no ticket. Leave it out.")
        typed = {name for name in parsed.params if parsed.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        _check_agreed(NodePaths(parsed.params["node"] or paths.directory), typed)
    return [sys.executable, "-P", "-m", "p2pcap", "join", *_whole(given, join)]


def _check_agreed(paths: NodePaths, typed: Collection[str]) -> None:
    """What is in a variable or a file here does not count: the unit may not see it."""
    if not paths.consent.exists() and not {"observe", "yes"} & set(typed):
        raise ConfigError(
            f"Nobody has agreed yet to what a volunteer in {paths.directory} lends. Run p2pcap join once by hand; "
            "or add -- --observe to watch only, or -- --yes to agree to it unseen, now and whenever it changes."
        )


def _whole(words: Sequence[str], join: click.Command) -> list[str]:
    """The words, which `join` takes, with each path in them whole."""
    named = {name for option in join.params if isinstance(option.type, click.Path) for name in option.opts}
    whole: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        if before in named or (before == "--project" and "://" not in word):
            whole.append(_absolute(word))
        elif equals and (name in named or (name == "--project" and "://" not in value)):
            whole.append(f"{name}={_absolute(value)}")
        else:
            whole.append(word)
    return whole


def _absolute(path: str) -> str:
    return str(expanded(path).absolute())


def _environment() -> dict[str, str]:
    """The variables, with their paths whole."""
    return {**os.environ, **{name: _absolute(os.environ[name]) for name in PLACES if os.environ.get(name)}}


def _place(name: str) -> Path:
    """The unit's file (systemd.unit(5), user unit search path)."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(given) if given.startswith("/") else expanded("~/.config")
    return folder / "systemd" / "user" / f"{name}.service"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}. Check who owns its folder.") from error


def _verify(name: str, text: str) -> None:
    """Have systemd itself read the unit, where it has a program for that. Raises P2pcapError with what it finds."""
    if shutil.which("systemd-analyze") is None:
        return
    with tempfile.TemporaryDirectory(prefix="p2pcap-") as folder:
        path = Path(folder) / f"{name}.service"
        path.write_text(text)
        said = _run(["systemd-analyze", "--user", "verify", str(path)]).stderr
    if faults := [line.removeprefix(f"{path}:") for line in said.splitlines() if line.startswith(str(path))]:
        raise P2pcapError(f"systemd does not take the unit: {faults[0]}. Report this; --print shows the unit.")


def _systemctl(*arguments: str, within: float = ANSWER_WITHIN) -> str:
    """What systemctl answers for this user. Raises P2pcapError."""
    if shutil.which("systemctl") is None:
        raise P2pcapError(NO_SYSTEMD.format(why="there is no systemctl"))
    return _run(["systemctl", "--user", *arguments], within).stdout


def _run(command: Sequence[str], within: float = ANSWER_WITHIN) -> "subprocess.CompletedProcess[str]":
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=within, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = f"no answer in {within:g} s" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise P2pcapError(f"{command[0]}: {why}. Try it by hand: {' '.join(command)}") from error
    if done.returncode == 0:
        return done
    said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
    if "connect to bus" in said or "not been booted" in said or "host is down" in said.lower():
        raise P2pcapError(NO_SYSTEMD.format(why=said))
    raise P2pcapError(f"{command[0]} says: {said}. Try it by hand: {' '.join(command)}")
