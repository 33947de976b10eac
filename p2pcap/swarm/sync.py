"""Anti-entropy: two peers find out how their sets of statements differ, and each gets what it lacks.

Gossip remembers a few seconds; this is how a late joiner, a healed partition and a lost message are made good. On every
connect, and with a random peer every `sync_every` seconds: exchange statuses; when the digests of the statement sets
differ, one side begins to reconcile, asks for the statements that it lacks and pushes those that the other lacks. On
connect the live claims are fetched as well.

Always holds: SESSIONS conversations are in work at most, each for SESSION_SECONDS at most, and with one frame, one page
of statements and the ids of one answer in memory; no two greetings with one peer are under way; statements go to the
node one page at a time for each peer, and each invalid one costs its sender standing; a peer of another project is
disconnected.
"""

import math
import random
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import structlog
import trio

from p2pcap.errors import CodecError, RequestFailed
from p2pcap.swarm import messages, peers
from p2pcap.swarm.counters import Counters
from p2pcap.swarm.messages import PUSH_BYTES, STATEMENTS_PAGE, Status
from p2pcap.swarm.service import Reconciliation, Service, Step

log = structlog.get_logger(__name__)

STIR = 64
"""Statements learned at once from which on a node asks the next peer without waiting: after a partition news travels in
rounds of seconds, each twice as far as the one before, although nobody gossips old statements."""

SESSIONS = 4
SESSION_SECONDS = 120.0
"""After so long a conversation is cut off, whatever it is at: a peer that answers each request just in time holds no
place for ever. A place is waited for just as long. What is left is for the next time."""
IDLE_SECONDS = 60.0
"""After so long without a statement got or taken a conversation is cut off as well: two answers, each just in time."""
PASS_OVER = 300.0
"""Seconds for which none is begun with a peer after one that came to nothing; it may begin one itself."""

STATUS_BYTES = 16 * 1024
MAX_FRAME = 64 * 1024
"""Bytes of a request or an answer that carries a frame of reconciliation or a push."""
RECONCILE_TOKEN_BYTES = 2 * 1024
"""Bytes of a frame of reconciliation for one token of its sender (`p2pcap.swarm.requests`). A hostile frame of 60 kB
takes 50 to 90 ms of the event loop to answer; at 50 tokens a second a peer gets fewer than two such a second."""
PUSHED_BYTES = 16
HEAD_BYTES = 4
"""Bytes that the encoding adds to an envelope, at most."""
STATEMENTS_BYTES = STATEMENTS_PAGE * (messages.MAX_ENVELOPE + 8)
CLAIMS_BYTES = 2 * 1024 * 1024

T = TypeVar("T")


class Asking(Protocol):
    """How peers are asked: `p2pcap.swarm.requests.Requests`, or a twin in memory."""

    async def ask(self, peer: str, name: str, request: Any, kind: type[T], limit: int) -> T:
        """The answer, a `kind` of at most `limit` bytes. Raises Unreachable or RequestFailed."""


class Sync:
    """The sync of one swarm with its peers.

    `blame(peer, penalty)` is told what is held against whom; `compared()` when all that a peer holds was compared.
    """

    def __init__(
        self,
        service: Service,
        requests: Asking,
        status: Callable[[], Status],
        blame: Callable[[str, float], None],
        counters: Counters | None = None,
        compared: Callable[[], None] = lambda: None,
    ) -> None:
        self._service = service
        self._requests = requests
        self._status = status
        self._blame = blame
        self._counters = counters or Counters()
        self._compared = compared
        self._sessions = trio.CapacityLimiter(SESSIONS)
        self._busy: set[str] = set()
        self._under_way: dict[str, _Session] = {}
        self._pass_over: dict[str, float] = {}
        self._receiving: dict[str, trio.Lock] = {}
        self._stirred = trio.Event()
        self._told: set[str] = set()

    async def pause(self, seconds: float) -> set[str]:
        """Wait until it is time to compare with another peer: `seconds`, or less when much was learned meanwhile.

        Returns the peers it was learned from, who need not be asked.
        """
        with trio.move_on_after(seconds):
            await self._stirred.wait()
        self._stirred, told, self._told = trio.Event(), self._told, set()
        return told

    async def exchange(self, peer: str) -> Status:
        """Tell `peer` our status, and return its. Raises SwarmError as `ask` does."""
        return await self._requests.ask(peer, "status", self._status(), Status, STATUS_BYTES)

    async def pull_claims(self, peer: str) -> None:
        """Fetch the claims that are live at `peer`. Raises as `exchange` does."""
        claims = await self._requests.ask(peer, "claims", messages.ClaimsRequest(), messages.Claims, CLAIMS_BYTES)
        if claims.envelopes:
            await self.take_in(peer, claims.envelopes)

    async def statements(self, peer: str, ids: Sequence[bytes]) -> list[bytes]:
        """Those of these envelopes, at most STATEMENTS_PAGE, that `peer` holds. Raises as `exchange` does."""
        request = messages.StatementsRequest(list(ids))
        answer = await self._requests.ask(peer, "statements", request, messages.Statements, STATEMENTS_BYTES)
        return answer.envelopes[: len(ids)]

    async def push(self, peer: str, envelopes: Sequence[bytes]) -> None:
        """Hand statements to `peer`, which keeps those that are valid. Raises as `exchange` does."""
        for page in _packed(envelopes):
            await self._push_page(peer, page)

    async def _push_page(self, peer: str, page: list[bytes]) -> None:
        await self._requests.ask(peer, "push", messages.PushRequest(page), messages.Pushed, PUSHED_BYTES)

    async def chain(self, peer: str, after: int) -> list[bytes]:
        """The first checkpoints with numbers above `after` that `peer` holds. Raises as `exchange` does."""
        request = messages.ChainRequest(after)
        return (await self._requests.ask(peer, "chain", request, messages.Statements, STATEMENTS_BYTES)).envelopes

    async def reconcile(self, peer: str, theirs: Status) -> None:
        """Get from `peer`, whose status is `theirs`, what is missing here, and send it what is missing there.

        Does nothing when the digests are equal, when `peer` holds nothing (it begins itself, once it can take in
        anything), while this is under way, or for a while after it came to nothing. What is not done after a bounded
        time and number of rounds is left to the next time, and so is everything when no place comes free. What the node
        first gets in bulk is not within that time and takes no place. Raises as `exchange` does, and RequestFailed when
        the peer did not keep to the rules.
        """
        if peer in self._busy or not theirs.count or self._pass_over.get(peer, 0.0) > trio.current_time():
            return
        if theirs.digest == self._service.status().digest:
            self._compared()
            return
        self._busy.add(peer)
        try:
            conversation = await self._service.reconciliation(peer)
            if conversation is not None:
                await self._in_place(peer, conversation)
        finally:
            self._busy.discard(peer)

    async def take_in(self, peer: str, envelopes: Sequence[bytes]) -> int:
        """Hand statements of `peer` to the node; returns how many were invalid, each of which is held against it."""
        lock = self._receiving.setdefault(peer, trio.Lock())
        try:
            async with lock:
                before = self._service.status().count
                rejected = await self._service.receive(envelopes, peer)
            if self._service.status().count >= before + STIR:
                self._told.add(peer)
                self._stirred.set()
        finally:
            if not lock.locked():
                self._receiving.pop(peer, None)
        if rejected:
            log.info("invalid_statements", peer=peer, rejected=rejected)
            self._blame(peer, min(rejected * peers.INVALID_MESSAGE, peers.BAN_AT))
        return rejected

    async def _in_place(self, peer: str, conversation: Reconciliation) -> None:
        with trio.move_on_after(SESSION_SECONDS) as wait:
            await self._sessions.acquire_on_behalf_of(peer)
        if wait.cancelled_caught:
            log.info("no_place_to_reconcile", peer=peer)
            self._counters.reconciliations["no_place"] += 1
            return
        session = self._under_way[peer] = _Session()
        outcome = "failed"
        try:
            with session.scope:
                await self._converse(peer, conversation)
                outcome = "done"
                self._compared()
            if session.scope.cancelled_caught:
                outcome = "cut_off"
                self._cut_off(peer, session)
        finally:
            del self._under_way[peer]
            self._sessions.release_on_behalf_of(peer)
            self._counters.reconciliations[outcome] += 1

    def _cut_off(self, peer: str, session: "_Session") -> None:
        """The time is over; a slow peer that something came of has done nothing wrong."""
        log.info("reconciliation_cut_off", peer=peer)
        if not session.useful:
            self._blame(peer, peers.BROKE_OFF)
            self._pass_over[peer] = trio.current_time() + PASS_OVER
            while len(self._pass_over) > peers.MAX_PEERS:
                del self._pass_over[next(iter(self._pass_over))]
            raise RequestFailed(f"Peer {peer} reconciled for {IDLE_SECONDS:g} s, and nothing came of it.")

    async def _converse(self, peer: str, conversation: Reconciliation) -> None:
        frame: bytes | None = conversation.first()
        while frame is not None:
            request = messages.ReconcileRequest(frame)
            answer = await self._requests.ask(peer, "reconcile", request, messages.Reconciled, MAX_FRAME)
            step = self._learn(peer, conversation, answer.frame)
            for page in _pages(await self._service.missing(step.need)):
                await self._fetch(peer, page)
            for page in _pages(step.have):
                await self._push(peer, page)
            frame = step.next

    def _learn(self, peer: str, conversation: Reconciliation, answer: bytes) -> Step:
        try:
            return conversation.take(answer)
        except CodecError as error:
            self._blame(peer, peers.BAD_FRAME)
            raise RequestFailed(f"Peer {peer} does not reconcile as it should: {error}") from error

    async def _fetch(self, peer: str, ids: Sequence[bytes]) -> None:
        envelopes = await self.statements(peer, ids)
        if not envelopes:
            self._blame(peer, peers.BROKE_OFF)
            raise RequestFailed(f"Peer {peer} listed statements that it does not hold.")
        if rejected := await self.take_in(peer, envelopes):
            raise RequestFailed(f"Peer {peer} handed over {rejected} statements that are not valid.")
        self._under_way[peer].came()

    async def _push(self, peer: str, ids: Sequence[bytes]) -> None:
        for envelopes in _packed(await self._service.statements(ids)):
            await self._push_page(peer, envelopes)
            self._under_way[peer].came()


class _Session:
    """One conversation under way: until when, and whether anything came of it."""

    def __init__(self) -> None:
        now = trio.current_time()
        self.useful = False
        self.scope = trio.CancelScope(deadline=now + IDLE_SECONDS)
        self._limit = now + SESSION_SECONDS

    def came(self) -> None:
        """A statement was got from the peer, or taken by it."""
        self.useful = True
        self.scope.deadline = min(self._limit, trio.current_time() + IDLE_SECONDS)


class Greetings:
    """Sees to it that no two greetings with one peer are under way. `greet(peer, begin)` is one; it may raise."""

    def __init__(self, greet: Callable[[str, bool], Awaitable[None]]) -> None:
        self._greet = greet
        self._next: dict[str, bool | None] = {}
        """For each peer that is being greeted, whether to begin when it is greeted again; None: it need not be."""

    def __contains__(self, peer: str) -> bool:
        return peer in self._next

    async def run(self, peer: str, begin: bool = True) -> None:
        """Greet `peer` now; while it is being greeted, once more after that, however often this is called."""
        if peer in self._next:
            self._next[peer] = begin or bool(self._next[peer])
            return
        again: bool | None = begin
        try:
            while again is not None:
                self._next[peer] = None
                await self._greet(peer, again)
                again = self._next[peer]
        finally:
            del self._next[peer]


def next_peer(
    candidates: Collection[str], asked_at: Mapping[str, float], outbound: Collection[str], rng: random.Random
) -> str | None:
    """Whom of the candidates to compare with next; None when there are none.

    Who was asked longest ago, or never, comes first; ties are broken by `rng`. Every other time it is one of the
    `outbound` peers, whom we chose ourselves: whoever connects to us in numbers gets half of the rounds at most. So n
    candidates are all asked within 2n rounds, and k outbound ones within 2k. `asked_at` is in seconds of any one clock.
    """
    order = sorted(candidates)
    rng.shuffle(order)
    order.sort(key=lambda peer: asked_at.get(peer, -math.inf))
    chosen_last = bool(asked_at) and max(asked_at, key=lambda peer: asked_at[peer]) in outbound
    turn = [peer for peer in order if (peer in outbound) != chosen_last]
    return next(iter(turn or order), None)


def _pages(ids: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (ids[start : start + STATEMENTS_PAGE] for start in range(0, len(ids), STATEMENTS_PAGE))


def _packed(envelopes: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The envelopes in pages of PUSH_BYTES at most."""
    page: list[bytes] = []
    room = PUSH_BYTES
    for envelope in envelopes:
        if room < len(envelope) + HEAD_BYTES:
            yield page
            page, room = [], PUSH_BYTES
        page.append(envelope)
        room -= len(envelope) + HEAD_BYTES
    if page:
        yield page
