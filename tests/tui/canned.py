"""Snapshots as a node would send them, and a feed that gives them: what the screens' tests look at."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec
from textual.message import Message
from textual.pilot import Pilot

from p2pcap.node.client import Client
from p2pcap.node.snapshot import (
    ClaimInfo,
    ContributorInfo,
    EngineInfo,
    EngineUnit,
    FetchInfo,
    NetworkInfo,
    NodeInfo,
    NodeSnapshot,
    PeerInfo,
    ProjectInfo,
    StageInfo,
    StandingInfo,
    StoreInfo,
)
from p2pcap_tui.app import TerminalUI
from p2pcap_tui.feed import Arrived, Found

T = TypeVar("T")

NOW = 1_790_000_000.0
HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]mallory[/] $error \u202eyx"
"""A name that would clear the screen, set the window's title, be bold, and turn the text that follows."""


def peer_id(number: int) -> str:
    return f"12D3KooWcanned{number:08d}"


def peer(number: int, **changes: Any) -> PeerInfo:
    made = PeerInfo(
        peer_id=peer_id(number),
        address=f"/ip4/192.0.2.{number % 256}/tcp/{4000 + number}",
        name=f"peer {number}",
        role="volunteer" if number % 5 else "observer",
        engine_ready=bool(number % 3),
        since=NOW - 60 * number - 5,
        rtt=None if number % 7 == 6 else 0.01 * (number % 40 + 1),
        direction="in" if number % 2 else "out",
        relayed=number % 4 == 3,
        score=-1.5 if number == 5 else 0.0,
        sent=1_000 * number * number,
        received=3_000 * number,
    )
    return msgspec.structs.replace(made, **changes)


def contributor(number: int, **changes: Any) -> ContributorInfo:
    rows = 100_000 // (number + 1)
    standing = StandingInfo(rows, rows // 10, rows // 10 - number % 3, number % 3, 0, rows - rows // 10, number % 3)
    made = ContributorInfo(peer_id(number), f"person {number}" if number % 4 else "", rows, number, standing)
    return msgspec.structs.replace(made, **changes)


def snapshot(peers: int = 14, contributors: int = 8, **changes: Any) -> NodeSnapshot:
    """A volunteer of a large project, at work."""
    made = NodeSnapshot(
        published=NOW,
        node=NodeInfo(
            peer_id(0), "attic-3090", "volunteer", "0.1.0", 4711, NOW - 273_845, "/home/ada/p2pcap", state="working"
        ),
        project=ProjectInfo(
            title="Shapes",
            id="ab" * 32,
            manifest=7,
            signed_by=peer_id(1),
            model="tiny-vl",
            prompts=("describe", "objects"),
            images=5_000_000,
            chunks=5_000,
            done=1_921_004,
            wanted=5_000_000,
            chunks_done=1_920,
            captions=1_920_794,
            errors=210,
            held=1_921_004,
            checkpoint=12,
            sealed=30_211,
            stages=(StageInfo("describe", "tiny-vl", ("describe", "objects"), 1_921_004, audited=True),),
        ),
        engine=EngineInfo(
            phase="captioning",
            device="RTX 3090",
            rate=3.2,
            average=2.9,
            in_flight=64,
            tokens=812.0,
            running=48,
            waiting=16,
            kv=0.41,
            units=(
                EngineUnit("GPU 0", "captioning", "", "RTX 3090", 3.2, 812.0, 64, 48, 16, 0.41, 0, 312, 350, 68, 0.97),
            ),
        ),
        engines_ready=41,
        peers=tuple(peer(number) for number in range(1, peers + 1)),
        claims=(ClaimInfo(12, 612, 1_000, 1_085.0),),
        contributors=tuple(contributor(number) for number in range(contributors)),
        fetch=FetchInfo(1_204, 512_000_000),
        network=NetworkInfo(
            reachability="private",
            reached=("relay",),
            relays=(peer_id(3), peer_id(4)),
            incoming=5,
            outgoing=9,
            sent=1_500_000,
            received=12_000_000,
            known=40,
            synced=NOW - 20,
        ),
        store=StoreInfo("full", 30_211, 0, int(NOW), 0, 41_000_000),
        standing=StandingInfo(41_210, 4_000, 3_990, 4, 6, 37_210, 2),
        connected=peers,
        contributing=contributors,
    )
    return msgspec.structs.replace(made, **changes)


def history(last: NodeSnapshot, seconds: int = 48) -> list[NodeSnapshot]:
    """The snapshots before it and it, one a second."""
    before = []
    for back in range(seconds, 0, -1):
        engine = msgspec.structs.replace(last.engine, rate=2.4 + (back * 7 % 11) / 10)
        project = msgspec.structs.replace(last.project, done=last.project.done - 118 * back - 40 * (back % 5))
        before.append(msgspec.structs.replace(last, published=last.published - back, engine=engine, project=project))
    return [*before, last]


class CannedClient:
    """What screens ask a node, answered out of a snapshot. `told` is what it was told to do."""

    def __init__(self, of: NodeSnapshot) -> None:
        self.of = of
        self.told: list[str] = []
        self.pages: list[tuple[str, str, bool, str]] = []
        """Which pages were asked for: of, sort, down, sought."""

    def page(self, of: str, *, sort: str = "", down: bool = False, sought: str = "", most: int = 500) -> bytes:
        self.pages.append((of, sort, down, sought))
        every: Sequence[PeerInfo | ContributorInfo] = self.of.peers if of == "peers" else self.of.contributors
        rows = [one for one in every if sought.casefold() in f"{one.name} {one.peer_id}".casefold()]
        if sort in ("name", "rows", "errors", "sent"):
            rows.sort(key=lambda one: getattr(one, sort), reverse=down)
        return msgspec.json.encode({"total": len(every), "matching": len(rows), "rows": rows[:most]})

    def pause(self, seconds: float | None = None) -> float | None:
        self.told.append(f"pause {seconds}")
        return None if seconds is None else NOW + seconds

    def resume(self) -> str:
        self.told.append("resume")
        return ""

    def finish(self) -> None:
        self.told.append("finish")

    def stop(self) -> int:
        self.told.append("stop")
        return 4711


class CannedFeed:
    """A feed without a node. `client` answers what is asked; `rows` is what every SELECT finds."""

    def __init__(self, *snapshots: NodeSnapshot, client: object = None, rows: Found | None = None) -> None:
        self.snapshots: Sequence[NodeSnapshot] = snapshots
        self.client = client if client is not None else CannedClient(snapshots[-1])
        self.rows = rows or Found([], [], False)
        self.asked: list[str] = []
        """The SELECTs, in order."""
        self.post: Callable[[Message], object] = lambda message: None

    def start(self, post: Callable[[Message], object]) -> None:
        self.post = post
        for one in self.snapshots:
            post(Arrived(one))

    def stop(self) -> None:
        pass

    async def ask(self, question: Callable[[Client], T]) -> T:
        return question(cast(Client, self.client))

    async def select(self, sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        self.asked.append(sql)
        return self.rows


def canned_ui(*snapshots: NodeSnapshot, client: object = None, rows: Found | None = None) -> TerminalUI:
    """The app on `snapshots` (one of its own when there are none), at a time that stands still."""
    return TerminalUI(CannedFeed(*(snapshots or (snapshot(),)), client=client, rows=rows), clock=lambda: NOW)


def feed_of(ui: TerminalUI) -> CannedFeed:
    """The feed of `canned_ui`."""
    return cast(CannedFeed, ui.feed)


def client_of(ui: TerminalUI) -> CannedClient:
    """The client of `canned_ui`, unless it was given another one."""
    return cast(CannedClient, feed_of(ui).client)


async def settled(pilot: Pilot[None]) -> None:
    """Once every question is answered and drawn."""
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def press(pilot: Pilot[None], *keys: str) -> str:
    """What is on the screen after these keys, once every question is answered: theirs, and those that answers raise."""
    await pilot.press(*keys)
    await settled(pilot)
    await settled(pilot)
    assert isinstance(pilot.app, TerminalUI)
    return "\n".join(shown(pilot.app))


def piloted(ui: TerminalUI, use: Callable[[Pilot[None]], Awaitable[None]], size: tuple[int, int] = (80, 24)) -> None:
    """Run the app without a terminal, and `use` its pilot once the first snapshot is on the screen."""

    async def run() -> None:
        async with ui.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            await use(pilot)

    asyncio.run(run())


def shown(ui: TerminalUI) -> list[str]:
    """The lines on the screen."""
    strips = ui.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]
