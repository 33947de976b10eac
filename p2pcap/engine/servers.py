"""The servers that questions go to: which of them are well, and what becomes of a question that one of them fails.

A question goes on to another server, or to the same one later, until it has an answer. Only what a server refuses while
it takes the same question about another picture is the image's own fault; and a question under which servers failed
TRIES times ends the engine, so that the node can find out which image it is by asking for fewer at a time.

Always holds: an image is never blamed for a server that is gone, busy, badly set up or out of order; and what a server
says goes into the engine's log and no further into an error row, which is signed, than that it refuses.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from p2pcap.engine import chat
from p2pcap.engine.chat import PLAIN, Dialect, Said
from p2pcap.engine.dispatch import Dispatch
from p2pcap.engine.endpoints import PATH
from p2pcap.engine.exchange import Exchange, Reply, Unanswered
from p2pcap.engine.pacing import Pace, quiet_asked, verdict
from p2pcap.engine.probing import probe
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError
from p2pcap.project.task import Task

TRIES = 4
"""Failures under one question: broken connections, answers that are none, and time-outs."""

PATIENCE = 300.0
"""Seconds without an answer from any server after which the engine ends. A large model is started anew within it."""

TICK = 0.5
"""Seconds between two looks at what time has brought."""

_log = logging.getLogger(__name__)
_Write = Callable[[Dialect], Mapping[str, Any]]
"""The body of a question in a server's own dialect."""


@dataclass
class Server:
    """One server. `looked` is when the last look at it began, and `well` what came of it; `fault` is what keeps it from
    working for us, and `said` was logged last."""

    exchange: Exchange
    pace: Pace
    dialect: Dialect = PLAIN
    looked: float = float("-inf")
    well: bool = False
    fault: ModelError | EngineStartError | None = None
    said: str = ""
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        """Its address."""
        return self.exchange.endpoint.name

    def say(self, text: str) -> None:
        """A line in the engine's log, unless it is the last one again."""
        if text != self.said:
            _log.warning("%s %s", self.name, text)
        self.said = text


@dataclass(frozen=True)
class _Refused:
    """A server refuses this question and takes others."""


@dataclass(frozen=True)
class _Failed:
    """No answer. `counts`: the question may be the cause."""

    reason: str
    counts: bool


class Servers:
    """The servers of one engine, for a task that may change. Used on one event loop."""

    def __init__(self, exchanges: Sequence[Exchange], most: int, model: str, task: Task, patience: float) -> None:
        """`most`: questions at one time for each server."""
        self.task = task
        self.read = self.made = 0
        self._model = model
        self._patience = patience
        self._servers = [Server(exchange, Pace(most)) for exchange in exchanges]
        self._dispatch = Dispatch([server.pace for server in self._servers])
        self._looks: set[asyncio.Task[bool]] = set()
        self._tending: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Questions on their way."""
        return sum(server.pace.busy for server in self._servers)

    @property
    def waiting(self) -> int:
        """Questions without a place."""
        return self._dispatch.waiting

    @property
    def notice(self) -> str:
        """One line about a server that does not work now; "" when all do."""
        unwell = (one for one in self._servers if one.pace.unwell_since is not None and one.said)
        return next((f"{one.name} {one.said}." for one in unwell), "")

    async def open(self, patience: float) -> None:
        """Looks at each server; one of them at least has to work within `patience` seconds, in which those that do not
        are looked at anew after each rest. The others may come later.

        Raises EngineStartError; where nothing is waited for, also ModelError. With patience the servers have worked
        before, so that even one with another model now may be a passing state and not the end.
        """
        end = _now() + patience
        while not await self._greet():
            if _now() >= end:
                raise self._none_works(again=patience > 0)
            await asyncio.sleep(min(TICK, max(0.0, end - _now())))
        self._tending = asyncio.get_running_loop().create_task(self._tend())

    def _none_works(self, again: bool) -> ModelError | EngineStartError:
        """What is to be mended first, one sentence."""
        faults = [server.fault for server in self._servers if server.fault is not None]
        if faults:
            return EngineStartError(str(faults[0])) if again else faults[0]
        first = self._servers[0]
        return EngineStartError(f"{first.name} {first.said}. Start the server, or correct the address.")

    async def close(self) -> None:
        """Ends what is under way, and closes all connections."""
        work = [*self._looks, *([self._tending] if self._tending else [])]
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        self._dispatch.close()
        for server in self._servers:
            await server.exchange.close()

    def check(self) -> None:
        """Raises EngineDied when no server has answered for long."""
        since = [server.pace.unwell_since for server in self._servers]
        if all(begun is not None and _now() - begun > self._patience for begun in since):
            raise EngineDied(f"No server has answered for {self._patience:.0f} s. {self.notice}")

    def turn_to(self, task: Task) -> None:
        """Questions are of `task` from now on. Servers are looked at anew when it needs more of them than the one
        before."""
        more = chat.needs(task) - chat.needs(self.task)
        self.task = task
        for server in self._servers if more else ():
            server.pace.resting = True

    async def ask(self, write: _Write, most: int) -> Said:
        """The answer to a question of `most` tokens. Raises ImageError when the servers refuse just this question,
        EngineDied when they fail under it or are all gone."""
        refused: set[int] = set()
        failures = 0
        while True:
            self.check()
            if refused and all(number in refused or server.pace.resting for number, server in enumerate(self._servers)):
                raise ImageError("rejected", "The server refuses the image.")
            async with self._dispatch.place(frozenset(refused)) as number:
                outcome = await self._one(self._servers[number], write, most)
            match outcome:
                case Said():
                    return outcome
                case _Refused():
                    refused.add(number)
                case _Failed(reason, counts):
                    failures += counts
                    if failures >= TRIES:
                        raise EngineDied(f"Servers failed {TRIES} times under one question: {reason}.")

    async def _one(self, server: Server, write: _Write, most: int) -> Said | _Refused | _Failed:
        """One try."""
        begun = _now()
        try:
            reply = await server.exchange.ask(PATH, write(server.dialect))
        except Unanswered as error:
            server.pace.failed(begun, _now(), error.slow)
            server.say(str(error))
            return _Failed(f"{server.name} {error}", counts=error.sent)
        match verdict(reply.status):
            case "answer":
                return self._answer(server, reply, begun, most)
            case "image":
                return await self._refusal(server, reply)
            case "busy":
                server.pace.told(reply.headers, 0, _now())
                server.pace.refused(begun, _now(), quiet_asked(reply.headers, datetime.now(UTC)))
            case "unfit":
                server.pace.unfit(_now())
            case "away" | "fault":
                server.pace.failed(begun, _now())
        server.say(f"answers with status {reply.status}")
        return _Failed(f"{server.name} answers with status {reply.status}", verdict(reply.status) == "fault")

    def _answer(self, server: Server, reply: Reply, begun: float, most: int) -> Said | _Failed:
        try:
            said = chat.read(reply.body, most)
        except ValueError as error:
            server.pace.failed(begun, _now())
            server.say(f"answers with {error}")
            return _Failed(f"{server.name} answers with {error}", counts=True)
        server.pace.answered(_now() - begun)
        server.pace.told(reply.headers, said.read + said.made, _now())
        server.said = ""
        self.read += said.read
        self.made += said.made
        return said

    async def _refusal(self, server: Server, reply: Reply) -> _Refused | _Failed:
        """A question is refused: for the image, if the server still takes the same about another picture."""
        reason = chat.complaint(server.exchange.endpoint.cleaned(reply.body)) or f"status {reply.status}"
        if await self._is_well(server, _now()):
            _log.warning("%s refuses an image: %s", server.name, reason)
            return _Refused()
        return _Failed(f"{server.name} answers with status {reply.status}", counts=False)

    async def _is_well(self, server: Server, since: float) -> bool:
        """Whether the server was found well by a look that began at `since` or later."""
        async with server.looking:
            if server.looked < since:
                server.looked, server.well = _now(), False
                server.well = await self._look(server)
            return server.well

    async def _look(self, server: Server) -> bool:
        """Looks at a server and lets it rest, or go on."""
        begun = _now()
        server.fault = None
        try:
            server.dialect = await probe(server.exchange, self.task, self._model)
        except Unanswered as error:
            server.say(str(error))
            if error.after is not None:
                server.pace.refused(begun, _now(), error.after)
            else:
                server.pace.failed(begun, _now(), error.slow)
            return False
        except (ModelError, EngineStartError) as error:
            server.fault = error
            server.say(str(error).removeprefix(f"{server.name} ").removesuffix("."))
            server.pace.unfit(_now())
            return False
        server.pace.answered()
        if server.said:
            server.say("answers again")
            server.said = ""
        return True

    async def _greet(self) -> bool:
        """Looks at the servers that do not rest; whether one of them works."""
        now = _now()
        looks = (self._is_well(server, now) for server in self._servers if server.pace.ready(now) <= now)
        return any(await asyncio.gather(*looks))

    async def _tend(self) -> None:
        """Looks at those that have rested, and ends the waiting when nobody answers any more."""
        while True:
            await asyncio.sleep(TICK)
            now = _now()
            for server in self._servers:
                if server.pace.resting and server.pace.ready(now) <= now and not server.looking.locked():
                    self._begin_look(server, now)
            try:
                self.check()
            except EngineDied as error:
                self._dispatch.give_up(error)

    def _begin_look(self, server: Server, now: float) -> None:
        look = asyncio.get_running_loop().create_task(self._is_well(server, now))
        self._looks.add(look)
        look.add_done_callback(self._looked)

    def _looked(self, look: "asyncio.Task[bool]") -> None:
        self._looks.discard(look)
        if not look.cancelled():
            look.result()  # a defect shows in the log
        self._dispatch.admit()


def _now() -> float:
    return asyncio.get_running_loop().time()
