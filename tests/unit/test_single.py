"""The proof of one caption: a small file that anybody can check, and in which nothing can be changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pcap.errors import StoreError, UntrustedError
from p2pcap.export.gathering import Gathering
from p2pcap.export.single import Place, make_single, verify_single
from tests.unit.proven import sourced
from tests.unit.store_lists import ANYWHERE
from tests.unit.store_project import kept
from tests.unit.test_export import SAID, results
from tests.unit.test_parquet_proof import PROJECT, everything


def proofs(database: Path) -> list[bytes]:
    """Of every row."""
    sql = "SELECT task, statement, chunk, item FROM captions ORDER BY ALL"
    with sourced(database) as source:
        places = [Place(**row) for batch in source.select(sql) for row in batch.to_pylist()]
        return [make_single(Gathering(source.select), place) for place in places]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(tmp_path_factory.mktemp("node"), everything(PROJECT, results(PROJECT)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    few = results(PROJECT)[1:4]
    return proofs(kept(tmp_path_factory.mktemp("few"), everything(PROJECT, few)))


def test_every_row_can_be_proved_by_itself(made: list[bytes]) -> None:
    for data in made:
        single = verify_single(data, PROJECT.project.hash)
        shown = json.loads(data)["row"]
        assert (single.row, single.project.hash) == (shown, PROJECT.project.hash)
        assert (shown["caption"] is None) == (shown["error"] is not None)
        assert shown["key"] == PROJECT.items[shown["chunk"]][shown["item"]].key


def test_rows_of_every_kind_of_list_can_be_proved(tmp_path: Path) -> None:
    for data in proofs(kept(tmp_path, everything(ANYWHERE, SAID))):
        verify_single(data, ANYWHERE.project.hash)


@settings(max_examples=300)
@given(data=st.data())
def test_any_changed_byte_is_found(made: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(made[0])
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UntrustedError):
        verify_single(bytes(whole))


def test_the_proof_of_one_row_does_not_prove_another(made: list[bytes]) -> None:
    one, other = (json.loads(data) for data in made[:2])
    for name in one["row"]:
        if one["row"][name] != other["row"][name]:
            changed: dict[str, Any] = one | {"row": one["row"] | {name: other["row"][name]}}
            with pytest.raises(UntrustedError):
                verify_single(json.dumps(changed, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    with pytest.raises(UntrustedError, match="of another project"):
        verify_single(made[0], bytes(32))


@pytest.mark.parametrize("data", [b"", b"{}", b'{"p2pcap_proof":1,"row":{},"proof":"","sha256":""}', b"\xff", b"[1]"])
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError):
        verify_single(data)


def test_a_row_that_is_gone_cannot_be_proved(database: Path) -> None:
    with sourced(database) as source, pytest.raises(StoreError):
        make_single(Gathering(source.select), Place(PROJECT.project.stages[0].task.tid.hex(), "00" * 32, 0, 0))
