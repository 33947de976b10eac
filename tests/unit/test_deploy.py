"""The coordinator's container and services: as far as they can be tried without a container and without systemd."""

import importlib.metadata as metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from p2pcap.node.client import Client
from p2pcap.paths import running_node
from tests.unit.captioned import captioned_project
from tests.unit.control_node import runtime

__all__ = ["runtime"]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "bootstrap" / "deploy"
UNITS = [DEPLOY / "p2pcap-coordinator@.service", DEPLOY / "user" / "p2pcap-coordinator@.service"]
NEWER = ("RestartSteps", "RestartMaxDelaySec")
"""Keys that systemd knows from version 254 on."""

NOT_SERVING = {"datasets", "nvidia-ml-py", "pillow", "pyarrow", "textual"}
"""What p2pcap needs for other things than serving a project."""

NEVER_CALLED = {"grpcio", "hf-xet", "lru-dict", "mypy-protobuf", "rpcudp", "types-requests"}
"""What libraries name as their requirement, and p2pcap's use of them never imports."""

IMAGE = 300_000_000
SLIM = 130_000_000
"""Bytes of the image at most, and of python:3.11-slim."""


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", path.read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def needed() -> set[str]:
    """The packages that p2pcap without an engine needs, by what the installed ones say of themselves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    left, found = [Requirement(text) for text in project["dependencies"]], set[str]()
    while left:
        one = left.pop()
        name = canonicalize_name(one.name)
        wanted = one.marker is None or one.marker.evaluate({"extra": ""})
        if wanted and name not in found | NOT_SERVING | NEVER_CALLED:
            found.add(name)
            left += [Requirement(text) for text in metadata.requires(name) or ()]
    return found


def test_the_list_of_packages_is_what_p2pcap_needs_in_the_locked_versions() -> None:
    listed, locked = pins(DEPLOY / "coordinator.txt"), pins(ROOT / "requirements" / "cpu-py311.txt")
    assert set(listed) == needed()
    assert listed == {name: locked[name] for name in listed}


def steps() -> list[tuple[str, str]]:
    """The Containerfile's instructions, with their arguments."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_containerfile_copies_what_there_is_and_ends_as_a_user() -> None:
    found = steps()
    assert [rest for word, rest in found if word == "FROM"] == [
        "docker.io/library/python:3.11 AS build",
        "docker.io/library/python:3.11-slim",
    ]
    copied = [rest.split()[:-1] for word, rest in found if word == "COPY" and "--from" not in rest]
    assert all((ROOT / name).exists() for names in copied for name in names)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= {name for names in copied for name in names}
    last = dict(found)
    assert last["USER"] == "10001"
    assert last["ENTRYPOINT"] == '["python", "-m", "p2pcap"]'
    assert '"bootstrap", "serve", "/project"' in last["CMD"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the listed packages and p2pcap, as the build stage makes /opt/p2pcap, of links to what is here."""
    folder = tmp_path_factory.mktemp("image") / "p2pcap"
    for name in pins(DEPLOY / "coordinator.txt"):
        found = metadata.distribution(name)
        for file in found.files or ():
            place = Path(str(found.locate_file(file)))
            if ".." not in file.parts and place.is_file() and "__pycache__" not in file.parts:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                if place.suffix == ".so":
                    shutil.copyfile(place, folder / file)  # one of the steps changes them
                else:
                    (folder / file).symlink_to(place)
    for package in ("p2pcap", "bootstrap/p2pcap_bootstrap"):
        (folder / Path(package).name).symlink_to(ROOT / package)
    about = next(Path(str(metadata.distribution("p2pcap").locate_file(""))).glob("p2pcap-*.dist-info"))
    shutil.copytree(about, folder / about.name)
    for step in [rest for word, rest in steps() if word == "RUN" and rest.startswith(("rm -rf /opt", "find /opt"))]:
        subprocess.run(step.replace("/opt/p2pcap", str(folder)), shell=True, check=True)
    return folder


def test_the_image_stays_below_its_limit(installed: Path) -> None:
    """On disk, with what `du` counts."""
    blocks = sum(-(-path.stat().st_size // 4096) * 4096 for path in files(installed))
    assert SLIM + blocks < IMAGE


def files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder, followlinks=True):
        yield from (Path(where) / name for name in names if "__pycache__" not in where)


def program(installed: Path, *arguments: str) -> list[str]:
    """p2pcap out of that folder alone: `-S` leaves this machine's packages out."""
    return [sys.executable, "-S", "-m", "p2pcap", *arguments]


def environment(installed: Path, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "XDG_RUNTIME_DIR", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(installed), "PYTHONUNBUFFERED": "1", "HOME": str(home)}


@pytest.mark.usefixtures("runtime")
def test_a_coordinator_serves_out_of_those_packages_alone(installed: Path, tmp_path: Path) -> None:
    workspace = captioned_project(tmp_path)
    where = {"env": environment(installed, tmp_path), "text": True, "cwd": tmp_path}
    missing = "import importlib.util as u; print([n for n in ('torch', 'vllm', 'PIL', 'pyarrow') if u.find_spec(n)])"
    found = subprocess.run([sys.executable, "-S", "-c", missing], capture_output=True, check=True, **where)  # type: ignore[call-overload]
    assert found.stdout.strip() == "[]"
    serve = program(installed, "bootstrap", "serve", str(workspace.directory), "--listen", "/ip4/127.0.0.1/tcp/0")
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where) as coordinator:  # type: ignore[call-overload]
        assert coordinator.stdout.readline().startswith("p2pcap:"), coordinator.communicate()[1]
        try:
            ban = program(installed, "ban", str(workspace.directory), "ada", "--yes")
            done = subprocess.run(ban, capture_output=True, check=False, **where)  # type: ignore[call-overload]
            assert "40 images are open again" in done.stdout, done.stderr
            assert "the coordinator's node holds it" in done.stderr
            query = program(installed, "query", "SELECT 1", "--node", str(workspace.node))
            refused = subprocess.run(query, capture_output=True, check=False, **where)  # type: ignore[call-overload]
            assert refused.returncode == 2, refused.stderr
            assert "pip install pyarrow" in refused.stderr
            node = running_node(workspace.node)
            assert node is not None
            with Client(node.socket) as client:
                client.stop()
            assert coordinator.wait(60) == 0
        finally:
            coordinator.kill()


@pytest.mark.parametrize("unit", UNITS, ids=["system", "user"])
def test_the_units_are_understood_by_systemd(unit: Path, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed here")
    copy = tmp_path / "p2pcap-coordinator@cats.service"
    copy.write_text(unit.read_text().replace("/opt/p2pcap/bin/p2pcap", shutil.which("true") or "/bin/true"))
    mode = ["--user"] if unit.parent.name == "user" else []
    done = subprocess.run(
        [tool, *mode, "verify", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    about = [line for line in done.stderr.splitlines() if copy.name in line and not any(key in line for key in NEWER)]
    assert (done.returncode, about) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=["system", "user"])
def test_the_units_are_hardened_and_come_back(unit: Path) -> None:
    lines = [line.partition("=") for line in unit.read_text().splitlines() if "=" in line and line[0] != "#"]
    said = {(key, value) for key, _, value in lines}
    assert {("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("Restart", "on-failure"), *BACK_OFF} <= said
    assert dict(said)["ExecStart"].split()[1:3] == ["bootstrap", "serve"]
    assert ("StateDirectory", "p2pcap/%i") in said or unit.parent.name == "user"


BACK_OFF = {("RestartSec", "2s"), ("RestartSteps", "8"), ("RestartMaxDelaySec", "5min"), ("StartLimitIntervalSec", "0")}


def test_the_readme_names_what_there_is() -> None:
    text = (DEPLOY / "README.md").read_text()
    named = set(re.findall(r"bootstrap/deploy/[\w./@-]+", text))
    assert named
    assert all((ROOT / name).exists() for name in named)
