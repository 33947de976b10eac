"""The RPCs of gossip as they come in: parsed, and held to limits before anything acts on them.

A pure module. An RPC carries subscriptions, messages and control entries. libp2p takes any number of each, keeps tables
by topic names that the peer makes up, and fails in the middle when one of these names is not UTF-8.

Always holds: what `parse` returns has at most the numbers of entries given here; its subscriptions and its control
entries name only topics of this project; it holds nothing of GossipSub 1.2 and later, and no peers to connect to.
"""

from collections.abc import Collection
from typing import Any

from google.protobuf.message import DecodeError
from libp2p.pubsub.pb import rpc_pb2

from p2pcap.errors import FrameError
from p2pcap.swarm.messages import MAX_MESSAGE

MAX_RPC = 128 * 1024
"""Bytes of an RPC that is read: two messages of the largest size, or 2,700 message ids."""
OUR_RPC = 64 * 1024
"""Bytes of an RPC that is sent: one message of the largest size."""
MAX_MESSAGES = 256
MAX_SUBSCRIPTIONS = 64
MAX_CONTROL = 64
"""Entries of each kind (IHAVE, IWANT, GRAFT, PRUNE) in one RPC."""
MAX_BACK_OFF = 3_600
"""Seconds a peer may keep us out of its mesh with one PRUNE."""

if OUR_RPC < MAX_MESSAGE + 2_048:
    raise AssertionError("a message of the largest size does not fit an RPC")


def parse(data: bytes, topics: Collection[str]) -> Any:
    """The RPC in `data`, without what does not concern us. Raises FrameError when it breaks a limit."""
    rpc = rpc_pb2.RPC()
    try:
        rpc.ParseFromString(data)
        _check("messages", len(rpc.publish), MAX_MESSAGES)
        _check("subscriptions", len(rpc.subscriptions), MAX_SUBSCRIPTIONS)
        ours = [option for option in rpc.subscriptions if option.topicid in topics]
        control = _control(rpc.control, topics) if rpc.HasField("control") else None
        names = [name for message in rpc.publish for name in message.topicIDs]
    except (DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"A gossip RPC is malformed: {error}") from error
    if not all(isinstance(name, str) for name in names):  # what protobuf's C implementation makes of invalid UTF-8
        raise FrameError("A gossip RPC is malformed: a topic is not UTF-8.")
    rpc.ClearField("subscriptions")
    rpc.subscriptions.extend(ours)
    rpc.ClearField("control")
    if control is not None:
        rpc.control.CopyFrom(control)
    return rpc


def _control(control: Any, topics: Collection[str]) -> Any:
    for kind in ("ihave", "iwant", "graft", "prune"):
        _check(f"{kind} entries", len(getattr(control, kind)), MAX_CONTROL)
    return rpc_pb2.ControlMessage(
        ihave=[entry for entry in control.ihave if entry.topicID in topics],
        iwant=control.iwant,
        graft=[entry for entry in control.graft if entry.topicID in topics],
        prune=[
            rpc_pb2.ControlPrune(topicID=entry.topicID, backoff=min(entry.backoff, MAX_BACK_OFF))
            for entry in control.prune
            if entry.topicID in topics
        ],
    )


def _check(what: str, number: int, most: int) -> None:
    if number > most:
        raise FrameError(f"A gossip RPC has {number} {what}; at most {most} are allowed.")
