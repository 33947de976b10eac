"""The fourth screen: the newest captions, one of them in full, and its image for those who ask for it.

 image              caption                              author        state
› …/000/00012.png   A red circle left of a green star.   attic-3090    checked
  photos/000/00012.png  chunk 0, image 12, stage describe   ▀▀▀▀▀▀▀▀▀▀▀
  describe: A red circle left of a green star.              ▀▀▀▀▀▀▀▀▀▀▀
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from p2pcap.errors import NotRunningError, P2pcapError
from p2pcap_tui.caption_sql import SHOWN, select
from p2pcap_tui.caption_words import COLUMNS, Caption, address, caption_page, caption_row, captions
from p2pcap_tui.moment import Moment
from p2pcap_tui.picture import Picture
from p2pcap_tui.rows_table import RowsTable
from p2pcap_tui.views.base import FilteredView
from p2pcap_tui.words import painted

LOOK_EVERY = 5.0
"""Seconds between two looks for newer captions: each costs the node about 35 ms of a core."""

SETTLE = 0.15
"""Seconds without another letter after which a text is looked for: a search reads every caption there is."""


class Captions(FilteredView):
    """The list, one caption, and its image."""

    NAME, DIGIT, TITLE = "captions", "4", "Captions"
    ABOUT = "the newest captions, their authors and images"

    SCOPED_CSS = False  # rules for a narrow terminal look at the screen
    DEFAULT_CSS = """
    Captions #captions-list { height: 1fr; }
    Captions #captions-below { height: 1fr; border-top: solid $panel; }
    Captions #captions-page { width: 1fr; padding: 0 1; }
    Captions #captions-page Static { width: 1fr; }
    Captions #captions-image { width: 1fr; height: 1fr; display: none; }
    Captions.-image #captions-image { display: block; }
    Screen.-narrow Captions.-image #captions-page { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "view", "Image", tooltip="Show the image, or hide it again", id="captions-image"),
        Binding("n", "move(1)", "Next", show=False, tooltip="The next caption", id="captions-next"),
        Binding("N", "move(-1)", "Before", show=False, tooltip="The caption before", id="captions-before"),
        Binding("y", "copy", "Copy", tooltip="Copy the caption", id="captions-copy"),
        Binding(
            "o", "browse", "Open", show=False, tooltip="Open the image where it lies on the web", id="captions-open"
        ),
        Binding("r", "look", "Refresh", show=False, tooltip="Look for newer captions", id="captions-refresh"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._found: Mapping[str, Caption] = {}
        self._timer: Timer | None = None
        self._newest = -1
        self._lost = False
        self._list = RowsTable(COLUMNS, empty="no captions yet", id="captions-list")
        self._page = Static(markup=False)
        self._picture = Picture(id="captions-image")
        self._on_page: Caption | None = None

    def body(self) -> ComposeResult:
        """The list, and below it one caption beside its image."""
        yield self._list
        with Horizontal(id="captions-below"):
            with VerticalScroll(id="captions-page", can_focus=False):
                yield self._page
            yield self._picture

    @property
    def caption(self) -> Caption | None:
        """The one that the cursor is on."""
        row = self._list.row
        return self._found.get(row.id) if row is not None else None

    def opened(self) -> None:
        """Begin to look for newer captions."""
        self._timer = self.set_interval(LOOK_EVERY, self._look_again)
        self.action_look()

    def closed(self) -> None:
        """No more looking, and no image."""
        if self._timer is not None:
            self._timer.stop()
        self.workers.cancel_node(self)
        self._hide()

    def show(self, moment: Moment) -> None:
        """Captions are asked for, and not part of a moment."""

    def escape(self) -> bool:
        """Hide the image, else clear the filter."""
        if self.has_class("-image"):
            self._hide()
            return True
        return super().escape()

    def filtered(self, sought: str) -> None:
        """Look for a text."""
        self._list.show(self._list.rows, empty="looking …")
        self._look(sought, SETTLE)

    def action_look(self) -> None:
        """Look again."""
        self._look(self.sought, 0.0)

    def action_move(self, by: int) -> None:
        """The caption before or after."""
        self._list.action_move(by)

    def action_copy(self) -> None:
        """The caption, to the terminal's clipboard."""
        if self.caption is not None:
            self.app.copy_to_clipboard(self.caption.said)
            self.ui.say("copied, where the terminal allows it")

    def action_browse(self) -> None:
        """The image in a browser; where there can be none, its address to the clipboard."""
        if self.caption is None:
            return
        place = address(self.caption)
        if not place:
            self.ui.say("this image has no address on the web; v shows it here", bad=True)
        elif _has_windows():
            self.app.open_url(place)
        else:
            self.app.copy_to_clipboard(place)
            self.ui.say(f"there is no browser here; copied: {place}")

    def action_view(self) -> None:
        """Show the image, or hide it again. Nothing is shown before somebody asks."""
        if self.has_class("-image"):
            self._hide()
        elif self.caption is not None:
            self.add_class("-image")
            self._show_image(self.caption)

    def on_rows_table_moved(self, event: RowsTable.Moved) -> None:
        """Another caption; an open image follows."""
        event.stop()
        self._draw()

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """Enter is for the image, too."""
        event.stop()
        self.action_view()

    def _look_again(self) -> None:
        """Newer captions, where there are some and nothing is sought, or the node was not there to be asked."""
        snapshot = self.moment.snapshot
        done = snapshot.project.captions + snapshot.project.errors if snapshot else 0
        if not self.moment.trouble and (self._lost or (not self.sought and done != self._newest)):
            self._newest = done
            self.action_look()

    @work(exclusive=True, group="captions")
    async def _look(self, sought: str, after: float) -> None:
        if after:
            await asyncio.sleep(after)
        try:
            found = captions((await self.feed.select(select(sought), SHOWN)).rows)
        except NotRunningError as error:
            self._lost = True
            self._list.show(self._list.rows, empty=str(error))  # what was found stays until the node is back
            return
        except P2pcapError as error:
            self._newest = -1
            self._list.show((), empty=str(error))
            return
        self._lost = False
        self._found = {one.id: one for one in found}
        self._list.show([caption_row(one) for one in self._found.values()], empty=_none(sought))
        self._draw()

    def _draw(self) -> None:
        """The caption that the cursor is on."""
        caption = self.caption
        if caption == self._on_page:
            return
        self._on_page = caption
        self._page.update(painted(caption_page(caption)) if caption is not None else "")
        if not self.has_class("-image"):
            return
        if caption is not None:
            self._show_image(caption)
        else:
            self._hide()

    @work(exclusive=True, group="image")
    async def _show_image(self, caption: Caption) -> None:
        if not caption.hash:
            self._picture.say("its author never had this image")
            return
        self._picture.say("getting the image …")
        try:
            file = await self.feed.ask(lambda client: client.image(caption.chunk, caption.item, caption.hash))
        except P2pcapError as error:
            self._picture.say(str(error))
            return
        self._picture.draw(file)

    def _hide(self) -> None:
        self.workers.cancel_group(self, "image")
        self.remove_class("-image")
        self._picture.say("")


def _none(sought: str) -> str:
    return f"no caption, image or author with {sought!r}" if sought else "no captions yet"


def _has_windows() -> bool:
    """Whether a browser has a window to open: one in this terminal would draw over the screen."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
