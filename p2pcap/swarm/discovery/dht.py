"""Finding a project when every address one had is dead: a hash table that the nodes of all projects share.

Each node that serves it keeps, for some keys, which nodes said that they provide them; the key of a project is made of
its id. So a joiner that reaches any node of any project gets to its own. libp2p's KadDHT is not used: it keeps whatever
providers it is told (30 messages took 340 MB, measured with 0.8.1), and twelve streams that say nothing shut it to
everybody. The messages are libp2p's, the protocol's name is our own, so ours is apart from the public one.

Always holds: a question costs one stream, MAX_MESSAGE bytes and QUESTION_SECONDS at most, on both sides; what is kept
for others is bounded (`providers`, `kademlia`), and so are those who come for it (`guests`).
"""

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.utils.varint import encode_varint_prefixed

from p2pcap.errors import FrameError, RequestFailed, Unreachable
from p2pcap.swarm.addresses import Endpoint, parse_endpoints
from p2pcap.swarm.discovery.guests import Guests
from p2pcap.swarm.discovery.kad_messages import (
    ADD_PROVIDER,
    FIND_NODE,
    GET_PROVIDERS,
    MAX_MESSAGE,
    PING,
    Answer,
    Question,
    read_answer,
    read_question,
    write_answer,
    write_question,
)
from p2pcap.swarm.discovery.kademlia import BUCKET, Contact, Table, contact_at, place, tellable
from p2pcap.swarm.discovery.lookup import Lookup
from p2pcap.swarm.discovery.names import dial_each
from p2pcap.swarm.discovery.providers import Providers
from p2pcap.swarm.frames import FrameReader
from p2pcap.swarm.host import Host, remote_address
from p2pcap.swarm.lifetimes import while_connected
from p2pcap.swarm.peers import BAD_FRAME
from p2pcap.swarm.places import Places
from p2pcap.swarm.rates import TokenBucket
from p2pcap.swarm.trimming import NETWORK, shared

PROTOCOL = "/p2pcap/kad/1.0.0"
QUESTION_SECONDS = 8.0
REACH_SECONDS = 5.0
PER_PEER, MORE = 2, 16
ANSWERS_PER_SECOND = 50.0
ASKING = 6
"""Questions of ours at one time, and dials for them."""
MAX_ENTRIES = 32
REFRESH_SECONDS = 600.0
PROVIDE_SECONDS = 3_600.0
SEEK_AFTER = 5.0
SEEK_AT_MOST = 600.0
"""Between two searches for our project while nobody of it is connected; doubles from SEEK_AFTER."""
SEEK_SECONDS = 1_800.0
"""The same while somebody is: whoever was separated finds the others again."""

log = structlog.get_logger(__name__)

Hear = Callable[[str, Sequence[Endpoint]], None]
Reach = Callable[[Endpoint], Awaitable[None]]
TELLER = "the hash table"


def key_of(project: bytes) -> bytes:
    """Under which key the nodes of a project are found."""
    return hashlib.sha256(b"p2pcap/project/1\0" + project).digest()


class Dht:
    """One node of the hash table.

    `own` gives this node's addresses as text that ends in /p2p/ and its id; `reach` opens a connection (raises
    Unreachable), `close` closes those with a peer; what is found of the project goes to `hear`; `lonely` says whether
    nobody of the project is connected; `blame` holds a broken message against its sender.
    """

    def __init__(
        self,
        host: Host,
        project: bytes,
        own: Callable[[], Sequence[str]],
        reach: Reach,
        close: Callable[[str], Awaitable[None]],
        hear: Hear,
        lonely: Callable[[], bool],
        blame: Callable[[str, float], None],
    ) -> None:
        self._host = host
        self._key = key_of(project)
        self._own_id = str(host.get_id())
        self._own_key: bytes = host.get_id().to_bytes()
        self._own = own
        self._reach = reach
        self._hear = hear
        self._lonely = lonely
        self._blame = blame
        self._table = Table(self._own_id)
        self._providers = Providers(self._table.place)
        self._entries: dict[Endpoint, None] = {}
        self.guests = Guests(self._connected, close)
        self._places = Places(PER_PEER, MORE)
        self._dials = Places(each=1, more=0)
        self._rate = TokenBucket(ANSWERS_PER_SECOND, 2 * ANSWERS_PER_SECOND)
        self._asking = trio.CapacityLimiter(ASKING)
        self._news = trio.Event()

    @property
    def state(self) -> str:
        """One line for people."""
        return f"{len(self._table)} nodes known, {len(self._providers)} records kept for others"

    def serve(self) -> None:
        """Answer others from now on."""
        self._host.set_stream_handler(PROTOCOL, self._handle)

    def enter(self, endpoints: Sequence[Endpoint]) -> None:
        """Nodes to begin with, of whatever project; at most MAX_ENTRIES are kept."""
        for endpoint in endpoints:
            if endpoint.peer != self._own_id and endpoint.relay is None and len(self._entries) < MAX_ENTRIES:
                self._entries[endpoint] = None
        self._wake()

    async def run(self) -> None:
        """Enter the table, say where we are, and look for our project, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.guests.run)
            nursery.start_soon(self._refresh)
            nursery.start_soon(self._seek)

    # what we ask

    async def find(self, key: bytes) -> Lookup:
        """Search for a key's providers, and the nodes that should know them."""
        return await self._lookup(key, GET_PROVIDERS)

    async def provide(self) -> int:
        """Say at the nodes nearest to our project's key that we take part; returns how many took it."""
        us = contact_at(self._own_id, self._own_endpoints(), relayed=True)
        if us is None:
            return 0
        lookup = await self._lookup(self._key, FIND_NODE)
        question = Question(ADD_PROVIDER, self._key, self._sender(), us)
        told = [await self._try(node, question) for node in lookup.closest]
        return sum(told)

    async def _try(self, node: Contact, question: Question) -> bool:
        try:
            await self._ask(node, question)
        except (Unreachable, RequestFailed) as error:
            log.debug("node_failed", peer=node.peer, error=str(error))
            return False
        return True

    async def _lookup(self, key: bytes, kind: int) -> Lookup:
        question = Question(kind, key, self._sender())
        start = [*self._table.nearest(place(key)), *self._entry_contacts()]

        async def ask(node: Contact) -> Answer:
            return await self._ask(node, question)

        lookup = Lookup(place(key), self._own_id, start, ask)
        await lookup.run()
        return lookup

    def _entry_contacts(self) -> list[Contact]:
        peers = dict.fromkeys(endpoint.peer for endpoint in self._entries)
        found = (contact_at(peer, self._entries) for peer in peers)
        return [one for one in found if one is not None]

    def _own_endpoints(self) -> list[Endpoint]:
        return tellable(parse_endpoints(self._own()))

    def _sender(self) -> Contact | None:
        """Where others can ask us; None when nobody can dial us."""
        return contact_at(self._own_id, self._own_endpoints())

    async def _ask(self, node: Contact, question: Question) -> Answer:
        """One question to one node, dialled if need be. Raises Unreachable or RequestFailed."""
        try:
            async with self.guests.asking(node.peer), self._asking:
                dialled = await self._connect(node)
                answer = await self._exchange(node.peer, question)
        except (Unreachable, RequestFailed):
            self._table.failed(node.peer)
            raise
        else:
            self._table.heard(node, trio.current_time(), proven=dialled)
            return answer
        finally:
            self._wake()

    async def _connect(self, node: Contact) -> bool:
        """Whether it had to be dialled. Raises Unreachable."""

        async def dial(transport: str) -> None:
            await self._reach(Endpoint(transport, node.peer))

        async with self._dials.place(node.peer):
            if self._connected(node.peer):
                return False
            await dial_each(node.transports, dial, REACH_SECONDS)
            self.guests.dialled(node.peer)
            return True

    def _connected(self, peer: str) -> bool:
        return bool(self._host.get_network().get_connections(ID.from_string(peer)))

    async def _exchange(self, peer: str, question: Question) -> Answer:
        try:
            with trio.fail_after(QUESTION_SECONDS):
                stream = await self._host.new_stream(ID.from_string(peer), [PROTOCOL])
                try:
                    await stream.write(encode_varint_prefixed(write_question(question)))
                    data = await FrameReader(stream).read_delimited(MAX_MESSAGE, QUESTION_SECONDS)
                    return read_answer(data, question.kind)
                finally:
                    await _let_go(stream)
        except FrameError as error:
            self._blame(peer, BAD_FRAME)
            raise RequestFailed(f"Node {peer} answered with something else: {error}") from error
        except (BaseLibp2pError, ValueError, trio.TooSlowError) as error:
            raise RequestFailed(f"Node {peer} of the hash table does not answer: {error!r}.") from error

    # what others ask

    async def _handle(self, stream: Any) -> None:
        async with while_connected(stream):
            await self._serve_question(stream)

    async def _serve_question(self, stream: Any) -> None:
        peer = str(stream.muxed_conn.peer_id)
        try:
            with trio.fail_after(QUESTION_SECONDS):
                async with self._places.place(peer):
                    data = await FrameReader(stream).read_delimited(MAX_MESSAGE, QUESTION_SECONDS)
                    question = read_question(data, peer)
                    await self._rate.take()
                    answer = self._answer(peer, question, _network(stream))
                    await stream.write(encode_varint_prefixed(write_answer(question.kind, answer)))
                    await stream.close()
        except FrameError as error:
            log.info("bad_question", peer=peer, error=str(error))
            self._blame(peer, BAD_FRAME)
            await _let_go(stream)
        except (BaseLibp2pError, trio.TooSlowError) as error:
            log.debug("question_broke_off", peer=peer, error=repr(error))
            await _let_go(stream)

    def _answer(self, peer: str, question: Question, network: str) -> Answer:
        now = trio.current_time()
        self.guests.heard(peer)
        self._wake()
        if question.sender is not None:
            self._table.heard(question.sender, now)
        if question.kind == PING:
            return Answer()
        if question.kind == ADD_PROVIDER:
            if question.provider is not None:
                self._providers.add(question.key, question.provider, network, now)
            return Answer()
        closer = [one for one in self._table.nearest(place(question.key), BUCKET + 1) if one.peer != peer]
        providers = self._providers.of(question.key, now) if question.kind == GET_PROVIDERS else []
        return Answer(tuple(closer[:BUCKET]), tuple(one for one in providers if one.peer != peer))

    # its life

    async def _refresh(self) -> None:
        """Learn who is near us, drop who is gone, and say that we take part."""
        provided = -PROVIDE_SECONDS
        while True:
            await self._until_known()
            await self._lookup(self._own_key, FIND_NODE)
            await self._check()
            now = trio.current_time()
            if now - provided >= PROVIDE_SECONDS and await self.provide():
                provided = now
            log.debug("hash_table", state=self.state)
            await trio.sleep(REFRESH_SECONDS * random.uniform(0.8, 1.2))

    async def _check(self) -> None:
        question = Question(PING, self._key, self._sender())
        async with trio.open_nursery() as nursery:
            for node in self._table.stale(trio.current_time()):
                nursery.start_soon(self._try, node, question)

    async def _seek(self) -> None:
        """Look for the project: often while nobody of it is here, now and then otherwise."""
        wait = SEEK_AFTER
        while True:
            await self._until_known()
            lookup = await self.find(self._key)
            found = lookup.providers
            for provider in found:
                self._hear(TELLER, provider.endpoints)
            log.debug("hash_table_searched", asked=len(lookup.answered), providers=len(found))
            wait = min(SEEK_AT_MOST, 2 * wait) if self._lonely() else SEEK_SECONDS
            await trio.sleep(wait * random.uniform(0.8, 1.2))

    async def _until_known(self) -> None:
        while not self._entries and not len(self._table):
            await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


def _network(stream: Any) -> str:
    """What part of the internet a stream comes from."""
    remote = remote_address(stream.swarm_conn)
    return shared(remote[0], NETWORK) if remote is not None else "relayed"


async def _let_go(stream: Any) -> None:
    with trio.CancelScope(shield=True):  # one small frame; `hardening.write_whole_frames` bounds it
        await stream.reset()
