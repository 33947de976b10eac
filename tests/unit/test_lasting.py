"""What lasts is spared by the garbage collector, and what was spared and is in use no more does not last for ever."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from p2pcap.lasting import spare_what_lasts


class Ring:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_in_use_is_looked_at_no_more() -> None:
    ring = Ring()
    spare_what_lasts()
    assert all(found is not ring for found in gc.get_objects())


def test_what_is_made_later_is_collected() -> None:
    spare_what_lasts()
    seen = weakref.ref(Ring())
    gc.collect()
    assert seen() is None


def test_what_was_spared_and_is_in_use_no_more_is_collected_the_next_time() -> None:
    ring = Ring()
    seen = weakref.ref(ring)
    spare_what_lasts()
    del ring
    gc.collect()
    assert seen() is not None
    spare_what_lasts()
    assert seen() is None


def test_a_process_that_spared_duckdb_ends_without_a_word() -> None:
    program = "import duckdb; from p2pcap.lasting import spare_what_lasts as spare; c = duckdb.connect(); spare()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert (ended.stdout, ended.stderr) == (b"", b"")
