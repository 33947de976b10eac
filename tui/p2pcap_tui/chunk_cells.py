"""The map of chunks as cells of text: one cell for each chunk, or for several where that many do not fit.

Pure. Always holds: a cell says by its letter what it says by its colour; cells stand in the order of the chunks, and
each chunk is in one cell.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pcap.node.chunk_map import BEGUN, CHECKED, CLAIMED, DONE, FAILED, FREE, LETTERS

GLYPHS: Mapping[str, str] = {FREE: "·", BEGUN: "-", CLAIMED: "c", DONE: "d", CHECKED: "v", FAILED: "x"}
"""What stands in a cell; each is one column wide."""

TELLING = (FAILED, CLAIMED, BEGUN)
"""What a cell of several chunks says as soon as one of them is so, the first before the others."""


@dataclass(frozen=True)
class Cells:
    """`letters` in lines of `width` cells, each cell for `chunks` chunks of the `total`."""

    letters: str
    width: int
    chunks: int
    total: int

    @property
    def height(self) -> int:
        """Lines there are."""
        return -(-len(self.letters) // self.width)

    def line(self, number: int) -> str:
        """The letters of a line; none for one that there is not."""
        return self.letters[number * self.width : (number + 1) * self.width] if number >= 0 else ""

    def chunk_at(self, column: int, line: int) -> int | None:
        """The first chunk of the cell there, or None where there is no cell."""
        cell = line * self.width + column
        if not (0 <= column < self.width and 0 <= cell < len(self.letters)):
            return None
        return cell * self.chunks

    def place_of(self, chunk: int) -> tuple[int, int]:
        """Column and line of the cell with this chunk."""
        line, column = divmod(chunk // self.chunks, self.width)
        return column, line


def one_each(letters: str, width: int) -> Cells:
    """A cell for each chunk, in lines of `width` columns; the last lines may have to be scrolled to."""
    return Cells(letters, max(1, width), 1, len(letters))


def fitted(letters: str, width: int, height: int) -> Cells:
    """As many chunks in a cell as makes all of them fit into `width` columns and `height` lines."""
    width, height = max(1, width), max(1, height)
    chunks = max(1, -(-len(letters) // (width * height)))
    if chunks == 1:
        return one_each(letters, width)
    parts = [letters[start : start + chunks] for start in range(0, len(letters), chunks)]
    return Cells("".join(map(together, parts)), width, chunks, len(letters))


def together(letters: str) -> str:
    """What one cell says of several chunks: what is most worth a look; else whether they are done."""
    found = set(letters)
    if len(found) == 1:
        return letters[0]
    for letter in TELLING:
        if letter in found:
            return letter
    return BEGUN if FREE in found else DONE


def counts(letters: str) -> dict[str, int]:
    """How many chunks are free, begun and so on, in the order of LETTERS; those of which there is none are left out."""
    found = Counter(letters)
    return {LETTERS[letter]: found[letter] for letter in LETTERS if found[letter]}


def legend(letters: str) -> Sequence[tuple[str, str, int]]:
    """Glyph, letter and number of chunks, of each letter that there is."""
    found = Counter(letters)
    return [(GLYPHS[letter], letter, found[letter]) for letter in LETTERS if found[letter]]
