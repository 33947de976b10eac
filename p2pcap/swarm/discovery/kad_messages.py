"""What nodes of the hash table say to each other: the protobuf messages of libp2p's kad-dht, bounded.

Ours differs in one thing: a question names, as its only "closer peer", where its sender listens, so that whoever is
asked learns of it without asking back.

Always holds: what `read_question` and `read_answer` return names at most MAX_CONTACTS peers, each with a valid Ed25519
id and at most `kademlia.MAX_ADDRESSES` addresses that can be dialled, and through a relay only for providers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import base58
from google.protobuf.message import DecodeError
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from p2pcap.errors import FrameError
from p2pcap.identity import public_of
from p2pcap.swarm.addresses import parse_endpoints
from p2pcap.swarm.discovery.kademlia import Contact, contact_at

MAX_MESSAGE = 16 * 1024
MAX_KEY = 64
MAX_CONTACTS = 20
MAX_TOLD = 8
"""Addresses of one peer that are looked at."""
FIND_NODE, GET_PROVIDERS, ADD_PROVIDER, PING = (
    Message.FIND_NODE,
    Message.GET_PROVIDERS,
    Message.ADD_PROVIDER,
    Message.PING,
)
KINDS = (FIND_NODE, GET_PROVIDERS, ADD_PROVIDER, PING)


@dataclass(frozen=True)
class Question:
    """`kind` about `key`; `sender` is where the asker serves the table, None when it only asks. `provider` is where it
    is found by those who want the key, for ADD_PROVIDER."""

    kind: int
    key: bytes
    sender: Contact | None = None
    provider: Contact | None = None


@dataclass(frozen=True)
class Answer:
    """The nodes nearest to the key that the other knows, and the key's providers."""

    closer: tuple[Contact, ...] = ()
    providers: tuple[Contact, ...] = ()


def write_question(question: Question) -> bytes:
    """Its bytes."""
    message = Message(type=Message.MessageType.Name(question.kind), key=question.key)
    _put(message.closerPeers, [question.sender] if question.sender else [])
    _put(message.providerPeers, [question.provider] if question.provider else [])
    return bytes(message.SerializeToString())


def read_question(data: bytes, peer: str) -> Question:
    """A question of `peer`, which can tell only about itself. Raises FrameError."""
    message = _parse(data)
    if message.type not in KINDS or not 1 <= len(message.key) <= MAX_KEY:
        raise FrameError("The question is of a kind that is not answered here, or its key has a wrong length.")
    sender = next(iter(_get(message.closerPeers, 1)), None)
    provider = next(iter(_get(message.providerPeers, 1, relayed=True)), None)
    if any(one is not None and one.peer != peer for one in (sender, provider)):
        raise FrameError("The question tells about another peer than its sender.")
    return Question(message.type, message.key, sender, provider)


def write_answer(kind: int, answer: Answer) -> bytes:
    """Its bytes, at most MAX_MESSAGE: the farthest nodes are left out when they do not fit."""
    message = Message(type=Message.MessageType.Name(kind))
    _put(message.providerPeers, answer.providers)
    for one in answer.closer:
        _put(message.closerPeers, [one])
        if message.ByteSize() > MAX_MESSAGE:
            del message.closerPeers[-1]
            break
    return bytes(message.SerializeToString())


def read_answer(data: bytes, kind: int) -> Answer:
    """The answer to a question of `kind`. Raises FrameError."""
    message = _parse(data)
    if message.type != kind:
        raise FrameError("The answer belongs to another question.")
    providers = _get(message.providerPeers, MAX_CONTACTS, relayed=True)
    return Answer(_get(message.closerPeers, MAX_CONTACTS), providers)


def _parse(data: bytes) -> Any:
    message = Message()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise FrameError(f"The message is none of the hash table's: {error}.") from error
    return message


def _put(field: Any, contacts: Iterable[Contact]) -> None:
    for one in contacts:
        addresses = [Multiaddr(transport).to_bytes() for transport in one.transports]
        field.add(id=base58.b58decode(one.peer), addrs=addresses)


def _get(field: Sequence[Any], most: int, relayed: bool = False) -> tuple[Contact, ...]:
    contacts = (_contact(one, relayed) for one in field[:most])
    return tuple(one for one in contacts if one is not None)


def _contact(told: Any, relayed: bool) -> Contact | None:
    if len(told.id) > 64:
        return None
    peer = str(base58.b58encode(told.id), "ascii")
    try:
        public_of(peer)
    except ValueError:
        return None
    texts = (text for data in told.addrs[:MAX_TOLD] if (text := _text(data)) is not None)
    return contact_at(peer, parse_endpoints((f"{text}/p2p/{peer}" for text in texts), peer), relayed)


def _text(data: bytes) -> str | None:
    try:
        return str(Multiaddr(data)) if len(data) <= 256 else None
    except (MultiaddrError, ValueError):
        return None
