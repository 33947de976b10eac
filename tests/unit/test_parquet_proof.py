"""The proof in a Parquet file: it holds for what was signed, and finds whatever was changed."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pcap.codec import decode, encode
from p2pcap.envelope import Envelope, open_envelope, seal
from p2pcap.errors import UntrustedError
from p2pcap.export import section as sections
from p2pcap.export.checking import CHECKED
from p2pcap.export.section import Batches, SectionWriter, open_section
from p2pcap.export.verifying import Tally, verify_parquet
from p2pcap.ledger.leaves import leaf_of, row_bytes
from p2pcap.ledger.merkle import leaf
from p2pcap.ledger.records import Answer, Profile, Result, Row
from p2pcap.ledger.rulings import Ban, Finding, Redact, Void
from p2pcap.store.writes import PutStatement, Write
from tests.makers import COORDINATOR, make_grant
from tests.unit.proven import rewritten, written
from tests.unit.store_lists import ANYWHERE
from tests.unit.store_project import ADA, BOB, EVE, NOW, Sample, kept, sample
from tests.unit.test_export import SAID, results

PROJECT = sample(chunks=2, images=100)
ROWS = 114

Rows = list[dict[str, Any]]


def grants(project: Sample) -> list[Write]:
    return [project.grant(ADA, "Ada"), project.grant(BOB, "Bob"), project.grant(EVE, "Eve \x1b[2J")]


def everything(project: Sample, writes: list[Any]) -> list[Write]:
    return [*project.setup, *project.blobs, *grants(project), *writes]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(tmp_path_factory.mktemp("node"), everything(PROJECT, results(PROJECT)))


@pytest.fixture(scope="module")
def export(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(database, tmp_path_factory.mktemp("export") / "captions.parquet")


def verify(path: Path, expected: bytes | None = None) -> Tally:
    return verify_parquet(path, expected, processes=1).tally


# what holds


def test_an_export_holds_by_itself(export: Path) -> None:
    found = verify_parquet(export, PROJECT.project.hash, processes=1)
    assert found.tally == Tally(ROWS, errors=2, results=7, sealed=0)
    assert found.project.hash == PROJECT.project.hash
    assert found.unchecked == ("tier", "verified")


def test_several_processes_find_the_same(tmp_path: Path) -> None:
    many = sample(chunks=40, images=64)
    path = kept(tmp_path, everything(many, [many.slice(ADA, chunk, 0, 3) for chunk in range(40)]))
    export = written(path, tmp_path / "captions.parquet")
    assert verify_parquet(export, processes=2).tally == Tally(120, 0, 40, 0)

    def change(rows: Rows) -> None:
        rows[100]["caption"] = rows[110]["caption"] = "another"

    with pytest.raises(UntrustedError, match=r"row 101 .*caption"):
        verify_parquet(rewritten(export, change), processes=2)


def test_readers_of_parquet_do_not_see_the_proof(export: Path) -> None:
    table = pq.read_table(export)
    assert table.num_rows == ROWS
    assert not [name for name in table.schema.names if "proof" in name]
    assert table.column("caption")[5].as_py() == "a red circle 0/5"


@pytest.mark.parametrize("where", ["item % 7 <> 3", "error IS NULL", "chunk = 1", "author_name = 'Bob'", "false"])
def test_any_choice_of_rows_can_be_proved(tmp_path: Path, database: Path, where: str) -> None:
    export = written(database, tmp_path / "some.parquet", where)
    assert verify(export, PROJECT.project.hash).rows == pq.read_table(export).num_rows < ROWS


def test_lists_of_every_kind_bind_keys_addresses_and_metadata(tmp_path: Path) -> None:
    path = kept(tmp_path, everything(ANYWHERE, SAID))
    export = written(path, tmp_path / "captions.parquet")
    assert verify(export).rows == 11
    for name, value in (("url", "https://example.com/"), ("fields", []), ("place", 7), ("file", "x"), ("key", "x")):

        def change(rows: Rows, name: str = name, value: Any = value) -> None:
            row = next(row for row in rows if row[name] not in (None, value))
            row[name] = value

        with pytest.raises(UntrustedError, match=f"row .*: it shows another {name}"):
            verify(rewritten(export, change))


def test_nodes_with_equal_tables_write_equal_bytes(tmp_path: Path) -> None:
    made: set[bytes] = set()
    for seed in range(3):
        writes: list[Write] = [*grants(PROJECT), *results(PROJECT)]
        random.Random(seed).shuffle(writes)
        path = kept(tmp_path / str(seed), [*PROJECT.setup, *PROJECT.blobs, *writes])
        made.add(written(path, tmp_path / f"{seed}.parquet").read_bytes())
    assert len(made) == 1


# what is found


@settings(max_examples=300)
@given(data=st.data())
def test_any_changed_byte_is_found(export: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = export.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("changed") / "captions.parquet"
    path.write_bytes(changed)
    with pytest.raises(UntrustedError):
        verify(path)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 100, 5_000])
def test_a_file_cut_short_or_with_more_at_its_end_is_found(export: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "captions.parquet"
    for data in (export.read_bytes()[: -cut - 1], export.read_bytes() + bytes(cut + 1), export.read_bytes()[:cut]):
        path.write_bytes(data)
        with pytest.raises(UntrustedError):
            verify(path)


OTHERS: dict[str, Any] = {
    "task": "00" * 8, "chunk": 1, "item": 1, "statement": "ab" * 32, "image": "ab" * 32, "error": "undecodable",
    "reason": "because", "caption": "another", "author": BOB.peer_id, "author_name": "Bob", "engine": "00" * 8,
    "time": None, "model": "another", "stage": "another", "sealed": 7, "key": "another.png", "url": "https://a.org/",
    "tokens": 1, "finish": "stop", "file": "file:x", "place": 3, "answers": [],
}  # fmt: skip


@pytest.mark.parametrize("name", [*OTHERS, "text", "answers.tokens", "answers.finish", "prompt", "fields"])
def test_a_changed_cell_is_found_and_its_row_named(export: Path, name: str) -> None:
    at = 33

    def change(rows: Rows) -> None:
        row = rows[at]
        match name:
            case "text" | "prompt" | "answers.finish":
                row["answers"][1][name.removeprefix("answers.")] += "."
            case "answers.tokens":
                row["answers"][1]["tokens"] += 1
            case "fields":
                row["fields"] = [{"name": "title", "value": "x"}]
            case _:
                row[name] = OTHERS[name]

    with pytest.raises(UntrustedError, match=rf"row {at + 1}\b"):
        verify(rewritten(export, change))


def test_every_checked_column_is_tried_above(export: Path) -> None:
    assert {*OTHERS, "fields"} == set(CHECKED)
    assert set(CHECKED) <= set(pq.read_schema(export).names)


def swapped(name: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[20][name], rows[21][name] = rows[21][name], rows[20][name]

    return change


def _drop(rows: Rows) -> Rows:
    return rows[:20] + rows[21:]


def _add(rows: Rows) -> Rows:
    return [*rows[:20], rows[20] | {"item": 99}, *rows[20:]]


def _repeat(rows: Rows) -> Rows:
    return [*rows[:20], rows[20], *rows[20:]]


def _exchange(rows: Rows) -> None:
    rows[20], rows[21] = rows[21], rows[20]


def _other_end(rows: Rows) -> None:
    rows[20], rows[100] = rows[100], rows[20]


@pytest.mark.parametrize(
    "change", [_drop, _add, _repeat, _exchange, _other_end, *map(swapped, ("item", "key", "image", "answers"))]
)
def test_added_removed_and_swapped_rows_are_found(export: Path, change: Callable[[Rows], Rows | None]) -> None:
    with pytest.raises(UntrustedError, match=r"row \d+|missing"):
        verify(rewritten(export, change))


def test_a_row_given_to_another_author_is_found(export: Path) -> None:
    """With all that names the author changed at once, and another's statement of the same items beside it."""

    def change(rows: Rows) -> None:
        bobs = next(row for row in rows if row["author_name"] == "Bob")
        for name in ("author", "author_name", "statement", "time", "engine"):
            rows[5][name] = bobs[name]

    with pytest.raises(UntrustedError, match=r"row 6\b"):
        verify(rewritten(export, change))


def reproved(export: Path, change: Callable[[Any, Any], Any]) -> Path:
    """The file with another proof: `change` gets a part's name or group and its record, and gives another record."""
    section = open_section(export)
    contents = section.contents
    other = export.with_name("reproved.parquet")
    plain = pq.read_table(export)
    from tests.unit.proven import plain as write_plain

    write_plain(plain, other)
    with SectionWriter(other) as writer:
        project = change("project", section.read(contents.project, sections.Chain))
        statements = change("statements", section.read(contents.statements, sections.Statements))
        seals = change("seals", section.read(contents.seals, sections.Seals))
        pages = tuple(writer.put_raw(section.raw(each)) for each in contents.pages)
        lists = [
            replace(each, part=writer.put_raw(data))
            for each in contents.lists
            if (data := change("list", section.raw(each.part))) is not None
        ]
        groups = [
            replace(each, part=writer.put(change("batches", section.read(each.part, Batches))))
            for each in contents.groups
        ]
        parts = (writer.put(project), writer.put(statements), writer.put(seals))
        writer.finish(sections.Contents(*parts, pages, tuple(lists), tuple(groups)))
    return other


def only(name: str, change: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda part, record: change(record) if part == name else record


def with_one_more(said: bytes, kept: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Statements, and another one."""
    return (*kept, said)


def test_another_proof_that_changes_nothing_holds(export: Path) -> None:
    assert verify(reproved(export, lambda part, record: record)) == verify(export)


def test_without_its_grant_an_author_is_nobody(export: Path) -> None:
    with pytest.raises(UntrustedError, match=r"row 1 .*unknown author"):
        verify(reproved(export, only("statements", lambda kept: ())))


def test_another_projects_hash_is_refused(export: Path) -> None:
    with pytest.raises(UntrustedError, match="of another project"):
        verify(export, bytes(32))


def test_a_list_left_out_does_not_free_the_keys(export: Path) -> None:
    with pytest.raises(UntrustedError, match=r"row 1 .*another (key|image)"):
        verify(reproved(export, only("list", lambda data: None)))


def test_a_forged_statement_in_the_proof_is_found(export: Path) -> None:
    grant = make_grant(PROJECT.project, EVE, "Mallory", NOW + 5)
    forged = Envelope(grant.kind, grant.payload, grant.author, bytes(64)).data
    with pytest.raises(UntrustedError, match="false grant"):
        verify(reproved(export, only("statements", lambda kept: (*kept, forged))))


def _unsigned(batches: Batches) -> Batches:
    first = open_envelope(batches[0].envelope)
    bad = Envelope(first.kind, first.payload, first.author, bytes(64)).data
    return (replace(batches[0], envelope=bad), *batches[1:])


@pytest.mark.parametrize(
    "change",
    [
        _unsigned,
        lambda batches: batches[1:],
        lambda batches: (replace(batches[0], absent=bytes(32)), *batches[1:]),
        lambda batches: (*batches, batches[0]),
        lambda batches: (replace(batches[0], given=(b"x" * 8,) * 64), *batches[1:]),
        lambda batches: (replace(batches[0], envelope=b"nothing"), *batches[1:]),
    ],
)
def test_a_changed_proof_is_found(export: Path, change: Callable[[Batches], Batches]) -> None:
    calls = iter([change])
    twist = only("batches", lambda batches: next(calls, lambda same: same)(batches))
    if change is not None:
        try:
            tally = verify(reproved(export, twist))
        except UntrustedError:
            return
    assert tally == verify(export), "a proof that says a thing twice may hold, and must say the same"


def test_of_several_names_the_newest_counts(tmp_path: Path) -> None:
    profile = seal(ADA, "profile", Profile(PROJECT.project.m, "Countess", "", NOW + 60))
    path = kept(tmp_path, everything(PROJECT, [*results(PROJECT), PutStatement(profile, NOW)]))
    export = written(path, tmp_path / "captions.parquet")
    assert "Countess" in {row["author_name"] for row in pq.read_table(export).to_pylist()}
    assert verify(export).rows == ROWS
    with pytest.raises(UntrustedError, match="another author_name"):
        verify(reproved(export, only("statements", lambda kept: [one for one in kept if one != profile.data])))


def test_a_file_without_a_proof_says_so(tmp_path: Path, export: Path) -> None:
    other = tmp_path / "plain.parquet"
    pq.write_table(pq.read_table(export), other)
    with pytest.raises(UntrustedError, match="carries no proof"):
        verify(other)


# the encoding


answers = st.lists(
    st.builds(Answer, st.text(max_size=300), st.integers(0, 65_536), st.sampled_from(["stop", "length"])), max_size=16
)


@given(
    st.builds(
        Row,
        st.integers(0, 16_383),
        st.binary(min_size=32, max_size=32),
        answers.map(tuple),
        st.from_regex(r"\A[a-z0-9-]{0,32}\Z"),
        st.text(max_size=256),
    ),
    st.one_of(st.none(), st.binary(min_size=8, max_size=8)),
)
def test_the_fast_encoding_is_the_codecs(row: Row, named: bytes | None) -> None:
    row = replace(row, given=named) if named is not None else row
    shown = [(answer.text, answer.tokens, answer.finish) for answer in row.answers]
    assert row_bytes(row.item, row.image, shown, row.error, row.reason, named or b"") == encode(row)
    assert leaf_of(row) == leaf(encode(row))


# what was taken back


def test_rows_that_a_ruling_in_the_file_takes_back_are_found(export: Path) -> None:
    """As after a void, a ban, a redaction or a finding that whoever exported did not hold himself to."""
    m = PROJECT.project.m
    first = results(PROJECT)[0].envelope
    rulings = {
        "void": Void(m, (first.id,), "wrong", (), NOW),
        "ban": Ban(m, ADA.public, 1, 0, "all", "vandal", (), NOW),
        "redact": Redact(m, 0, 0, 64, b"\1" + bytes(7), "private", NOW),
    }
    for kind, ruling in rulings.items():
        said = seal(COORDINATOR, kind, ruling).data
        with pytest.raises(UntrustedError, match=r"row 1\b.*(taken back|redaction|banned)"):
            verify(reproved(export, only("statements", partial(with_one_more, said))))
    finding = seal(COORDINATOR, "verdict", Finding(m, first.id, b"\x20" + bytes(7), "bad", "eye", b"", NOW))

    def found(batches: Batches) -> Batches:
        first_of = decode(open_envelope(batches[0].envelope).payload, Result)
        return (replace(batches[0], findings=(finding.data,)), *batches[1:]) if first_of.chunk == 0 else batches

    with pytest.raises(UntrustedError, match=r"row 6\b.*found it wrong"):
        verify(reproved(export, only("batches", found)))


def test_a_ruling_by_nobody_of_the_project_is_not_heard(export: Path) -> None:
    said = seal(EVE, "ban", Ban(PROJECT.project.m, ADA.public, 1, 0, "all", "", (), NOW)).data
    with pytest.raises(UntrustedError, match="false ban"):
        verify(reproved(export, only("statements", lambda kept: (*kept, said))))
