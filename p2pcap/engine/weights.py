"""What a model's weight files hold, read from their headers without loading a number of them.

A file of the safetensors format begins with the length of its header (8 bytes, little-endian), then comes the header, a
JSON object of every tensor's number format, shape and place, then the tensors
(https://github.com/huggingface/safetensors#format). An engine finds a broken file only after half a minute; its header
says so in a millisecond.

Always holds: of a file no more than MAX_HEADER bytes are read, and what is returned fits the file's length.
"""

import math
import struct
from pathlib import Path
from typing import Annotated, Any

import msgspec

from p2pcap.errors import ModelError

MAX_HEADER = 100_000_000
"""Bytes of a header; the format's own library takes no longer one."""

MAX_DIMENSIONS = 64
"""Dimensions of a tensor, of which PyTorch allows as many."""

INDEX = "model.safetensors.index.json"
"""The file that says which tensor is in which file, where there are several."""

_AGAIN = "Fetch the model again."

Count = Annotated[int, msgspec.Meta(ge=0)]


class Index(msgspec.Struct, frozen=True):
    """What is used of the index: the file of each tensor."""

    weight_map: dict[str, str]


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: number format as the format names it ("F32", "BF16", "F8_E4M3", …), shape, first byte and the one
    after the last, counted from the end of the header."""

    dtype: str
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_DIMENSIONS)]
    data_offsets: tuple[Count, Count]

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Its bytes on disk."""
        return self.data_offsets[1] - self.data_offsets[0]


def read_weights(directory: Path) -> tuple[Tensor, ...]:
    """The tensors of the model in `directory`. Raises ModelError when one of its files is damaged or missing."""
    return tuple(tensor for path in weight_files(directory) for tensor in read_header(path).values())


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that make up the model: those its index lists, or all. Raises ModelError when one that is
    listed is not there. A folder may hold the same weights twice, under other names; only an index tells them apart."""
    index = directory / INDEX
    if not index.exists():
        return sorted(directory.glob("*.safetensors"))
    try:
        names = set(msgspec.json.decode(index.read_bytes(), type=Index).weight_map.values())
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise ModelError(f"{index} is damaged or cannot be read, so the weights cannot be found. {_AGAIN}") from error
    files = [directory / name for name in sorted(names)]
    for file in files:
        if file.parent != directory or not file.is_file():
            raise ModelError(f"{directory} lacks weights: {index.name} lists {file.name}. {_AGAIN}")
    return files


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name. Raises ModelError when it is damaged, cut short or no such file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(_header_length(path, file.read(8), size))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error
    tensors = _parse(path, header)
    held, needed = size - 8 - len(header), max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    if held != needed:
        raise ModelError(
            f"{path} is damaged: its header tells of {needed} bytes of weights, and {held} are there. {_AGAIN}"
        )
    return tensors


def _header_length(path: Path, begin: bytes, size: int) -> int:
    """The length of the header, from a file's first 8 bytes."""
    length = int(struct.unpack("<Q", begin)[0]) if len(begin) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ModelError(f"{path} is damaged, or no safetensors file: it has no header. {_AGAIN}")
    return length


def _parse(path: Path, header: bytes) -> dict[str, Tensor]:
    try:
        raw: dict[str, Any] = msgspec.json.decode(header, type=dict[str, Any])
        raw.pop("__metadata__", None)
        tensors = msgspec.convert(raw, dict[str, Tensor])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: its header is no list of tensors. {_AGAIN}") from error
    if any(tensor.data_offsets[0] > tensor.data_offsets[1] for tensor in tensors.values()):
        raise ModelError(f"{path} is damaged: its header has tensors that end before they begin. {_AGAIN}")
    if any(tensor.numbers > 8 * tensor.bytes for tensor in tensors.values()):  # a number takes a bit at least
        raise ModelError(f"{path} is damaged: its header has tensors with more numbers than bytes hold. {_AGAIN}")
    return tensors
