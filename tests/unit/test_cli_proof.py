"""The commands around proofs: from nodes that run and from those that have ended, as a person uses them."""

import json
from pathlib import Path

import pytest

from p2pcap.cli.main import run
from tests.makers import make_ticket
from tests.unit.control_node import running, runtime
from tests.unit.export_ledger import kept
from tests.unit.test_cli_nodes import fails, node, ok, user_home
from tests.unit.test_export import results
from tests.unit.test_parquet_proof import PROJECT, everything

__all__ = ["node", "runtime", "user_home"]

pytestmark = pytest.mark.usefixtures("runtime", "user_home")

Capture = pytest.CaptureFixture[str]
HASH = PROJECT.project.hash.hex()


def test_running_and_ended_nodes_export_and_prove_the_same(node: Path, tmp_path: Path, capsys: Capture) -> None:
    files = {state: (tmp_path / f"{state}.parquet", tmp_path / f"{state}.proof") for state in ("running", "ended")}
    with running(node, everything(PROJECT, results(PROJECT))):
        for command in (["export", "parquet", "--errors"], ["proof", "0/5"]):
            ok(capsys, *command, str(files["running"][command[0] == "proof"]))
    for command in (["export", "parquet", "--errors"], ["proof", "0/5"]):
        ok(capsys, *command, str(files["ended"][command[0] == "proof"]))
    for one, other in zip(*files.values(), strict=True):
        assert one.read_bytes() == other.read_bytes()

    ticket = tmp_path / "ticket.txt"
    ticket.write_text(str(make_ticket(PROJECT.project)))
    for anchor in (HASH, str(ticket)):
        assert run(["verify", str(files["ended"][0]), "--project", anchor]) == 0
        told = capsys.readouterr()
        assert "114 rows, 2 of them errors" in told.err
        assert "tier" in told.err
        assert told.out == ""
        assert "a red circle 0/5" in ok(capsys, "verify", str(files["ended"][1]), "--project", anchor)
    for file in files["ended"]:
        assert "of another project" in fails(capsys, 5, "verify", str(file), "--project", "00" * 32)
        out = ok(capsys, "verify", str(file))
        assert HASH in out
        changed = bytearray(file.read_bytes())
        changed[len(changed) // 2] ^= 1
        file.write_bytes(changed)
        assert "Do not use" in fails(capsys, 5, "verify", str(file), "--project", HASH)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--wide"], "--wide"),
        (["--long"], "--long"),
        (["--prompt", "describe"], "--prompt"),
        (["--columns", "key,caption,item,chunk"], "--columns without task, statement, image, answers, error, reason"),
        ([], ""),
        (["--columns", "key,task,chunk,item,statement,image,answers,error,reason"], ""),
        (["--where", "item < 9", "--limit", "5"], ""),
    ],
)
def test_a_file_without_a_proof_says_why(
    options: list[str], reason: str, node: Path, tmp_path: Path, capsys: Capture
) -> None:
    kept(node, everything(PROJECT, results(PROJECT)))
    out = tmp_path / "out.parquet"
    assert run(["export", "parquet", str(out), *options]) == 0
    told = capsys.readouterr().err
    assert (f"carries no proof for p2pcap verify: {reason} leaves out" in told) is bool(reason)
    assert run(["verify", str(out), "--project", HASH]) == (5 if reason else 0)
    if reason:
        assert "carries no proof" in capsys.readouterr().err


def test_a_proof_needs_one_row(node: Path, tmp_path: Path, capsys: Capture) -> None:
    key, place = PROJECT.items[0][5].key, tmp_path / "one.proof"
    with running(node, everything(PROJECT, results(PROJECT))):
        ok(capsys, "proof", key, str(place))
        assert json.loads(place.read_bytes())["row"]["key"] == key
        assert "--force" in fails(capsys, 2, "proof", key, str(place))
        assert "no row" in fails(capsys, 2, "proof", "nothing.png", str(tmp_path / "none"))
        assert "no row" in fails(capsys, 2, "proof", key, str(tmp_path / "none"), "--stage", "other")


def test_attribution_and_refusals(node: Path, tmp_path: Path, capsys: Capture) -> None:
    with running(node, everything(PROJECT, results(PROJECT))):
        folder = tmp_path / "published"
        assert "no folder" in fails(capsys, 2, "export", "attribution", str(folder))
        folder.mkdir()
        ok(capsys, "export", "attribution", str(folder))
        assert "| Ada |" in (folder / "CONTRIBUTORS.md").read_text()
        lines = tmp_path / "lines.jsonl"
        ok(capsys, "export", "jsonl", str(lines), "--proofs")
    assert "Parquet" in fails(capsys, 2, "verify", str(lines), "--project", HASH)
    (tmp_path / "short.parquet").write_bytes(b"PAR1")
    assert "no whole Parquet" in fails(capsys, 5, "verify", str(tmp_path / "short.parquet")).replace("not a", "no")
