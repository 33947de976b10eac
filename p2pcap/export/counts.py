"""What an export wrote and what it left out, counted as the rows go by.

Always holds: `captions`, `errors` and `skipped` add up to the rows that were read, unless a limit ended the reading.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

HIDDEN = ("skip", "failed", "chunk", "item")
"""What every export's SELECT gives at its end, beside what it writes: why a row is left out, whether it is an error,
and which image it is about."""


@dataclass
class Counts:
    """Images with a row in the export; rows of it that have captions, and that are errors; `skipped`: rows left out, by
    reason. `incomplete`: something that was asked for could not be written."""

    images: int = 0
    captions: int = 0
    errors: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    incomplete: bool = False

    def add(self, *, error: bool) -> None:
        """Count one row about an image of its own."""
        self.images += 1
        self.errors += error
        self.captions += not error

    def skip(self, reason: str, count: int = 1) -> None:
        """Count what is left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + count

    def drop(self, reason: str, *, failure: bool = False) -> None:
        """An image that was counted is not written after all."""
        self.incomplete |= failure
        self.images -= 1
        self.captions -= 1
        self.skip(reason)

    def told(self) -> str:
        """The counts for people."""
        left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
        return f"{self.images} images, {self.captions} captioned rows, {self.errors} error rows" + (
            f"; left out: {left_out}" if left_out else ""
        )


class Images:
    """Which images were seen: a bit for each."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self.count = 0

    def see(self, chunks: Any, items: Any) -> None:
        """Images by chunk and item, as Arrow arrays of one length."""
        import numpy as np

        numbers, places = np.asarray(chunks), np.asarray(items)
        for chunk in np.unique(numbers).tolist():
            flags = np.zeros(int(places.max()) + 1, dtype=np.uint8)
            flags[places[numbers == chunk]] = 1
            bits = int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")
            before = self._seen.get(chunk, 0)
            self._seen[chunk] = before | bits
            self.count += (bits & ~before).bit_count()


def counted(
    batches: Iterator[Any],
    counts: Counts,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Iterator[Any]:
    """The batches without the rows that are left out and without the columns of HIDDEN, until `limit` rows have gone
    by. `progress` is told how many rows were read."""
    import pyarrow.compute as pc

    images = Images()
    for batch in batches:
        progress(batch.num_rows)
        own = batch.num_columns - len(HIDDEN)
        batch = _at_most(batch, own, None if limit is None else limit - counts.captions - counts.errors)
        skipped = batch.column(own)
        if skipped.null_count < batch.num_rows:
            for found in pc.value_counts(skipped.drop_null()).to_pylist():
                counts.skip(found["values"], found["counts"])
            batch = batch.filter(pc.is_null(skipped))
        if batch.num_rows:
            failed = batch.column(own + 1).true_count
            counts.errors += failed
            counts.captions += batch.num_rows - failed
            images.see(batch.column(own + 2), batch.column(own + 3))
            counts.images = images.count
            yield batch.select(range(own))
        if limit is not None and counts.captions + counts.errors >= limit:
            return


def _at_most(batch: Any, own: int, room: int | None) -> Any:
    """The batch up to the row that is the last one of `room` not left out."""
    import numpy as np

    skipped = batch.column(own)
    if room is None or skipped.null_count <= room:
        return batch
    kept = np.flatnonzero(skipped.is_null().to_numpy(zero_copy_only=False))
    return batch.slice(0, int(kept[room - 1]) + 1)
