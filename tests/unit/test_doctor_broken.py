"""`p2pcap doctor` with the thing really broken: disk, clock, vLLM, database, signatures, the Hub, NAT.

And what a report to paste leaves out."""

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from p2pcap.cli import checks, engine_checks, network_checks, project_checks
from p2pcap.cli.engine_checks import Loading, loaded
from p2pcap.cli.main import run
from p2pcap.cli.nodes import Target
from p2pcap.cli.redacting import redacted
from p2pcap.identity import Identity
from p2pcap.paths import running_node
from p2pcap.project.opened import expires_at
from p2pcap.project.ticket import Ticket
from p2pcap.store.database import connect_writer
from tests.sources.fake_hub import FakeHub
from tests.unit.control_node import running, runtime
from tests.unit.store_project import ADA, BOB, NOW, sample

__all__ = ["runtime"]

pytestmark = pytest.mark.usefixtures("runtime")

DAY = 86_400


def target(directory: Path) -> Target:
    return Target(directory, running_node(directory))


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The folder of a node that has run."""
    with running(tmp_path / "node"):
        pass
    return tmp_path / "node"


# the machine


@pytest.mark.parametrize(("free", "verdict"), [(30e9, "ok"), (2e9, "warning"), (5e8, "problem")])
def test_memory(tmp_path: Path, free: float, verdict: str) -> None:
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal:  32000000 kB\nMemAvailable: {int(free / 1024)} kB\nHugePages: 0\n")
    assert checks.memory(file).verdict == verdict


def test_memory_of_this_machine_and_of_one_that_tells_nothing(tmp_path: Path) -> None:
    assert "GB free" in checks.memory().text
    for text in ("", "MemTotal: x kB\nMemAvailable: y kB\n"):
        (tmp_path / "m").write_text(text)
        assert checks.memory(tmp_path / "m").verdict == "ok"
    assert checks.memory(tmp_path / "none").verdict == "ok"


def test_a_disk_that_takes_nothing(tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]) -> None:
    assert "MB/s" in checks.disk_speed(tmp_path / "not" / "made" / "yet").text
    with full_disk():
        found = checks.disk_speed(tmp_path)
    assert (found.verdict, "File too large" in found.text) == ("problem", True)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(("seconds", "verdict"), [(0.0, "ok"), (1.0, "ok"), (1.7, "warning")])
def test_a_slow_disk(seconds: float, verdict: str) -> None:
    assert checks.speed(checks.TRIED, seconds, Path("/")).verdict == verdict


@pytest.mark.parametrize(
    ("told", "verdict", "way"),
    [
        (1_000, "ok", "as that"),
        (999, "ok", "as that"),
        (1_003, "ok", "as that"),
        (980, "warning", "18 s ahead of"),
        (1_030, "warning", "28 s behind"),
        (900, "problem", "ahead of"),
        (1_100, "problem", "behind"),
    ],
)
def test_a_clock_against_a_server_s(told: int, verdict: str, way: str) -> None:
    found = checks.clock_against(told, 999.5, 1_001.5, "the Hub")
    assert (found.verdict, way in found.text) == (verdict, True)
    assert verdict == "ok" or "timedatectl" in found.text


# vLLM

BROKEN = {
    "import": ("raise ImportError('libcudart.so.13: cannot open shared object file')", "libcudart.so.13"),
    "crash": ("import os; os.abort()", "exit code -6"),
    "nonsense": ("import sys; print('hello'); sys.exit(0)", "cannot be loaded"),
}


@pytest.mark.parametrize("how", list(BROKEN))
def test_a_vllm_that_cannot_be_loaded(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, why = BROKEN[how]
    (tmp_path / "vllm.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    loading = Loading.start()
    assert loading is not None
    found = loading.finding()
    assert (found.verdict, why in found.text) == ("problem", True), found.text


def test_a_vllm_that_takes_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vllm.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    loading = Loading.start()
    assert loading is not None
    assert "not loaded within" in loading.finding(0.2).text
    assert loading.process.returncode is not None, "the process was ended"


@pytest.mark.parametrize(
    ("cuda", "usable", "gpus", "verdict", "says"),
    [
        ("13.0", True, True, "ok", "in 12 s"),
        ("13.0", False, True, "problem", "Update the driver"),
        (None, False, True, "warning", "without CUDA"),
        (None, False, False, "ok", "in 12 s"),
    ],
)
def test_what_loading_says_of_driver_and_torch(
    cuda: str | None, usable: bool, gpus: bool, verdict: str, says: str
) -> None:
    told = "noise\n" + json.dumps({"vllm": "0.32.0", "torch": "2.13", "cuda": cuda, "usable": usable})
    found = loaded(0, told, "", gpus, 12.0)
    assert (found.verdict, says in found.text) == (verdict, True)


# the project


def test_a_database_that_is_held_by_another_process(node: Path) -> None:
    assert project_checks.database(target(node)).verdict == "ok"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom p2pcap.store.database import connect_writer\n"
        "held = connect_writer(Path(sys.argv[1]))\nprint('held', flush=True)\ntime.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(node / "ledger.duckdb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        found = project_checks.database(target(node))
        holder.kill()
    assert (found.verdict, f"process {holder.pid}" in found.text) == ("problem", True)


def test_a_database_that_is_none(tmp_path: Path) -> None:
    assert project_checks.database(target(tmp_path)).verdict == "ok"
    (tmp_path / "ledger.duckdb").write_text("nonsense")
    assert project_checks.database(target(tmp_path)).verdict == "problem"


@pytest.mark.parametrize("live", [True, False])
def test_signatures_and_how_long_they_hold(node: Path, live: bool) -> None:
    signed = sample().project
    ends = expires_at(signed)

    def found(now: float, expected: bytes | None = None) -> tuple[str, str]:
        _, (finding,) = project_checks.project(target(node), expected, now)
        return finding.verdict, finding.text

    def all_of_it() -> None:
        verdict, text = found(NOW, signed.hash)
        assert (verdict, "manifest 1 is signed by" in text) == ("ok", True)
        assert found(ends - 3 * DAY)[0] == "warning"
        assert found(ends + 3 * DAY)[0] == "warning"
        assert found(ends + 40 * DAY)[0] == "problem"
        assert found(NOW, bytes(32))[0] == "problem", "it is another project than the ticket's"

    if live:
        with running(node):
            all_of_it()
    else:
        all_of_it()


def test_a_plan_that_was_changed_in_the_database(node: Path) -> None:
    with connect_writer(node / "ledger.duckdb") as connection:
        connection.execute("UPDATE blob SET data = 'x'::BLOB")
    opened, (finding,) = project_checks.project(target(node), None, NOW)
    assert (opened, finding.verdict) == (None, "problem")


def test_a_node_without_a_project(tmp_path: Path) -> None:
    connect_writer(tmp_path / "ledger.duckdb").close()
    assert project_checks.project(target(tmp_path), None, NOW)[1][0].text.startswith("not here yet")


# the Hub


def test_the_hub_and_models_that_are_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pcap.project.task import Model

    files = {"config.json": b"{}"}
    with FakeHub({"o/open": files, "o/gated": files}, gated=("o/gated",), tokens=("hf_x",)) as hub:
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        answers, clock = project_checks.hub()
        assert (answers.verdict, clock.verdict) == ("ok", "ok")
        found = {name: project_checks._model(Model(f"o/{name}", "a" * 40)) for name in ("open", "gated", "none")}
    assert {name: one.verdict for name, one in found.items()} == {"open": "ok", "gated": "problem", "none": "problem"}
    assert "hf auth login" in found["gated"].text
    assert project_checks._model(Model("shared")).verdict == "ok"
    (away,) = project_checks.hub()
    assert (away.verdict, "does not answer" in away.text) == ("warning", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not asked" in project_checks.hub()[0].text


def test_a_hub_whose_clock_is_another_or_no_date() -> None:
    findings = project_checks.hub(lambda: ("the Hub", "Fri, 01 Jan 2021 00:00:00 GMT"))
    assert [finding.verdict for finding in findings] == ["ok", "problem"]
    assert len(project_checks.hub(lambda: ("the Hub", "yesterday"))) == 1


def test_what_does_not_answer_is_left_behind() -> None:
    begun = time.monotonic()
    assert project_checks.within(0.01, lambda: time.sleep(5)) == []
    assert time.monotonic() - begun < 5


# NAT


@pytest.mark.parametrize(
    ("own", "external", "verdict", "says"),
    [
        (["192.168.1.2", "2a00:1450::5"], "", "ok", "none"),
        (["8.8.8.8"], "8.8.8.8", "ok", "none"),
        (["192.168.1.2"], "8.8.8.8", "ok", "one, at the router"),
        (["192.168.1.2"], "100.64.1.9", "warning", "two"),
        (["192.168.1.2"], "10.0.0.1", "warning", "two"),
        (["192.168.1.2"], "", "ok", "unknown kind"),
        ([], "", "warning", "without a route"),
    ],
)
def test_kinds_of_nat(own: list[str], external: str, verdict: str, says: str) -> None:
    found = network_checks.nat(own, external)
    assert (found.verdict, says in found.text) == (verdict, True)


# what is pasted

PEER = Identity.from_seed(b"p" * 32).peer_id

SECRETS = {
    "/home/ada/my cats/node.key": "/home/ada/my cats",
    "~/.cache": None,
    f"/ip4/203.0.113.7/tcp/4001/p2p/{PEER}": None,
    "/dns4/cats.example.org/tcp/1": None,
    "203.0.113.7": None,
    "2001:db8::1": None,
    "fe80:1:2:3:4:5:6:7": None,
    PEER: None,
    "hf_AbCdEfGhIjKlMnOp": None,
    "https://me:secret@hub.example.org/x": None,
    "5a" * 32: None,
    "p2pcap:" + "a2" * 40: None,
    "Ada": "Ada",
    "attic": "attic",
}


@pytest.mark.parametrize("secret", list(SECRETS))
@pytest.mark.parametrize("sentence", ["{} is gone. Make it.", "see {}: no", "({})", "x {}, y"])
def test_a_report_holds_nothing_of_who_or_where(secret: str, sentence: str) -> None:
    told = redacted(sentence.format(secret), [name for name in SECRETS.values() if name])
    assert "<" in told
    for part in (secret, "ada", "cats", "203.0", "db8", "secret", "5a5a", "example"):
        assert part.lower() not in told.lower()


def test_a_report_keeps_versions_sizes_times_and_sentences() -> None:
    told = (
        "Python 3.11.7, libp2p 0.8.1 at 17:59:05 UTC, 16.5 of 80.0 GB free; 168 MB/s (and/or 3.2 images/s), 0.05 MB/s."
    )
    assert redacted(told, ["ada", "me"]) == told


def test_the_command_pastes_no_path_and_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path / "my home"))
    given = Ticket("Ada's cats", bytes(32), None, ("/ip4/203.0.113.9/tcp/1",))
    with running(tmp_path / "my home" / "projects" / "0123456789abcdef"):
        run(["doctor", "--redacted", "--offline", "--quick"])
        out, err = capsys.readouterr()
    assert out.startswith("```\n")
    assert out.endswith("```\n")
    assert err == ""
    for part in (str(tmp_path), "my home", "Shapes", "attic", ADA.peer_id, BOB.peer_id, "/tmp", os.sep + "home"):
        assert part not in out
    run(["doctor", str(given), "--redacted", "--offline", "--quick", "--json"])
    told = capsys.readouterr().out
    assert "Ada" not in told
    assert "203.0" not in told
    assert isinstance(json.loads(told), list)


def test_quiet_shows_only_what_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor", "nonsense", "--offline", "--quick", "-q"])
    out, err = capsys.readouterr()
    assert err == ""
    assert "problem" in out
    assert not any(line.startswith("ok") for line in out.splitlines())


def test_a_gpu_s_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pcap.engine.gpus import Gpu, Gpus

    monkeypatch.setattr(engine_checks, "look", lambda: Gpus((Gpu(index=0, name="NVIDIA H200"),), driver="580.95.05"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "driver 580.95.05, GPU 0 (NVIDIA H200)" in engine_checks.engine().text


def test_a_user_without_a_name_is_told_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("P2PCAP_HOME", str(tmp_path))
    run(["doctor", "--redacted", "--offline", "--quick"])
    out, err = capsys.readouterr()
    assert out.startswith("```\n")
    assert err == ""
