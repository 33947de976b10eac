"""The map of chunks as cells, for any width and height."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.node.chunk_map import LETTERS
from p2pcap_tui.chunk_cells import GLYPHS, Cells, fitted, legend, one_each, together

letters = st.text("".join(LETTERS), max_size=400)
sizes = st.integers(1, 60)


@given(letters, sizes, sizes)
def test_every_chunk_is_in_the_cell_that_is_found_for_it(chunks: str, width: int, height: int) -> None:
    for cells in (one_each(chunks, width), fitted(chunks, width, height)):
        assert "".join(cells.line(line) for line in range(cells.height)) == cells.letters
        for chunk in range(len(chunks)):
            column, line = cells.place_of(chunk)
            first = cells.chunk_at(column, line)
            assert first is not None
            assert first <= chunk < first + cells.chunks
            assert column < cells.width


@given(letters, sizes, sizes)
def test_fitted_cells_fit(chunks: str, width: int, height: int) -> None:
    cells = fitted(chunks, width, height)
    assert cells.height <= height
    assert (cells.chunks - 1) * width * height < max(1, len(chunks))


def test_where_there_is_no_cell_there_is_no_chunk() -> None:
    cells = one_each("dd.", 2)
    assert [cells.chunk_at(*place) for place in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (-1, 1))] == [
        0, 1, 2, None, None, None, None,
    ]  # fmt: skip
    assert (cells.line(-1), cells.line(9)) == ("", "")
    assert one_each("", 0).height == 0


@pytest.mark.parametrize(
    ("chunks", "cell"),
    [
        ("vvv", "v"), ("dvd", "d"), ("vd.", "-"), ("..", "."), ("d.c", "c"), ("cxv", "x"), ("-d", "-"), ("-cd", "c"),
    ],
)  # fmt: skip
def test_a_cell_of_several_chunks_says_what_is_most_worth_a_look(chunks: str, cell: str) -> None:
    assert together(chunks) == cell


def test_the_legend_names_what_there_is() -> None:
    assert legend("ddd..x") == [("·", ".", 2), ("d", "d", 3), ("x", "x", 1)]
    assert GLYPHS.keys() == LETTERS.keys()
    assert len(set(GLYPHS.values())) == len(GLYPHS), "without colours, letters tell the states apart"


def test_ten_thousand_chunks_in_a_small_terminal() -> None:
    cells = fitted("d" * 9_999 + "x", 40, 8)
    assert cells == Cells("d" * (len(cells.letters) - 1) + "x", 40, 32, 10_000)
