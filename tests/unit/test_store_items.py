"""What item lists say of images, in the database: places, metadata, and hashes that only the authors' rows know."""

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from p2pcap.ledger.canonical import canonical
from p2pcap.ledger.checks import Ruled
from p2pcap.project.items import MAX_IMAGE, MAX_KEY, NO_IMAGE, Item
from p2pcap.store import reads, schema
from p2pcap.store.appending import append, as_map
from p2pcap.store.canonical import table_hash
from p2pcap.store.comparing import differences
from p2pcap.store.fsck import check
from p2pcap.store.recall import known as recall
from p2pcap.store.transaction import write
from p2pcap.store.writes import DropBodies, PutItems, PutStanding, Write
from tests.unit.store_lists import ANYWHERE, HOSTILE, web
from tests.unit.store_project import ADA, BOB, EVE, Sample, database, image_of
from tests.unit.test_store_canonical import _pure

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.one_of(st.sampled_from(["key", "value", "map", ""]), texts)
items = st.builds(
    Item,
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_KEY),
    hash=st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)),
    length=st.integers(0, MAX_IMAGE),
    url=st.one_of(st.just(UNSET), texts),
    at=st.one_of(st.just(UNSET), st.integers(0, 2**53 - 1)),
    fields=st.one_of(st.just(UNSET), st.dictionaries(names, texts, max_size=5)),
)


@contextmanager
def stored(*groups: Sequence[Write], again: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with these transactions; `again`: as if the node was started anew before each."""
    with duckdb.connect() as connection:
        schema.create(connection, "test")
        known = recall(connection)
        for group in groups:
            known = recall(connection) if again else known
            write(connection, known, group)
        yield connection


def column(connection: duckdb.DuckDBPyConnection, query: str) -> list[object]:
    return [row[0] for row in connection.execute(query).fetchall()]


@given(st.lists(items, min_size=1, max_size=20))
@settings(max_examples=60)
def test_items_come_back_as_they_were(listed: list[Item]) -> None:
    with stored([PutItems(3, listed)]) as connection:
        assert reads.items(connection, 3) == tuple(listed)
        assert reads.item_lists(connection) == {3: all(item.hash for item in listed)}


@pytest.mark.parametrize("fields", [HOSTILE, {}, {"key": "a", "value": "b"}, {"key": "", "value": ""}, {"key": "k"}])
def test_metadata_of_any_name_is_kept(fields: dict[str, str]) -> None:
    listed = [Item("a", bytes(32), 1, fields=fields), Item("b", bytes(32), 1), web(1)]
    with stored([PutItems(0, listed)]) as connection:
        assert column(connection, "SELECT fields FROM item ORDER BY item") == [fields, None, web(1).metadata]


def test_a_plain_dictionary_loses_keys_called_key_and_value() -> None:
    """The defect that `as_map` goes around: if this fails, duckdb is mended, and `as_map` can go."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (fields MAP(VARCHAR, VARCHAR))")
        append(connection, "t", [({"key": "", "value": ""},)])
        append(connection, "t", [(as_map({"key": "", "value": ""}),)])
        assert column(connection, "SELECT fields FROM t") == [{}, {"key": "", "value": ""}]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (fields MAP(VARCHAR, VARCHAR))")
        with pytest.raises(duckdb.InternalException):
            append(connection, "t", [({"key": "a", "value": "b"},)])


def batches(project: Sample = ANYWHERE) -> list[Write]:
    """In each chunk two rows by Ada, an error by Bob on a third, and by Bob and Eve on a fourth."""
    made: list[Write] = []
    for chunk in range(len(project.lists)):
        made.append(project.slice(ADA, chunk, 0, 2))
        made.append(project.batch(BOB, chunk, [project.error(chunk, 2), project.error(chunk, 3)]))
        made.append(project.batch(EVE, chunk, [project.error(chunk, 3)]))
    return made


def test_an_image_without_a_planned_hash_is_known_by_its_row() -> None:
    with stored([*ANYWHERE.setup, *batches()]) as connection:
        query = "SELECT chunk, item, image, url, fields FROM captions ORDER BY chunk, item"
        for chunk, index, image, url, fields in connection.execute(query).fetchall():
            listed = ANYWHERE.items[chunk][index]
            came = listed.hash or (image_of(listed) if index < 2 else b"")
            assert image == (came.hex() or None)
            assert (url, fields) == (listed.url or None, None if listed.fields is UNSET else listed.fields)


def test_captions_and_failures_say_which_part_of_which_file_an_image_is() -> None:
    """Each chunk has rows for its images 0 to 3, the last two of them errors; only chunk 2 is in a file."""
    file = "hf://o/n/part.parquet"
    with stored([*ANYWHERE.setup, *batches()]) as connection:
        for view, images in (("captions", range(4)), ("failures", (2, 3))):
            found = connection.execute(f"SELECT chunk, item, file, place FROM {view} ORDER BY ALL").fetchall()
            assert [row for row in found if row[0] == 2] == [(2, item, file, item) for item in images]
            assert [row[2:] for row in found if row[0] != 2] == [(None, None)] * 3 * len(images)


def test_only_rows_of_chunks_with_unknown_images_say_which_they_had() -> None:
    query = "SELECT DISTINCT image IS NOT NULL FROM candidate WHERE chunk = {} ORDER BY ALL"
    orders: list[list[Sequence[Write]]] = [[ANYWHERE.setup, batches()], [batches(), ANYWHERE.setup]]
    for again, groups in itertools.product((False, True), orders):
        with stored(*groups, again=again) as connection:
            assert [column(connection, query.format(chunk)) for chunk in range(4)] == [[True], [True], [True], [False]]
            images = column(connection, "SELECT image FROM candidate WHERE chunk = 0 AND item = 3")
            assert images == [NO_IMAGE, NO_IMAGE]


def test_the_order_of_lists_and_results_plays_no_part() -> None:
    rng = random.Random(5)
    told: list[Write] = [*ANYWHERE.setup, *batches()]
    with stored(told) as expected:
        hashed = table_hash(expected)
        for round_ in range(6):
            rng.shuffle(told)
            cut = rng.randrange(1, len(told))
            with stored(told[:cut], told[cut:], again=round_ % 2 == 1) as found:
                assert [difference.text() for difference in differences(found, expected)] == []
                assert table_hash(found) == hashed


def test_the_hash_is_over_the_images_that_the_rows_name() -> None:
    made = batches()
    expected = hashlib.sha256()
    for (tid, chunk, index), (won, row) in sorted(canonical(_pure(made), 2).items(), key=lambda pair: pair[0]):  # type: ignore[arg-type]
        answers = [answer.text for answer in row.answers]
        tokens, finish = (",".join(str(getattr(a, name)) for a in row.answers) for name in ("tokens", "finish"))
        parts = [ANYWHERE.items[chunk][index].key, row.image.hex(), row.error, row.reason, "\x1f".join(answers)]
        digest = hashlib.sha256("\x1f".join([*parts, tokens, finish]).encode()).hexdigest()
        expected.update(f"{tid.hex()} {chunk} {index} {won.id.hex()} {digest}\n".encode())
    with stored([*ANYWHERE.setup, *made]) as connection:
        assert table_hash(connection) == expected.hexdigest()


def test_another_image_makes_another_hash() -> None:
    row = ANYWHERE.row(0, 0)
    other = type(row)(row.item, bytes([7]) * 32, row.answers)
    with (
        stored([*ANYWHERE.setup, ANYWHERE.batch(ADA, 0, [row])]) as one,
        stored([*ANYWHERE.setup, ANYWHERE.batch(ADA, 0, [other])]) as two,
    ):
        images = "SELECT image FROM captions"
        assert (column(one, images), column(two, images)) == ([row.image.hex()], [(bytes([7]) * 32).hex()])
        assert table_hash(one) != table_hash(two)


def test_a_dropped_body_takes_its_images_along_and_brings_them_back() -> None:
    made = ANYWHERE.slice(ADA, 0, 0, 4)
    query = "SELECT image FROM candidate"
    with stored([*ANYWHERE.setup, made], [DropBodies([made.envelope.id])]) as connection:
        assert column(connection, query) == [None] * 4
        write(connection, recall(connection), [made])
        assert column(connection, query) == [row.image for row in made.rows]


# failures


def failures(connection: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    query = "SELECT key, url, error, reason, final, tries, authors FROM failures WHERE chunk = 0 ORDER BY item"
    return connection.execute(query).fetchall()


def test_failures_say_who_says_so_and_whether_it_is_final() -> None:
    peers = sorted([BOB.peer_id, EVE.peer_id])
    second = ("row/2", "https://example.org/2", "undecodable", "the bytes are no image", False, 1, [BOB.peer_id])
    third = ("row/3", "https://example.org/3", "undecodable", "the bytes are no image", True, 2, peers)
    made = batches()
    with stored([*ANYWHERE.setup, *made]) as connection:
        assert failures(connection) == [second, third]
        again = ANYWHERE.batch(BOB, 0, [ANYWHERE.error(0, 3)], time=1_800_000_005)
        write(connection, recall(connection), [again])  # one author counts once
        assert failures(connection) == [second, third]
        write(connection, recall(connection), [DropBodies([made[1].envelope.id])])  # type: ignore[union-attr]
        assert [row[:3] for row in failures(connection)] == [second[:3], third[:3]]
        assert failures(connection)[0][3] is None
        write(connection, recall(connection), [PutStanding(made[2].envelope.id, Ruled(0))])  # type: ignore[union-attr]
        assert [row[4:6] for row in failures(connection)] == [(False, 1), (False, 1)]
        write(connection, recall(connection), [ANYWHERE.slice(ADA, 0, 2, 2)])
        assert failures(connection) == []
        assert reads.failures(connection) == (("undecodable", 6),)


def test_failures_are_counted_by_code() -> None:
    with stored([]) as connection:
        assert reads.failures(connection) == ()
    rows = [ANYWHERE.error(0, 5)] + [type(ANYWHERE.error(0, i))(i, NO_IMAGE, (), "gone") for i in (6, 7)]
    with stored([*ANYWHERE.setup, ANYWHERE.batch(ADA, 0, rows)]) as connection:
        assert reads.failures(connection) == (("gone", 2), ("undecodable", 1))
        assert column(connection, "SELECT count(*) FROM failures") == [3]


# fsck


def kept(folder: Path, writes: Iterable[Write]) -> Path:
    """The database of a node that has ended."""
    path = database(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(path) as connection:
        schema.create(connection, "test")
        write(connection, recall(connection), list(writes))
    return path


def well(path: Path, repair: bool = False) -> tuple[list[str], list[str]]:
    report = check(path, lambda what, done, total: None, repair)
    return report.left_out, [difference.table for difference in report.differences]


GRANTS = [ANYWHERE.grant(author, "") for author in (ADA, BOB, EVE)]
WHOLE: list[Write] = [*ANYWHERE.setup, *ANYWHERE.blobs, *GRANTS, *batches()]


def test_a_node_with_every_kind_of_list_is_well(tmp_path: Path) -> None:
    assert well(kept(tmp_path, WHOLE)) == ([], [])


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("item", "UPDATE item SET url = 'https://example.com/' WHERE chunk = 0 AND item = 1"),
        ("item", "UPDATE item SET fields = NULL WHERE chunk = 1 AND item = 1"),
        ("item", "UPDATE item SET fields = MAP {'key': 'x'} WHERE chunk = 0 AND item = 1"),
        ("item", "UPDATE item SET place = 7 WHERE chunk = 2 AND item = 1"),
        ("item", "UPDATE item SET file = 'hf://o/n/other.parquet' WHERE chunk = 2 AND item = 1"),
        ("item", "UPDATE item SET file = 'file:a.tar' WHERE chunk = 3 AND item = 1"),
        ("item", "UPDATE item SET hash = '\\x00'::BLOB WHERE chunk = 2 AND item = 1"),
        ("item", "DELETE FROM item WHERE chunk = 2 AND item = 1"),
        ("candidate", "UPDATE candidate SET image = '\\x01'::BLOB WHERE chunk = 0 AND item = 1"),
        ("candidate", "UPDATE candidate SET image = NULL WHERE chunk = 2 AND item = 1"),
        ("candidate", "UPDATE candidate SET image = '\\x01'::BLOB WHERE chunk = 3 AND item = 1"),
    ],
)
def test_what_was_changed_is_found_and_put_right(tmp_path: Path, table: str, damage: str) -> None:
    path = kept(tmp_path, WHOLE)
    with duckdb.connect(path) as connection:
        assert connection.execute(damage).fetchall() == [(1,)]
    assert well(path, repair=True) == ([], [table])
    assert well(path) == ([], [])


def test_a_list_whose_blob_is_gone_is_made_from_its_rows_unless_it_names_a_file(tmp_path: Path) -> None:
    path = kept(tmp_path, [one for one in WHOLE if one not in ANYWHERE.blobs])
    left_out, differing = well(path)
    assert left_out == ["the item list of chunk 2: the plan names another one"]
    assert "item" in differing


def test_the_order_of_metadata_plays_no_part(tmp_path: Path) -> None:
    shuffled = [
        Item(item.key, item.hash, item.length, item.url, item.at, dict(reversed(item.metadata.items())))
        for item in ANYWHERE.items[0]
    ]
    told = [PutItems(0, shuffled) if isinstance(one, PutItems) and one.chunk == 0 else one for one in WHOLE]
    assert well(kept(tmp_path, told)) == ([], [])


def test_the_captions_view_keeps_its_columns_in_their_order() -> None:
    with duckdb.connect() as connection:
        schema.create(connection, "test")
        names_ = column(connection, "SELECT column_name FROM (DESCRIBE captions)")
    assert names_[:2] == ["key", "image"]
    assert names_[-6:] == ["url", "file", "place", "fields", "stage", "task"]
