"""Five faults at random moments in one swarm that goes on talking, and the proof that nothing was lost.

One node is frozen for a minute, one is killed and comes back later, one is killed and comes back at once with the same
key, one joins late, and for a while a cut goes through the swarm; one node on each side has nothing else happen to it.

Settings are the product's own but for `sync_every`, which is 5 s and not 30 so that the test is short.
"""

import random
import signal
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from p2pcap.identity import Identity
from tests.hosts.record import Record, spread
from tests.swarm.child import Life
from tests.swarm.children import Child, child

SETTINGS = {"sync_every": 5.0}
SPEAK_EVERY = 0.6
"""Seconds between two statements of one node: ten a second from six."""
STATEMENT_BYTES = 400
FROZEN_SECONDS = 60.0
CUT_SECONDS = 40.0
"""Longer than it takes to find a silent peer: 15 s between two pings, and 15 s to wait for an answer."""
WHEN = {"freeze": (2, 8), "cut": (4, 12), "kill": (4, 35), "away": (5, 15), "restart": (4, 50), "join": (10, 45)}
"""The least and the most seconds that may pass until each; "away" is for how long the killed one is."""
REPAIR_SECONDS = 90.0
"""A guard against waiting for ever for what is lost for good."""

Cut = Callable[[Collection[str], Collection[str]], object]


@dataclass(eq=False)
class Member:
    """One node of the swarm, through all its lives. `transport` is where others dial it, `listen` where it listens."""

    name: str
    transport: str
    listen: str
    prefix: Sequence[str]
    folder: Path
    record: Record
    changes: dict[str, Any] = field(default_factory=dict)
    known: Sequence[str] = ()
    shunned: Sequence[str] = ()
    child: Child = field(init=False)
    alive: bool = False
    """It can be told something, and does it once it is there."""
    present: bool = False
    _gone: trio.Event = field(default_factory=trio.Event)

    @property
    def identity(self) -> Identity:
        """The same in each life."""
        return Identity.from_seed(self.name.encode().ljust(32, b"."))

    @property
    def address(self) -> str:
        """Where others dial it."""
        return f"{self.transport}/p2p/{self.identity.peer_id}"

    async def live(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """One life, from its start to its end, whoever ends it. It talks from the beginning."""
        journal = str(self.folder / self.name)
        seed = self.identity.seed.hex()
        life = Life(seed, [self.listen], self.known, SETTINGS | self.changes, journal, self.shunned)
        async with child(life, self.prefix, self._listen) as self.child:
            self.alive = True
            await self.child.says("at")
            await self.child.tell(f"speak {self.name} {SPEAK_EVERY} {STATEMENT_BYTES}")
            self.present = True
            task_status.started()
            await self.child.end()
        self.alive = self.present = False
        self._gone.set()

    async def kill(self) -> None:
        """End its life with kill -9."""
        self.alive = self.present = False
        self._gone = trio.Event()
        self.child.send(signal.SIGKILL)
        await self._gone.wait()

    def _listen(self, word: str, text: str) -> bool:
        if word == "got":
            self.record.note(self.name, text)
        return word in ("got", "heard", "lost", "opened", "closed")


class Trial:
    """Six members or more, of which the last joins late; what happens to the others, chance decides."""

    def __init__(
        self, members: Sequence[Member], record: Record, cut: Cut, heal: Callable[[], object], seed: int
    ) -> None:
        self._members = members
        self._record = record
        self._cut = cut
        self._heal = heal
        self._random = random.Random(seed)
        self._caught_up: dict[str, Callable[[], float]] = {}
        self._heard: dict[str, Callable[[], float]] = {}
        self._parted = False
        self._lives: trio.Nursery
        *early, self._late = members
        self._frozen, self._killed, self._restarted, *rest = self._random.sample(early, len(early))
        others = self._random.sample([self._frozen, self._killed, self._restarted, self._late], 4)
        self._calm = rest
        self._times = {what: round(self._random.uniform(*span), 3) for what, span in WHEN.items()}
        self._sides = [rest[0], *others[:2]], [*rest[1:], *others[2:]]

    async def run(self) -> dict[str, object]:
        """Everything; what it took. Fails when a statement is missing anywhere."""
        async with trio.open_nursery() as self._lives:
            async with trio.open_nursery() as starting:
                for member in self._members[:-1]:
                    starting.start_soon(self._lives.start, member.live)
            async with trio.open_nursery() as faults:
                for fault in (self._freeze, self._kill, self._restart, self._part, self._join):
                    faults.start_soon(fault)
            await self._all_equal()
            for member in self._members:
                await member.child.tell("quit")
        return self._report()

    async def _all_equal(self) -> None:
        for member in self._members:
            await member.child.ask("hush", "hushed")
        with trio.move_on_after(REPAIR_SECONDS) as scope:
            await self._record.everywhere(len(self._members))
        assert not scope.cancelled_caught, f"lost: {self._record.missing(_names(self._members))}"
        held = {await member.child.ask("holds", "holds") for member in self._members}
        assert {text.split()[0] for text in held} == {str(len(self._record.arrivals))}
        assert len(held) == 1, f"not equal: {held}"

    async def _freeze(self) -> None:
        await trio.sleep(self._times["freeze"])
        self._frozen.child.send(signal.SIGSTOP)
        await trio.sleep(FROZEN_SECONDS)
        self._frozen.child.send(signal.SIGCONT)
        self._watch("thawed", [self._frozen])

    async def _kill(self) -> None:
        await trio.sleep(self._times["kill"])
        await self._killed.kill()
        await trio.sleep(self._times["away"])
        self._watch("back", [self._killed])
        self._listen("back", self._killed)
        await self._lives.start(self._killed.live)

    async def _restart(self) -> None:
        await trio.sleep(self._times["restart"])
        await self._restarted.kill()
        self._listen("restarted", self._restarted)
        await self._lives.start(self._restarted.live)

    async def _join(self) -> None:
        await trio.sleep(self._times["join"])
        self._watch("joined", [self._late])
        self._listen("joined", self._late)
        await self._lives.start(self._late.live)

    async def _part(self) -> None:
        await trio.sleep(self._times["cut"])
        left, right = self._sides
        self._cut(_names(left), _names(right))
        self._parted = True
        await trio.sleep(CUT_SECONDS)
        self._heal()
        self._parted = False
        self._watch("healed", [member for member in self._members if member.present and member is not self._frozen])

    def _watch(self, what: str, members: Sequence[Member]) -> None:
        """Report how long after this moment these members held all that then was at a calm member they could hear."""
        names, sources, moment = _names(members), self._sources(members), time.monotonic()
        self._caught_up[what] = lambda: round(self._record.caught_up(names, sources, moment), 3)

    def _listen(self, what: str, member: Member) -> None:
        """Report how long after this moment a calm member that can hear this one had something new of it."""
        sources, moment = self._sources([member]), time.monotonic()
        self._heard[what] = lambda: round(self._record.heard(member.name, sources, moment), 3)

    def _sources(self, members: Sequence[Member]) -> set[str]:
        heard = [side for side in self._sides if self._parted and set(members) & set(side)] or self._sides
        return {member.name for side in heard for member in side if member in self._calm}

    def _report(self) -> dict[str, object]:
        roles = {"frozen": self._frozen, "killed": self._killed, "restarted": self._restarted, "late": self._late}
        return {
            "statements": len(self._record.arrivals),
            "hosts": len(self._members),
            "seconds_to_a_calm_host_of_the_same_side": spread(self._calm_deliveries()),
            "seconds_to_one_host": spread(self._record.deliveries(_names(self._members), _names(self._members))),
            "seconds_to_last_host": spread(self._record.last_deliveries()),
            "caught_up_seconds_after": {what: seconds() for what, seconds in sorted(self._caught_up.items())},
            "heard_seconds_after": {what: seconds() for what, seconds in sorted(self._heard.items())},
            "times": self._times,
            "roles": {role: member.name for role, member in roles.items()},
            "sides": ["".join(sorted(_names(side))) for side in self._sides],
        }

    def _calm_deliveries(self) -> list[float]:
        return [
            seconds
            for side in self._sides
            for seconds in self._record.deliveries(_names(side), _names(set(side) & set(self._calm)))
        ]


def _names(members: Iterable[Member]) -> set[str]:
    return {member.name for member in members}
