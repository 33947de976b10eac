"""Who is named as a contributor, with how much, and that no name is more than a name."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.envelope import seal
from p2pcap.export.attribution import FILES, citation, clean_name, contributors, markdown, quoted, write_attribution
from p2pcap.identity import Identity
from p2pcap.ledger.checks import Ruled
from p2pcap.ledger.records import Profile
from p2pcap.store.writes import PutStanding, PutStatement, Write
from tests.unit.proven import sourced
from tests.unit.store_project import ADA, BOB, EVE, NOW, kept, sample

PROJECT = sample(chunks=2, images=100)
NOBODY = [Identity.from_seed(bytes([number]) * 32) for number in (1, 2)]
BAD = PROJECT.batch(EVE, 1, [PROJECT.row(1, index) for index in range(70, 80)])

SAID: list[Write] = [
    *PROJECT.setup,
    *PROJECT.blobs,
    PROJECT.grant(ADA, "A | [da](http://x) <b>"),
    PROJECT.grant(BOB, "Bob"),
    PROJECT.grant(EVE, "Eve"),
    *(PROJECT.grant(one, "\u202e\x1b \n") for one in NOBODY),
    PROJECT.slice(ADA, 0, 0, 64),
    PROJECT.slice(BOB, 0, 64, 20),
    PROJECT.batch(BOB, 0, [PROJECT.error(0, 99)]),
    PROJECT.slice(NOBODY[0], 1, 0, 5),
    PROJECT.slice(NOBODY[1], 1, 5, 3),
    BAD,
    PutStanding(BAD.envelope.id, Ruled(0)),
    PutStatement(seal(BOB, "profile", Profile(PROJECT.project.m, "Robert", "", NOW + 9)), NOW),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, of a node with these captions."""
    path = kept(tmp_path_factory.mktemp("node"), SAID)
    folder = tmp_path_factory.mktemp("attribution")
    with sourced(path) as source:
        assert write_attribution(folder, source.select) == 4
    return folder


def test_rows_that_count_give_credit_and_no_others(tmp_path: Path) -> None:
    with sourced(kept(tmp_path, SAID)) as source:
        found = contributors(source.select)
    assert [(one.author, one.images, one.captions) for one in found] == [
        (ADA.peer_id, 64, 64),
        (BOB.peer_id, 20, 20),
        *sorted([(NOBODY[0].peer_id, 5, 5), (NOBODY[1].peer_id, 3, 3)], key=lambda row: -row[2]),
    ]


def test_the_table_for_people_names_the_newest_name_and_counts_the_nameless_together(folder: Path) -> None:
    lines = (folder / FILES[0]).read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and "share" not in line]
    assert rows == [
        rf"| A \| \[da\]\(http\:\/\/x\) \<b\> | …{ADA.peer_id[-8:]} | 64 | 64 | 69.57 % |",
        f"| Robert | …{BOB.peer_id[-8:]} | 20 | 20 | 21.74 % |",
        "| 2 without a name |  | 8 | 8 | 8.70 % |",
    ]


def test_the_table_for_programs_has_every_key(folder: Path) -> None:
    rows = pq.read_table(folder / FILES[1]).to_pylist()
    assert [row["author_name"] for row in rows] == ["A | [da](http://x) <b>", "Robert", None, None]
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_the_citation_is_of_the_format(folder: Path) -> None:
    found = yaml.safe_load((folder / FILES[2]).read_text())
    assert (found["cff-version"], found["type"], found["title"]) == ("1.2.0", "dataset", "Shapes")
    assert found["date-released"] == "2027-01-15"
    assert [author["name"] for author in found["authors"]] == [
        "A | [da](http://x) <b>",
        "Robert",
        "2 other contributors",
    ]
    assert found["identifiers"][0]["value"] == f"p2pcap:{PROJECT.project.hash.hex()}"


def test_a_project_without_captions_can_be_cited() -> None:
    found = yaml.safe_load(citation(PROJECT.project, []))
    assert found["authors"] == [{"name": "The contributors"}]


def test_nodes_write_equal_files(folder: Path, tmp_path: Path) -> None:
    with sourced(kept(tmp_path / "other", [*SAID[:7], *reversed(SAID[7:-2]), *SAID[-2:]])) as source:
        write_attribution(tmp_path, source.select)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@given(st.text(max_size=40))
def test_any_name_stays_a_name(name: str) -> None:
    clean = clean_name(name)
    assert clean == clean_name(clean)
    assert clean.isprintable()
    assert len(clean) <= 32
    assert yaml.safe_load(quoted(clean)) == clean
    assert "|" not in markdown(clean).replace("\\|", "")
