"""Files of the Hub, by the addresses that its own clients use.

A big file's address redirects to one on a content network that is good for a while, an hour as a rule; it is remembered
until then, so that a range costs one request. The token goes to the Hub itself and never along with a redirect.

HF_ENDPOINT may name another Hub, a mirror in a private network too: that is the user's own choice, and is allowed to
what is read as a file of the Hub, never to what an address of the web leads to.
"""

import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote

import httpx2
import trio

from p2pcap.errors import ImageError, SourceDenied, SourceError
from p2pcap.sources.locations import HubFile
from p2pcap.sources.web.client import Answer, Client, origin, port_of
from p2pcap.sources.web.hosts import Busy

DEFAULT_ENDPOINT = "https://huggingface.co"
MOST_TARGETS = 1_024
MARGIN = 60.0
"""Seconds before its end from which an address is not used any more."""

UNKNOWN = 300.0
"""How long a redirect is remembered that does not say how long it is good for."""

LONGEST = 3_600.0

DENIED = (
    "The Hub does not let this machine read {repo}. Accept its terms on {page}, and set HF_TOKEN to a token of that "
    "account (hf auth login does it too)."
)


def endpoint() -> httpx2.URL:
    """The Hub that HF_ENDPOINT names. Raises SourceError when it names none."""
    named = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT
    try:
        url = httpx2.URL(named)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise SourceError("HF_ENDPOINT is no http or https address. Correct it, or unset it.")
    return url


def place_of(url: httpx2.URL) -> str:
    """Host and port, as `Guard` takes exceptions."""
    return f"[{url.host}]:{port_of(url)}" if ":" in url.host else f"{url.host}:{port_of(url)}"


def read_token() -> str | None:
    """The user's token: where huggingface_hub looks for it, then the older HUGGINGFACE_HUB_TOKEN. May ask the network,
    when a login is to be renewed. Raises SourceError when that fails."""
    import huggingface_hub

    try:
        token = huggingface_hub.get_token()
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceError("The login to the Hub cannot be renewed. Run hf auth login, or set HF_TOKEN.") from error
    return token or os.environ.get("HUGGINGFACE_HUB_TOKEN", "").strip() or None


class Hub:
    """Asks the Hub at `base` for files."""

    def __init__(self, client: Client, base: httpx2.URL, token: Callable[[], str | None] = read_token) -> None:
        self._client = client
        self._base = base
        self._token = token
        self._asked_token = False
        self._lock = trio.Lock()
        self._targets: OrderedDict[HubFile, tuple[str, float]] = OrderedDict()

    @asynccontextmanager
    async def get(
        self, file: HubFile, headers: Mapping[str, str], accept: Collection[int] = ()
    ) -> AsyncIterator[Answer]:
        """The answer for `file`. Raises SourceDenied for one that this machine may not read."""
        async with AsyncExitStack() as stack:
            answer = await self._at_target(stack, file, headers, accept)
            yield answer or await self._at_hub(stack, file, headers, accept)

    async def _at_target(
        self, stack: AsyncExitStack, file: HubFile, headers: Mapping[str, str], accept: Collection[int]
    ) -> Answer | None:
        target, until = self._targets.get(file, ("", 0.0))
        if until <= trio.current_time():
            return None
        self._targets.move_to_end(file)
        try:
            return await stack.enter_async_context(self._client.get(target, headers, accept=accept))
        except ImageError as error:
            if isinstance(error, Busy):
                raise
            self._targets.pop(file, None)  # whatever is wrong with it, the Hub may name another
            return None

    async def _at_hub(
        self, stack: AsyncExitStack, file: HubFile, headers: Mapping[str, str], accept: Collection[int]
    ) -> Answer:
        await self._log_in()
        try:
            answer = await stack.enter_async_context(self._client.get(self.url(file), headers, accept=accept))
        except ImageError as error:
            if error.code == "refused":
                raise SourceDenied(DENIED.format(repo=file.repo, page=self.page(file))) from error
            raise
        if answer.url != self.url(file):
            self._remember(file, httpx2.URL(answer.url))
        return answer

    async def _log_in(self) -> None:
        """Read the token, once: importing what reads it takes a while, and projects without the Hub need none."""
        async with self._lock:
            if self._asked_token:
                return
            token = await trio.to_thread.run_sync(self._token)
            self._asked_token = True
            if token is not None:
                self._client.secret = (origin(self._base), f"Bearer {token}")

    def _remember(self, file: HubFile, there: httpx2.URL) -> None:
        self._targets[file] = (str(there), trio.current_time() + good_for(there))
        self._targets.move_to_end(file)
        if len(self._targets) > MOST_TARGETS:
            self._targets.popitem(last=False)

    def url(self, file: HubFile) -> str:
        """Where the Hub has the file."""
        return f"{self.page(file)}/resolve/{file.revision}/{quote(file.path)}"

    def page(self, file: HubFile) -> str:
        """The repository's page."""
        return "/".join((str(self._base).rstrip("/"), *(("datasets",) if file.kind == "datasets" else ()), file.repo))


def good_for(url: httpx2.URL, now: datetime | None = None) -> float:
    """Seconds for which a signed address is good, by what its query says in the ways of CloudFront (`Expires`) and S3
    (`X-Amz-Date`, `X-Amz-Expires`); 0.0 when it is not any more."""
    query = parse_qs(url.query.decode("ascii", errors="replace"))
    now = now or datetime.now(UTC)
    try:
        if "Expires" in query:
            left = float(query["Expires"][0]) - now.timestamp()
        elif "X-Amz-Expires" in query:
            signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            left = float(query["X-Amz-Expires"][0]) - (now - signed).total_seconds()
        else:
            left = UNKNOWN
    except (KeyError, ValueError, OverflowError):
        left = UNKNOWN
    return max(0.0, min(left, LONGEST) - (MARGIN if left != UNKNOWN else 0.0))
