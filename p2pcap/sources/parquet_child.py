"""The process that reads Parquet files with pyarrow: `python -m p2pcap.sources.parquet_child`, run by `parquet_file`.

The files are strangers'. A crash of the library, a lie that makes it take memory without end, or a page that never ends
is the end of this process only.
"""

import io
import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from p2pcap.project.items import MAX_FIELD, MAX_IMAGE
from p2pcap.sources.child_side import serve
from p2pcap.sources.columns import Column
from p2pcap.sources.parquet_frames import (
    PATH_ONLY,
    Answer,
    Cell,
    Done,
    Fault,
    Locate,
    Located,
    Open,
    Opened,
    Read,
    Row,
    Rows,
    Span,
    Value,
    encode,
    questions,
)

FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""What pyarrow raises for a file that it cannot read; its own errors are all of these too."""

FRAME_ROWS, FRAME_BYTES = 1_024, 256 * 1024
"""Rows are sent when they are so many, or have so many bytes."""

BUFFER_BYTES = 256 * 1024
"""pyarrow reads a column through a buffer of this size, where it would else hold all of a row group."""

AT_ONCE = 8 * 1024 * 1024
"""Bytes of a column that become Python's values together: three times as fast as one by one. Few cells that are huge
must not."""

BINARY = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.binary(): pa.binary()}
"""Types as which text is read without a look at whether it is UTF-8."""

OLD_PADDING = 100
"""Files of writers before 2017 state too small a length for a column (PARQUET-816); pyarrow reads so much more."""


class Service:
    """Answers questions about one file."""

    def __init__(self) -> None:
        self._size = 0
        self._file: pq.FileMetaData = None
        self._schema: pa.Schema = None
        self._leaves: list[int] = []

    def answer(self, frame: bytes) -> Iterator[bytes]:
        """The frames of an answer."""
        try:
            for answer in self._answer(frame):
                yield encode(answer)
        except FAULTS as error:
            yield encode(Fault(str(error)[:500]))

    def _answer(self, frame: bytes) -> Iterator[Answer]:
        match questions.decode(frame):
            case Open(footer, size):
                yield self._open(footer, size)
            case Locate(cells, group):
                yield self._locate(cells, group)
            case Read() as read:
                yield from self._read(read)

    def _open(self, footer: bytes, size: int) -> Opened:
        with pq.ParquetFile(io.BytesIO(footer)) as opened:
            self._file, self._schema, self._size = opened.metadata, opened.schema_arrow, size
        self._leaves = list(accumulate((_leaves(field.type) for field in self._schema), initial=0))
        if self._leaves[-1] != self._file.num_columns:
            raise ValueError("The schema has other columns than the row groups.")
        said = _said_images(self._schema)
        columns = tuple(_column(field, field.name in said) for field in self._schema)
        return Opened(
            columns, tuple(self._file.row_group(group).num_rows for group in range(self._file.num_row_groups))
        )

    def _locate(self, cells: Sequence[Cell], group: int) -> Located:
        chunks = [self._file.row_group(group).column(leaf) for leaf in self._chosen(cells)]
        unpacked = sum(chunk.total_uncompressed_size for chunk in chunks)
        return Located(tuple(sorted(self._span(chunk) for chunk in chunks)), unpacked)

    def _span(self, chunk: pq.ColumnChunkMetaData) -> Span:
        """As pyarrow's reader finds it."""
        start, dictionary = chunk.data_page_offset, chunk.dictionary_page_offset
        if chunk.has_dictionary_page and 0 < dictionary < start:
            start = dictionary
        room = self._size - start - chunk.total_compressed_size
        return start, chunk.total_compressed_size + max(0, min(OLD_PADDING, room))

    def _chosen(self, cells: Sequence[Cell]) -> list[int]:
        return sorted({leaf for cell in cells for leaf in self._leaves_of(cell)})

    def _leaves_of(self, cell: Cell) -> range:
        first, type_ = self._leaves[cell.column], self._schema.field(cell.column).type
        if not cell.part:
            return range(first, self._leaves[cell.column + 1])
        at = type_.get_field_index(cell.part)
        first += sum(_leaves(type_.field(index).type) for index in range(at))
        return range(first, first + _leaves(type_.field(at).type))

    def _read(self, read: Read) -> Iterator[Rows | Done]:
        order = sorted({cell.column for cell in read.cells})  # a batch has the columns that were asked for
        chosen = [(order.index(cell.column), cell) for cell in read.cells]
        frame: list[Row] = []
        size = 0
        for row, values in self._rows(read, chosen):
            weight = 0
            for value in values:  # not sum(): this is done for every row of a dataset
                if isinstance(value, bytes):
                    weight += len(value)
            if frame and (len(frame) == FRAME_ROWS or size + weight > FRAME_BYTES):
                yield Rows(tuple(frame))
                frame, size = [], 0
            frame.append((row, values))
            size += weight
        yield Rows(tuple(frame))
        yield Done()

    def _rows(self, read: Read, chosen: Sequence[tuple[int, Cell]]) -> Iterator[Row]:
        wanted = range(self._file.row_group(read.group).num_rows) if read.rows is None else read.rows
        with open(read.path, "rb") as stored, pa.PythonFile(Stored(stored, read.spans, self._size), mode="r") as source:
            opened = pq.ParquetFile(source, metadata=self._file, buffer_size=BUFFER_BYTES, pre_buffer=False)
            leaves = self._chosen(read.cells)
            batches = opened.reader.iter_batches(read.batch, [read.group], column_indices=leaves, use_threads=False)
            yield from _picked(batches, wanted, chosen)


class Stored(io.RawIOBase):
    """The file as pyarrow sees it: only `spans` of it are there, one behind the other in `stored`."""

    def __init__(self, stored: io.BufferedReader, spans: Sequence[Span], size: int) -> None:
        self._stored = stored
        self._parts = list(zip(spans, accumulate((length for _, length in spans), initial=0), strict=False))
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it is read next."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, count: int = -1) -> bytes:
        """Bytes of one span. Raises OSError for any that are in none."""
        for (start, length), place in self._parts:
            if start <= self._at < start + length:
                self._stored.seek(place + self._at - start)
                data = self._stored.read(min(count, start + length - self._at))
                self._at += len(data)
                return data
        raise OSError("The file points to bytes outside of its columns.")


def _leaves(type_: pa.DataType) -> int:
    """Parquet columns that a type takes, a leaf of its tree each."""
    if isinstance(type_, pa.BaseExtensionType):
        return _leaves(type_.storage_type)
    return sum(_leaves(type_.field(index).type) for index in range(type_.num_fields)) or 1


def _said_images(schema: pa.Schema) -> set[str]:
    """The columns that the library `datasets` wrote as its feature Image."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said.get("info", {}).get("features", {})
        return {name for name, feature in features.items() if feature.get("_type") == "Image"}
    except (AttributeError, ValueError, RecursionError):
        return set()


def _column(field: pa.Field, image: bool) -> Column:
    path = pa.types.is_struct(field.type) and field.type.get_field_index("path") >= 0
    return Column(field.name, _kind(field.type), image, path)


def _kind(type_: pa.DataType) -> Any:
    if _is_bytes(type_):
        return "bytes"
    if pa.types.is_struct(type_):
        at = type_.get_field_index("bytes")
        return "struct" if at >= 0 and _is_bytes(type_.field(at).type) else "other"
    return "text" if _is_text(type_) else "other"


def _is_text(type_: pa.DataType) -> bool:
    value = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _is_bytes(type_: pa.DataType) -> bool:
    value = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(pa.types.is_binary(value) or pa.types.is_large_binary(value) or pa.types.is_binary_view(value))


def _picked(batches: Any, wanted: Sequence[int], chosen: Sequence[tuple[int, Cell]]) -> Iterator[Row]:
    """The wanted rows; what is behind the last of them is not read."""
    first = done = 0
    if not wanted:
        return
    for batch in batches:
        last = bisect_left(wanted, first + len(batch))
        rows = wanted[done:last]
        at = range(len(batch)) if len(rows) == len(batch) else [number - first for number in rows]
        columns = [_values(batch.column(place), cell, at) for place, cell in chosen]
        yield from zip(rows, zip(*columns, strict=True), strict=True)
        first, done = first + len(batch), last
        if done == len(wanted):
            return


def _values(array: pa.Array, cell: Cell, at: Sequence[int]) -> list[Value]:
    if cell.image:
        return _images(array, at)
    return _texts(_part(array, cell.part) if cell.part else array, at)


def _part(array: pa.Array, name: str) -> pa.Array:
    """A field of a struct; null where the struct is."""
    return _plain(array.flatten()[array.type.get_field_index(name)])


def _plain(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def _images(array: pa.Array, at: Sequence[int]) -> list[Value]:
    if not pa.types.is_struct(array.type):
        return [_image(value) for value in map(_plain(array).__getitem__, at)]
    images = [_image(value) for value in map(_part(array, "bytes").__getitem__, at)]
    if array.type.get_field_index("path") < 0:
        return images
    paths = _texts(_part(array, "path"), at)
    return [PATH_ONLY if image is None and path else image for image, path in zip(images, paths, strict=True)]


def _image(value: Any) -> Value:
    data = value.as_buffer()
    if data is None:
        return None
    return len(data) if len(data) > MAX_IMAGE else bytes(data)


def _texts(array: pa.Array, at: Sequence[int]) -> list[Value]:
    array = _plain(array)
    if pa.types.is_nested(array.type):
        values = [array[index].as_py() for index in at]
        return [None if value is None else _cut(_json(value)) for value in values]
    if not _is_bytes(array.type) and not _is_text(array.type):
        array = array.cast(pa.string())  # not for the others: pyarrow's kernels take 40 MB from their first use on
    if len(at) == len(array) and array.nbytes <= AT_ONCE and (binary := BINARY.get(array.type)):
        return [
            value if value is None or len(value) <= MAX_FIELD else _cut(value)
            for value in array.view(binary).to_pylist()
        ]
    # As bytes: pyarrow gives text only where all of it is UTF-8. Four bytes are the most that a character has.
    starts = (array[index].as_buffer() for index in at)
    return [None if data is None else _cut(bytes(data[: 4 * MAX_FIELD])) for data in starts]


def _cut(text: bytes) -> bytes:
    return text.decode("utf-8", "replace")[:MAX_FIELD].encode()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace")


if __name__ == "__main__":
    serve(Service().answer)
