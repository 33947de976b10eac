"""The eighth screen: what the maintainer signed; and on the maintainer's machine, what is not signed yet.

Project       Shapes
License       CC0-1.0
Root          abab abab …   version 1
Manifest      v7 of 2026-09-01, signed by …00000001  ✓ holds until 2027-09-01
"""

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from p2pcap.errors import FrameError, P2pcapError
from p2pcap.node.manifest_info import ManifestInfo, decode
from p2pcap_tui.maintainer import diff, folder_of
from p2pcap_tui.moment import Moment
from p2pcap_tui.project_words import Folder, commands, diff_lines, project_page
from p2pcap_tui.views.lines import LinesView
from p2pcap_tui.words import Line, wrapped


class Project(LinesView):
    """The page."""

    NAME, DIGIT, TITLE = "project", "8", "Project"
    ABOUT = "what the maintainer signed: stages, prompts, models, rules, keys"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "diff", "Diff", tooltip="Maintainer: what the next signing would change", id="project-diff"),
        Binding("y", "copy", "Copy", show=False, tooltip="Copy the command that signs", id="project-copy"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._manifest: ManifestInfo | None = None
        self._folder: Folder | None = None
        self._asked = ("", 0)
        self._diff: list[Line] = []

    def lines(self, moment: Moment) -> list[Line]:
        """What is signed; below it, what the next signing would change."""
        width = self.size.width - 2 if self.size.width else 80  # the bar that scrolls takes two
        if self._manifest is None and moment.trouble:
            return [[], *wrapped(moment.trouble, width, "warn")]
        return [*project_page(self._manifest, moment.snapshot, moment.now, self._folder, width), *self._diff]

    def show(self, moment: Moment) -> None:
        """Ask again where another manifest is in force; draw what is new."""
        project = moment.snapshot.project if moment.snapshot else None
        if project is not None and project.manifest and self._asked != (project.id, project.manifest):
            self._asked = project.id, project.manifest
            self._ask()
        self.draw(moment)

    def closed(self) -> None:
        """A running diff is ended. The manifest is asked for again: that question may have been broken off, too."""
        self._asked = ("", 0)
        self.workers.cancel_node(self)

    def action_diff(self) -> None:
        """What would the next signing change?"""
        if self._folder is None:
            self.ui.say(
                "the maintainer's folder is not on this machine; start the UI in it, or beside its node", bad=True
            )
            return
        self._diff = [[], [(" looking at every image; this may take minutes …", "dim")]]
        self.draw(self.moment)
        self._compare(self._folder)

    def action_copy(self) -> None:
        """The command that signs, to the terminal's clipboard."""
        if self._folder is not None:
            command = commands(self._folder)[1][0]
            self.app.copy_to_clipboard(command)
            self.ui.say(f"copied: {command}")

    @work(exclusive=True, group="manifest")
    async def _ask(self) -> None:
        try:
            self._manifest = await self.feed.ask(lambda client: decode(client.manifest()))
        except FrameError as error:
            self.ui.say(str(error), bad=True)
            return
        except P2pcapError:
            self._asked = ("", 0)  # asked again with the next snapshot
            return
        if (snapshot := self.moment.snapshot) is not None:
            self._folder = await asyncio.to_thread(folder_of, snapshot, Path.cwd())
        self.draw(self.moment)

    @work(exclusive=True, group="diff")
    async def _compare(self, folder: Folder) -> None:
        self._diff = diff_lines(*await diff(folder))
        self.draw(self.moment)
