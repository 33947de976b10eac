"""Each screen as it looks: in plain text at three sizes, which the tests compare, and as the pictures of the docs.

`python -m tests.tui.screens` writes both anew; look at the difference before you commit it.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from p2pcap.paths import NodePaths
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.views import VIEWS
from tests.tui.canned import NOW, history, settled, shown, snapshot
from tests.tui.canned_screens import ScreenClient, ScreenFeed

SIZES = ((40, 12), (80, 24), (140, 40))
PICTURE = (110, 28)
TEXTS = Path(__file__).parent / "screens"
PICTURES = Path(__file__).parents[2] / "docs" / "screens"
KEYS: dict[str, tuple[str, ...]] = {
    "captions": ("down", "up", "v"),
    "query": ("up", "up", "up", "up", "enter"),
    "help": ("question_mark",),
    "confirm": ("Q",),
    "peer": ("2", "down", "enter"),
}
"""Screens beside the views', and the keys that lead to them from the first. A view's own keys may stand here too."""

NAMES = tuple(dict.fromkeys([*[view.NAME for view in VIEWS], *KEYS]))

LOG: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("info", "started", {"version": "0.1.0"}),
    ("debug", "frame received", {"peer": "12D3KooWcanned00000003", "bytes": 4096}),
    ("info", "claimed", {"chunk": 12, "slices": 2}),
    ("warning", "peer dropped", {"peer": "12D3KooWcanned00000005", "reason": "sends what is not signed"}),
    ("error", "image not fetched", {"key": "attic/0007.jpg", "reason": "the host does not answer"}),
    ("info", "published", {"chunk": 12, "items": 64}),
)


def canned_screen(folder: Path) -> TerminalUI:
    """The app as the screens show it; `folder` gets the node's log. What views ask is answered here."""
    with NodePaths(folder).log.open("w", encoding="utf-8") as file:
        for number, (level, event, fields) in enumerate(LOG):
            record = {"level": level, "event": event, "timestamp": f"2026-11-23T12:00:{number:02}Z", **fields}
            file.write(json.dumps(record) + "\n")
    made = snapshot()
    node = msgspec.structs.replace(made.node, directory=str(folder))
    made = msgspec.structs.replace(made, node=node)
    return TerminalUI(ScreenFeed(*history(made), client=ScreenClient(made)), clock=lambda: NOW)


async def screen(name: str, size: tuple[int, int]) -> tuple[list[str], str]:
    """The screen's lines, and its picture."""
    with tempfile.TemporaryDirectory() as folder:
        ui = canned_screen(Path(folder))
        digits = {view.NAME: (view.DIGIT,) for view in VIEWS}
        async with ui.run_test(size=size) as pilot:
            await pilot.pause()
            for key in (*digits.get(name, ()), *KEYS.get(name, ())):
                await pilot.press(key)
                await settled(pilot) if name != "confirm" else await pilot.pause()
            picture = ui.export_screenshot(title=f"p2pcap tui: {name}")
            return shown(ui), picture


def text_file(name: str, size: tuple[int, int]) -> Path:
    """Where the text of a screen is."""
    return TEXTS / f"{name}-{size[0]}x{size[1]}.txt"


def picture_file(name: str) -> Path:
    """Where the picture of a screen is."""
    return PICTURES / f"{name}.svg"


async def write() -> None:
    """Write every text and picture."""
    TEXTS.mkdir(exist_ok=True)
    PICTURES.mkdir(exist_ok=True)
    for name in NAMES:
        for size in SIZES:
            lines, _ = await screen(name, size)
            text_file(name, size).write_text("\n".join(lines) + "\n", encoding="utf-8")
        _, picture = await screen(name, PICTURE)
        picture_file(name).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    time.tzset()
    asyncio.run(write())
    sys.stdout.write(f"wrote {TEXTS} and {PICTURES}\n")
