"""What peers may ask of this node, and how each request is answered out of its `Service`.

Always holds: a request was decoded and its sender's turn had come before it gets here; an answer is within the limits
of `p2pcap.swarm.messages`.
"""

from collections.abc import Callable
from typing import Any

from p2pcap.swarm import messages
from p2pcap.swarm.bandwidth import Line
from p2pcap.swarm.content import answer_content
from p2pcap.swarm.messages import Status
from p2pcap.swarm.requests import Requests, send
from p2pcap.swarm.service import KINDS, Service
from p2pcap.swarm.sync import MAX_FRAME, RECONCILE_TOKEN_BYTES, Sync


class Answers:
    """The answering side.

    `status()` is our own status now, `heard(peer, status)` is told a peer's, and content goes out over `up`.
    """

    def __init__(
        self,
        service: Service,
        sync: Sync,
        status: Callable[[], Status],
        heard: Callable[[str, Status], object],
        up: Line,
    ) -> None:
        self._service = service
        self._up = up
        self._sync = sync
        self._own_status = status
        self._heard = heard

    def serve(self, requests: Requests) -> None:
        """Answer from now on."""
        serve = requests.serve
        serve("status", Status, self._status)
        serve("reconcile", messages.ReconcileRequest, self._reconcile, MAX_FRAME, RECONCILE_TOKEN_BYTES)
        serve("statements", messages.StatementsRequest, self._statements)
        serve("push", messages.PushRequest, self._push, MAX_FRAME)
        serve("chain", messages.ChainRequest, self._chain)
        serve("claims", messages.ClaimsRequest, self._claims)
        for kind in KINDS:
            serve(kind, messages.ContentRequest, answer_content(self._service, kind, self._up))

    async def _status(self, peer: str, theirs: Status, stream: Any) -> None:
        await send(stream, self._own_status())
        self._heard(peer, theirs)

    async def _reconcile(self, peer: str, request: messages.ReconcileRequest, stream: Any) -> None:
        await send(stream, messages.Reconciled(self._service.reconcile(request.frame)))

    async def _statements(self, peer: str, request: messages.StatementsRequest, stream: Any) -> None:
        await send(stream, messages.Statements(await self._service.statements(request.ids)))

    async def _push(self, peer: str, request: messages.PushRequest, stream: Any) -> None:
        await self._sync.take_in(peer, request.envelopes)
        await send(stream, messages.Pushed())

    async def _chain(self, peer: str, request: messages.ChainRequest, stream: Any) -> None:
        await send(stream, messages.Statements(await self._service.chain(request.after)))

    async def _claims(self, peer: str, request: messages.ClaimsRequest, stream: Any) -> None:
        await send(stream, messages.Claims(self._service.claims()[: messages.CLAIMS_PAGE]))
