"""What exports read from: a node's tables, while it runs and when it does not.

Always holds: equal tables give equal rows in equal order, whichever node is asked.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

Order = Literal["task", "answer", "image"]
"""Rows by task, chunk and item; the answers of each; or by chunk, item and stage, so that those of one image are
neighbours. For "task" a SELECT's last two columns are chunk and item; for the others it orders what it sees."""

ALL_CHUNKS = (0, 2**31 - 1)
"""The first and the last chunk there may be."""


class Rows(Protocol):
    """Arrow schema and record batches."""

    schema: Any

    def __iter__(self) -> Iterator[Any]:
        """The batches, once."""


class Source(Protocol):
    """A node's tables. Each reading is of the state that they are in at that time; those of `held`, of one state."""

    def held(self) -> "AbstractContextManager[Source]":
        """The same tables, which stay as they are while the block lasts. Raises QueryError where a node holds too many
        already."""

    def select(self, sql: str) -> Iterator[Any]:
        """The rows of one SELECT, as Arrow record batches. Raises QueryError."""

    def parts(self, sql: str, order: Order, chunks: tuple[int, int] = ALL_CHUNKS) -> AbstractContextManager[Rows]:
        """The canonical table by a SELECT from `part`, stretch after stretch (p2pcap.store.parts). Raises QueryError,
        and StoreError where not all rows are kept."""
