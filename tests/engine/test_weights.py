"""Weight files are told apart from damaged ones by their headers."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.engine.weights import INDEX, Tensor, read_header, read_weights
from p2pcap.errors import ModelError

SHAPES = Path(__file__).parents[2] / "models" / "shapes"


def safetensors(tensors: dict[str, tuple[str, list[int], int]]) -> bytes:
    """A file of zeros with these tensors: number format, shape, bytes."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}  # type: ignore[dict-item]
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


WHOLE = safetensors({"a": ("BF16", [3, 4], 24), "b": ("F32", [], 4)})


def test_the_tensors_are_what_the_header_tells(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(WHOLE)
    found = read_header(file)
    assert found == {"a": Tensor("BF16", (3, 4), (0, 24)), "b": Tensor("F32", (), (24, 28))}
    assert [(tensor.numbers, tensor.bytes) for tensor in found.values()] == [(12, 24), (1, 4)]


def test_a_real_model_is_read() -> None:
    tensors = read_weights(SHAPES)
    assert sum(tensor.bytes for tensor in tensors) == sum(4 * tensor.numbers for tensor in tensors) == 3_287_552


def header_of(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (WHOLE[:-1], "damaged: its header tells of 28 bytes of weights, and 27 are there"),
        (WHOLE + b"\0", "and 29 are there"),
        (b"", "no header"),
        (b"\1\0", "no header"),
        (header_of(b"{}", 2**63), "no header"),
        (header_of(b"{}", 3), "no header"),
        (header_of(b"[]"), "no list of tensors"),
        (header_of(b'{"a": 1}'), "no list of tensors"),
        (header_of(b"\xff\xfe{}"), "no list of tensors"),
        (header_of(b"[" * 100_000), "no list of tensors"),
        (header_of(b'{"a":{"dtype":"F32","shape":[%s1],"data_offsets":[0,0]}}' % (b"1," * 64)), "no list of tensors"),
        (safetensors({"a": ("F32", [10**18] * 18, 4)}), "more numbers than bytes"),
        (header_of(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}'), "no list of tensors"),
        (header_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}'), "end before they begin"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no header"),
    ],
)
def test_a_damaged_file_is_told_in_one_sentence(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(data)
    with pytest.raises(ModelError, match=says) as error:
        read_header(file)
    assert "\n" not in str(error.value)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(header_of))
def test_any_bytes_are_a_header_or_a_sentence(data: bytes) -> None:
    file = Path("/dev/shm") / "p2pcap-test-weights"
    file.write_bytes(data)
    try:
        read_header(file)
    except ModelError:
        pass
    finally:
        file.unlink()


def test_an_index_says_which_files_count(tmp_path: Path) -> None:
    for name in ("model-1.safetensors", "model-2.safetensors", "consolidated.safetensors"):
        (tmp_path / name).write_bytes(WHOLE)
    assert len(read_weights(tmp_path)) == 6
    listed = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(listed))
    assert len(read_weights(tmp_path)) == 4
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lists model-2\.safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("index", ["[]", '{"weight_map": {"a": "../secret"}}', '{"weight_map": {"a": 1}}', "{"])
def test_an_index_that_is_none_is_told(tmp_path: Path, index: str) -> None:
    (tmp_path / "secret").write_bytes(WHOLE)
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / INDEX).write_text(index)
    with pytest.raises(ModelError):
        read_weights(directory)
