"""Anti-entropy: two peers compare what they hold, and each fetches what it lacks.

Gossip remembers a few seconds; this is how a late joiner, a healed partition and a lost message are made good. On every
connect, and with a random peer every `sync_every` seconds: exchange statuses; when the digests of the statement sets
differ, page through the other's ids and fetch the missing statements. On connect the live claims are fetched as well.

Always holds: one page of ids and one page of statements are in memory for each peer in work, PULLS at most at a time; a
peer of another project is disconnected.
"""

from collections.abc import Callable

import structlog
import trio

from p2pcap.errors import RequestFailed
from p2pcap.swarm import messages, peers
from p2pcap.swarm.messages import IDS_PAGE, STATEMENTS_PAGE, Status
from p2pcap.swarm.requests import Blame, Requests
from p2pcap.swarm.service import Service

log = structlog.get_logger(__name__)

PULLS = 2
MAX_PAGES = 4_096
"""Pages of ids taken from one peer in one go: 16 million statements."""
SLACK_PAGES = 2
"""A peer may hold a few more statements than its status said a moment ago."""

STATUS_BYTES = 16 * 1024
IDS_BYTES = 40 * IDS_PAGE
STATEMENTS_BYTES = STATEMENTS_PAGE * (messages.MAX_ENVELOPE + 8)
CLAIMS_BYTES = 2 * 1024 * 1024


class Sync:
    """The sync of one swarm with its peers."""

    def __init__(self, service: Service, requests: Requests, status: Callable[[], Status], blame: Blame) -> None:
        self._service = service
        self._requests = requests
        self._status = status
        self._blame = blame
        self._pulls = trio.CapacityLimiter(PULLS)
        self._busy: set[str] = set()

    async def exchange(self, peer: str) -> Status:
        """Tell `peer` our status, and return its. Raises SwarmError as `Requests.ask` does."""
        return await self._requests.ask(peer, "status", self._status(), Status, STATUS_BYTES)

    async def pull(self, peer: str, theirs: Status) -> None:
        """Fetch what `peer` holds and we lack; nothing when the digests agree or a pull from it is under way."""
        if peer in self._busy or theirs.digest == self._service.status().digest or not theirs.count:
            return
        self._busy.add(peer)
        try:
            async with self._pulls:
                await self._pull(peer, theirs)
        finally:
            self._busy.discard(peer)

    async def pull_claims(self, peer: str) -> None:
        """Fetch the claims that are live at `peer`."""
        claims = await self._requests.ask(peer, "claims", messages.ClaimsRequest(), messages.Claims, CLAIMS_BYTES)
        if claims.envelopes:
            await self._service.receive(claims.envelopes, peer)

    async def _pull(self, peer: str, theirs: Status) -> None:
        after = b""
        for _ in range(min(MAX_PAGES, theirs.count // IDS_PAGE + SLACK_PAGES)):
            page = await self._requests.ask(peer, "ids", messages.IdsRequest(after, IDS_PAGE), messages.Ids, IDS_BYTES)
            self._check(peer, after, page.ids)
            missing = await self._service.missing(page.ids)
            for start in range(0, len(missing), STATEMENTS_PAGE):
                await self._fetch(peer, missing[start : start + STATEMENTS_PAGE])
            if len(page.ids) < IDS_PAGE:
                return
            after = page.ids[-1]

    def _check(self, peer: str, after: bytes, ids: list[bytes]) -> None:
        if any(a >= b for a, b in zip([after, *ids], ids, strict=False)):
            self._blame(peer, peers.BAD_FRAME)
            raise RequestFailed(f"Peer {peer} listed its statements out of order.")

    async def _fetch(self, peer: str, ids: list[bytes]) -> None:
        request = messages.StatementsRequest(ids)
        answer = await self._requests.ask(peer, "statements", request, messages.Statements, STATEMENTS_BYTES)
        if not answer.envelopes:
            self._blame(peer, peers.BROKE_OFF)
            raise RequestFailed(f"Peer {peer} listed statements that it does not hold.")
        await self._service.receive(answer.envelopes[: len(ids)], peer)
