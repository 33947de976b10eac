"""The third screen: a map of all chunks, who claims which, and who did a chunk.

caption  · free 120   c claimed 4   d done 870   v checked 6
vvvvvddddddddddddddddddddddddddddddddddddddddddddddddddddddddcccc····················
 chunk  who                       done  progress      lease left
    12  attic-3090 (this node)   612/1000  ███████▎░░░░      18m 5s
"""

from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from p2pcap.errors import P2pcapError
from p2pcap.node.chunk_map import ChunkClaim, ChunkMap, decode
from p2pcap_tui.chunk_grid import ChunkGrid
from p2pcap_tui.chunk_words import (
    CLAIMS,
    RESULTS,
    SORTS,
    chunk_page,
    claim_rows,
    legend_lines,
    result_lines,
)
from p2pcap_tui.moment import Moment
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.sql_text import literal
from p2pcap_tui.views.base import View
from p2pcap_tui.words import Line, number, painted

LOOK_EVERY = 3.0
"""Seconds between two maps; the node makes them less often where they cost it much."""

SHOWN = 500
"""Claims that are listed."""

PARTS = ("-map", "-table", "-both")
"""What is on the screen, in the order in which `m` goes through it. Both need a high terminal."""


class Work(View):
    """The map, the claims, and one chunk in detail."""

    NAME, DIGIT, TITLE = "work", "3", "Work"
    ABOUT = "what is captioned, claimed and free"

    SCOPED_CSS = False  # rules for a low terminal look at the screen
    DEFAULT_CSS = """
    Work #work-legend { height: 3; text-wrap: nowrap; }
    Screen.-wide #work-legend { height: 2; }
    Work #work-map { height: 2fr; }
    Work #work-claims { height: 1fr; }
    Work #work-detail { height: 1fr; border-top: solid $panel; display: none; }
    Work.-open #work-detail { display: block; }
    Work.-open #work-claims { display: none; }
    Work.-map #work-claims { display: none; }
    Work.-table #work-map { display: none; }
    Screen.-short Work.-both #work-claims { display: none; }
    Work #work-detail-text { width: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "turn", "Map/table", tooltip="Show the map, the claims, or both", id="work-map"),
        Binding("z", "fit", "All at once", tooltip="Show all chunks at once, or each in its own cell", id="work-fit"),
        Binding("s", "sort", "Sort", show=False, tooltip="Sort the claims by chunk, author or lease", id="work-sort"),
        Binding(
            "left_square_bracket",
            "stage(-1)",
            "Stage before",
            key_display="[",
            show=False,
            tooltip="The stage before",
            id="work-before",
        ),
        Binding(
            "right_square_bracket",
            "stage(1)",
            "Next stage",
            key_display="]",
            show=False,
            tooltip="The next stage",
            id="work-next",
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._map: ChunkMap | None = None
        self._trouble = ""
        self._stage = 0
        self._sort = "chunk"
        self._open: int | None = None
        self._results: list[Line] = []
        self._claimed: list[ChunkClaim] = []
        self._timer: Timer | None = None
        self._legend = Static(id="work-legend", markup=False)
        self._grid = ChunkGrid(id="work-map")
        self._claims = RowsTable(CLAIMS, empty="nobody is at work", id="work-claims")
        self._detail = Static(id="work-detail-text", markup=False)
        self._drawn: tuple[Sequence[Line], Sequence[Line]] = ((), ())
        self.add_class("-both")

    def compose(self) -> ComposeResult:
        """The legend, the map, and below it the claims or one chunk."""
        yield self._legend
        yield self._grid
        yield self._claims
        with VerticalScroll(id="work-detail"):
            yield self._detail

    @property
    def stage(self) -> str:
        """The name of the stage that is shown."""
        stages = self._map.stages if self._map else ()
        return stages[self._stage % len(stages)].stage if stages else ""

    def opened(self) -> None:
        """Begin to ask for maps."""
        self._timer = self.set_interval(LOOK_EVERY, self._look)
        self._look()

    def closed(self) -> None:
        """No more maps."""
        if self._timer is not None:
            self._timer.stop()
        self.workers.cancel_node(self)

    def show(self, moment: Moment) -> None:
        """Leases get shorter; a node that was gone may be back."""
        if not moment.trouble and self._trouble:
            self._look()
        self._draw()

    def on_resize(self) -> None:
        """Other room, other lines."""
        self._draw()

    def escape(self) -> bool:
        """Close the chunk."""
        was_open = self._open is not None
        self._open = None
        self.remove_class("-open")
        self.call_after_refresh(self._draw)
        return was_open

    def action_turn(self) -> None:
        """Show the next of map, table and both."""
        parts = PARTS[:2] if self.screen.has_class("-short") else PARTS
        shown = next(part for part in PARTS if self.has_class(part))
        at = parts.index(shown) if shown in parts else 0
        following = parts[(at + 1) % len(parts)]
        self.remove_class(shown).add_class(following)
        (self._claims if following == "-table" else self._grid).focus()
        self.call_after_refresh(self._draw)

    def action_fit(self) -> None:
        """Show all chunks at once, or each in a cell of its own."""
        self._grid.fit()

    def action_sort(self) -> None:
        """Sort the claims by something else."""
        ways = list(SORTS)
        self._sort = ways[(ways.index(self._sort) + 1) % len(ways)]
        self._draw()

    def action_stage(self, by: int) -> None:
        """Show another stage."""
        stages = self._map.stages if self._map else ()
        if len(stages) > 1:
            self._stage = (self._stage + by) % len(stages)
            self.escape()
            self._draw()

    def on_chunk_grid_moved(self, event: ChunkGrid.Moved) -> None:
        """The cursor says where it is; an open chunk follows it."""
        event.stop()
        if self._open is not None:
            self._open_chunk(event.chunk)
        self._draw_words()

    def on_chunk_grid_chosen(self, event: ChunkGrid.Chosen) -> None:
        """Who did this chunk?"""
        event.stop()
        self._open_chunk(event.chunk)

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """Who did the chunk of this claim?"""
        event.stop()
        chunk = int(event.row.id.rsplit(" ", 1)[1])
        self._grid.move_to(chunk)
        self._open_chunk(chunk)

    def on_rows_table_sort_asked(self, event: RowsTable.SortAsked) -> None:
        """A click on a head."""
        event.stop()
        self._sort = event.sort
        self._draw()

    def _open_chunk(self, chunk: int) -> None:
        self._open, self._results = chunk, [[(" looking …", "dim")]]
        self.add_class("-open")
        self._draw_words()
        self._seek(chunk, self.stage)

    @work(exclusive=True, group="map")
    async def _look(self) -> None:
        try:
            self._map = await self.feed.ask(lambda client: decode(client.chunk_map()))
            self._trouble = ""
        except P2pcapError as error:
            self._trouble = str(error)
        self._draw()

    @work(exclusive=True, group="chunk")
    async def _seek(self, chunk: int, stage: str) -> None:
        try:
            found = await self.feed.select(RESULTS.format(chunk=int(chunk), stage=literal(stage)))
            self._results = result_lines(found.rows)
        except P2pcapError as error:
            self._results = [[(f" {error}", "warn")]]
        self._draw_words()

    def _draw(self) -> None:
        """Draw what is new."""
        found = self._map or ChunkMap(0.0)
        stage = self.stage
        self._claimed = sorted((claim for claim in found.claims if claim.stage == stage), key=SORTS[self._sort])
        if self._claims.size.height:  # rows that nobody sees are not made
            rows = claim_rows(self._claimed[:SHOWN], self.moment.now)
            self._claims.show(rows, sort=self._sort, empty=self._none(found))
        if found.stages:
            self._grid.show(found.stages[self._stage % len(found.stages)].letters)
        self._draw_words()

    def _draw_words(self) -> None:
        """The legend, and the chunk that is open."""
        found = self._map or ChunkMap(0.0)
        legend, page = self._legend_of(found), self._page(found, self._claimed, self.moment.now)
        before_legend, before_page = self._drawn
        self._drawn = legend, page
        if legend != before_legend:
            self._legend.update(painted(legend), layout=False)
        if page != before_page:
            self._detail.update(painted(page))

    def _none(self, found: ChunkMap) -> str:
        return f"{number(found.claimed)} claims, none on this stage" if found.claimed else "nobody is at work"

    def _legend_of(self, found: ChunkMap) -> list[Line]:
        if self._trouble and not found.stages:
            return [[(f" {self._trouble}", "warn")]]
        lines = legend_lines(found, self._stage, self._grid.chunk, self._grid.cells.chunks, self.size.width or 80)
        return [*lines, *([[(" ! the node does not answer: this is how it was", "warn")]] if self._trouble else [])]

    def _page(self, found: ChunkMap, claims: Sequence[ChunkClaim], now: float) -> list[Line]:
        if self._open is None or not found.stages:
            return []
        letters = found.stages[self._stage % len(found.stages)].letters
        letter = letters[self._open] if self._open < len(letters) else ""
        return [*chunk_page(self._open, self.stage, letter, claims, now), *self._results]
