"""`p2pcap inspect`: says of everything p2pcap makes what it is, and of damaged and strange bytes what is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import decode, encode
from p2pcap.envelope import LIMITS, Envelope, seal
from p2pcap.errors import ConfigError
from p2pcap.export.proven_lines import write_proven
from p2pcap.identity import Identity
from p2pcap.ledger.fork import fork_of
from p2pcap.ledger.records import Grant, Profile
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.node.bundle import write_bundle
from p2pcap.project.opened import payload_hash
from p2pcap.project.records import Role, Roles, Root
from p2pcap.project.roots import write_chain
from p2pcap.project.ticket import SECRET, Invitation, Ticket
from p2pcap.store.canonical import runs
from p2pcap.store.database import reading
from p2pcap.store.store import Store
from p2pcap_bootstrap import describing, inspecting
from p2pcap_bootstrap.backup import export
from p2pcap_bootstrap.describing import Report
from tests.makers import (
    ADA,
    BOB,
    COORDINATOR,
    FOREVER,
    NOW,
    ROOT_KEY,
    TICKET_KEY,
    chunks_of,
    make_grant,
    make_project,
    make_result,
)
from tests.unit.control_node import some_captions
from tests.unit.coordinator import signed_project
from tests.unit.store_project import database

MADE = make_project((128, 100))
PROJECT = MADE.project
M = PROJECT.m


def ticket_text(expires: int = FOREVER) -> str:
    invitation = Invitation.of(bytes(SECRET), COORDINATOR, M, expires, 5)
    return str(Ticket("Shapes", PROJECT.hash, invitation, ("/ip4/192.0.2.1/tcp/4001",)))


def stored(directory: Path) -> Path:
    """A database with some captions."""

    async def fill() -> None:
        store = Store.open(database(directory))
        await store.commit(*some_captions())
        await store.close()

    trio.run(fill)
    return database(directory)


def look(thing: str | bytes) -> Report:
    given_bytes = thing if isinstance(thing, bytes) else b""
    return inspecting.inspect("-" if isinstance(thing, bytes) else thing, NOW, lambda limit: given_bytes[:limit])


RESULT, _ = make_result(PROJECT, 0, [MADE.row(0, index) for index in range(10)])
BAN = Ban(M, ADA.public, 3, 7, "unsealed", "blank captions", (b"\1" * 32,), NOW)
STATEMENTS = {
    "root": PROJECT.root_envelope,
    "manifest": PROJECT.manifest_envelope,
    "grant": make_grant(PROJECT, ADA, "Ada"),
    "result": seal(ADA, "result", RESULT),
    "profile": seal(ADA, "profile", Profile(M, "Ada\x1b[2J", "https://example.org", NOW)),
    "ban": seal(COORDINATOR, "ban", BAN),
    "void": seal(COORDINATOR, "void", Void(M, (b"\2" * 32,), "", (), NOW)),
    "redact": seal(COORDINATOR, "redact", Redact(M, 1, 3, 2, bytes([3]) + bytes(7), "a face", NOW)),
    "verdict": seal(COORDINATOR, "verdict", Finding(M, b"\2" * 32, bytes([3]) + bytes(7), "bad", "by-eye", b"", NOW)),
}
WORDS = {
    "root": "root 1 of the project Shapes",
    "manifest": "manifest 1, under root 1",
    "grant": f"admits {ADA.peer_id} as Ada",
    "result": "captions of 10 images, items 0 to 63 of chunk 0",
    "profile": "called 'Ada\\x1b[2J'",
    "ban": f"bans, with what no checkpoint up to 7 seals, {ADA.peer_id} (version 3)",
    "void": "voids 1 results",
    "redact": "closes 2 images",
    "verdict": "bad, by by-eye, on 2 images",
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_signed_statement_holds_and_is_told_in_words(kind: str) -> None:
    envelope = STATEMENTS[kind]
    report = look(envelope.data)
    assert (report.kind, report.holds, report.faults) == (kind, True, ())
    assert WORDS[kind] in report.facts["what"]
    assert report.facts["id"] == envelope.id.hex()
    assert look(envelope.data.hex()) == report


def test_every_type_of_statement_can_be_told() -> None:
    assert set(describing.RECORDS) == set(LIMITS)


def test_a_signature_over_other_bytes_does_not_hold() -> None:
    ban = STATEMENTS["ban"]
    forged = Envelope("ban", encode(msgspec.structs.replace(BAN, scope="all")), ban.author, ban.signature)
    report = look(forged.data)
    assert report.holds is False
    assert "signature" in report.faults[0]


def test_a_grant_that_the_admitted_key_did_not_ask_for() -> None:
    stolen = msgspec.structs.replace(decode(STATEMENTS["grant"].payload, Grant), key=BOB.public)
    report = look(seal(TICKET_KEY, "grant", stolen).data)
    assert (report.holds, report.faults) == (False, ("The admitted key did not ask for it.",))


def test_a_fork_is_told_with_both_sides_and_a_false_one_is_found() -> None:
    manifest = PROJECT.manifest_envelope
    other = seal(COORDINATOR, "manifest", msgspec.structs.replace(PROJECT.manifest, created=NOW + 1))
    proof = look(seal(BOB, "fork", fork_of(manifest, other, 1, M, NOW)).data)
    assert (proof.kind, proof.holds) == ("fork", True)
    assert COORDINATOR.peer_id in proof.facts["first"]
    lie = msgspec.structs.replace(fork_of(manifest, other, 1, M, NOW), one=manifest.data, other=manifest.data)
    assert look(seal(BOB, "fork", lie).data).holds is False


@given(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(sorted(STATEMENTS)))
def test_damaged_statements_never_hold(place: int, value: int, kind: str) -> None:
    data = bytearray(STATEMENTS[kind].data)
    place %= len(data)
    if data[place] == value:
        return
    data[place] = value
    assert look(bytes(data)).holds is not True


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    assert look(data).holds is not True


def test_a_ticket_in_words() -> None:
    report = look(ticket_text())
    assert (report.kind, report.holds) == ("ticket", True)
    assert report.facts["project"] == PROJECT.hash.hex()
    assert report.facts["admits"].startswith("5 volunteers, until")
    assert report.facts["peers at"] == "/ip4/192.0.2.1/tcp/4001"
    assert look(ticket_text().encode()) == report
    secret = Invitation.of(bytes(SECRET), COORDINATOR, M, FOREVER, 5)
    assert secret.key.seed.hex() not in repr(report)
    assert look(ticket_text(NOW - 86_400)).faults == ("It has expired. Ask the maintainer for a new one.",)
    assert look(ticket_text()[:-1]).holds is False
    plain = look(str(Ticket("Shapes", PROJECT.hash)))
    assert plain.facts["admits"].startswith("nobody by itself")


def test_a_key_file_shows_its_public_half_only(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "a.key")
    report = look(str(tmp_path / "a.key"))
    assert (report.holds, report.facts["peer id"]) == (True, identity.peer_id)
    assert "not encrypted" in report.facts["secret half"]
    text = (tmp_path / "a.key").read_text().split()[1]
    assert text not in repr(report)
    (tmp_path / "a.key").chmod(0o644)
    assert "chmod 600" in look(str(tmp_path / "a.key")).faults[0]
    assert text not in repr(look((tmp_path / "a.key").read_bytes()))


def test_keys_and_peer_ids() -> None:
    assert look(ADA.peer_id).facts["public key"] == ADA.public.hex()
    assert look(ADA.public.hex()).facts["as a peer id"] == ADA.peer_id
    with pytest.raises(ConfigError, match="no file, ticket, peer id or hex"):
        look("no-such-thing")


def test_a_chain_of_roots_tells_what_changed() -> None:
    new = Identity.from_seed(b"\7" * 32)
    first = PROJECT.root_envelope
    keys = (ROOT_KEY.public, new.public)
    second = Root("Shapes", 2, NOW, FOREVER, keys, Roles(Role((0,)), Role((1,))), before=payload_hash(first))
    report = look(write_chain([[first], [seal(ROOT_KEY, "root", second)]]))
    assert (report.kind, report.holds, report.faults) == ("chain of roots", True, ())
    assert f"coordinator {new.peer_id} comes" in report.facts["root 2"]
    assert f"coordinator {COORDINATOR.peer_id} leaves" in report.facts["root 2"]
    unsigned = look(write_chain([[first], [seal(new, "root", second)]]))
    assert unsigned.holds is False
    assert "signatures" in unsigned.faults[0]


def test_what_lies_in_a_maintainers_folder_is_compared_with_the_root_beside_it(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    signed = workspace.directory / "signed"
    manifest = look(str(signed / "manifest.cbor"))
    assert "a coordinator of the project beside it" in manifest.facts["signed by"]
    project = workspace.project()
    plan = look(str(signed / "blobs" / project.manifest.plan.hex()))
    assert (plan.kind, plan.holds, plan.facts["name"]) == ("plan", True, "is the SHA-256 of its bytes")
    assert "200 images" in plan.facts["what"]
    listed = look(str(signed / "blobs" / chunks_of(project)[0].items.hex()))
    assert (listed.kind, listed.holds) == ("item list", True)
    changed = signed / "blobs" / chunks_of(project)[0].items.hex()
    changed.write_bytes(changed.read_bytes().replace(b"00001.png", b"00001.jpg"))
    assert look(str(changed)).holds is False
    (signed / "manifest.cbor").write_bytes(PROJECT.manifest_envelope.data)
    assert look(str(signed / "manifest.cbor")).faults == ("It is of another project than the one beside it.",)


def test_what_keeps_or_carries_a_project(tmp_path: Path) -> None:
    workspace = signed_project(tmp_path)
    project = workspace.project()
    bundle, backup, waiting = tmp_path / "cats.p2pcap", tmp_path / "cats.backup", tmp_path / "root.partial"
    write_bundle(project, workspace.lists(project), bundle)
    whole = look(str(bundle))
    assert (whole.kind, whole.holds, whole.facts["images"]) == ("project file", True, "200")
    bundle.write_bytes(bundle.read_bytes()[:-1] + b"\0")
    assert look(str(bundle)).holds is False
    export(workspace, backup, b"")
    kept = look(str(backup))
    assert (kept.kind, kept.facts["keys in it"].split(":")[0]) == ("backup", "not encrypted")
    second = Root("Shapes", 2, NOW, FOREVER, project.root.keys, project.root.roles, before=project.hash)
    envelopes = [seal(Identity.load(workspace.root_key), "root", second)]
    waiting.write_bytes(write_chain([[project.root_envelope], envelopes]))
    told = look(str(waiting))
    assert (told.kind, told.holds) == ("waiting root", None)
    assert told.facts["signed by"] == Identity.load(workspace.root_key).peer_id
    waiting.write_bytes(b"\x81")
    assert look(str(waiting)).holds is False


def test_a_database_and_an_export_of_it(tmp_path: Path) -> None:
    database = stored(tmp_path)
    report = look(str(tmp_path))
    assert (report.kind, report.holds) == ("database", None)
    assert report.facts["project"].startswith("Shapes, ")
    assert report.facts["rows"] == "66"
    with reading(database) as readers, readers.lend() as cursor:
        write_proven(runs(cursor), tmp_path / "out.jsonl")
    export = look(str(tmp_path / "out.jsonl"))
    assert (export.kind, export.holds, export.facts["rows"]) == ("export", True, "66: 65 captioned, 1 errors")
    text = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "out.jsonl").write_text(text.replace("circle", "square", 1))
    assert look(str(tmp_path / "out.jsonl")).holds is False
    database.write_bytes(database.read_bytes()[:20_000])
    assert look(str(database)).holds is False


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "PNG"),
        (b"PAR1" + bytes(20), "Parquet"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstandard"),
        (bytes(257) + b"ustar\0" + bytes(300), "tar"),
        (b"\xff\xfe\xfd", "no form"),
        (b"hello there", "text, and nothing of p2pcap"),
        (b"name: cats\nimages: x\nmodel: y\n", "project check"),
        (b"", "no bytes"),
        (STATEMENTS["ban"].data[:-1], "begins like a signed statement"),
        (PROJECT.plan_data[:-1], "looks like a plan"),
    ],
)
def test_strange_and_damaged_bytes(data: bytes, word: str) -> None:
    assert word in look(data).facts["what"]


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: folder,
        lambda folder: folder / "pipe",
        lambda folder: Path("/dev/zero"),
        lambda folder: folder / "loop",
    ],
)
def test_what_cannot_be_read(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError):
        look(str(make(tmp_path)))


def test_the_command_shows_no_control_character_and_ends_with_the_verdict(tmp_path: Path) -> None:
    file = tmp_path / "profile"
    file.write_bytes(STATEMENTS["profile"].data)
    command = [sys.executable, "-m", "p2pcap", "inspect", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "profile: holds")
    assert "\x1b" not in done.stdout
    shown = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    assert (shown["kind"], shown["holds"]) == ("profile", True)
    file.write_bytes(STATEMENTS["ban"].data[:-1] + b"\0")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 5
