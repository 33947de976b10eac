"""What exports read from: a node's tables, while it runs and when it does not.

Always holds: equal tables give equal rows in equal order, whichever node is asked.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

Order = Literal["task", "image"]
"""Rows by task, chunk and item; or by chunk, item and stage, so that those of one image are neighbours."""

ALL_CHUNKS = (0, 2**31 - 1)
"""The first and the last chunk there may be."""


class Rows(Protocol):
    """Arrow schema and record batches."""

    schema: Any

    def __iter__(self) -> Iterator[Any]:
        """The batches, once."""


class Source(Protocol):
    """A node's tables."""

    def select(self, sql: str) -> Iterator[Any]:
        """The rows of one SELECT, as Arrow record batches. Raises QueryError."""

    def parts(self, sql: str, order: Order, chunks: tuple[int, int] = ALL_CHUNKS) -> AbstractContextManager[Rows]:
        """The canonical table by a SELECT from `part`, stretch after stretch (p2pcap.store.parts). Raises QueryError,
        and StoreError where not all rows are kept."""
