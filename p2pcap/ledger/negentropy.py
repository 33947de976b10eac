"""Which statements does the other side hold that are missing here, and the other way round? Negentropy protocol v1.

Range-based set reconciliation as specified by the negentropy project (hoytech/negentropy, negentropy-protocol-v1.md),
over the order of `p2pcap.ledger.index`. A frame divides the whole order into ranges. Of each it tells nothing, a
fingerprint of the ids in it, or all of them; the answer divides further where fingerprints differ. Equal sets take one
round, a few differences among a million take three.

The responder keeps nothing between two frames. The initiator may break off at any time and start anew: what it has
learnt stays true as far as statements are not added or dropped, and the next conversation finds the rest. Both sets may
change between rounds.

A frame that would get too long ends with one fingerprint for all the rest. As in the reference, that leaves out the
ranges passed over just before, so it mostly differs from the other side's, who then divides the whole rest again. It
can hide a difference where one side holds nothing in the rest and the frames of both are just full; the next
conversation, with less to tell, finds it.

Always holds: a stranger's frame is answered in time and memory bounded by the frame limit, whatever it says; one that
breaks the format raises CodecError. No frame is longer than the limit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from p2pcap.errors import CodecError
from p2pcap.ledger.index import ID_BYTES, MAX_TIME, MODULUS, TIME_BYTES, Index

VERSION = 0x61
"""The first byte of a frame of protocol version 1; version n has 0x60 + n, up to 15."""
SKIP, FINGERPRINT, ID_LIST = 0, 1, 2
FINGERPRINT_BYTES = 16
BUCKETS = 16
"""Ranges into which one with too many ids to list is divided. It is listed when it has fewer than twice as many."""

MIN_LIMIT = 4_096
RESERVE = 200
"""A frame takes no more ranges when fewer bytes are left: enough for one id too many, its bound, and the end."""
RANGE_BYTES = 4
"""A frame has at most a range for so many bytes of the limit. An honest one has fewer than four for each fingerprint of
19 bytes that the limit has room for; a hostile one could have one, and with it a search, for every 3 bytes."""

MAX_ROUNDS = 64
"""After so many answers a conversation ends, done or not: what a peer that never comes to an end can cost. With frames
of 60 kB so many list 118,000 missing ids in bulk, or find 3,800 scattered over a million; ten among a million take
three."""
MAX_HAVE = 16_384
"""Ids that one conversation names as missing there, about a project of a million captions. More is no use: they have to
be sent one by one, and an answer of 60 bytes could claim that a million are missing."""

INFINITY = b"\xff" * TIME_BYTES
"""The bound above every key."""
MAX_DIGITS = 10
"""Bytes of the longest number: 64 bits in digits of 7."""


@dataclass(frozen=True)
class Step:
    """What one answer taught the initiator: the frame to send next, or None at the end, and ids of 32 bytes.

    `have` are held here and missing there, `need` are held there and missing here, both without repeats.
    """

    next: bytes | None
    have: list[bytes]
    need: list[bytes]


def respond(index: Index, frame: bytes, limit: int) -> bytes:
    """The answer, of at most `limit` bytes, to an initiator's frame. Raises CodecError for a malformed one.

    A frame of another protocol version is answered with our version alone. `limit` is at least MIN_LIMIT, and frames
    beyond it are malformed: both sides need to have the same.
    """
    if not frame or frame[0] & 0xF0 != VERSION & 0xF0:
        raise CodecError("The bytes are not a frame of negentropy: the version is missing.")
    if frame[0] != VERSION:
        return bytes((VERSION,))
    answer = _Answer(index, limit)
    for bound, mode, payload in _ranges(frame, limit):
        if not (answer.list_ours(bound) if mode == ID_LIST else answer.divide(bound, mode, payload)):
            break
    return answer.frame()


class Reconciliation:
    """The initiator's side of one conversation about `index`; frames have at most `limit` bytes."""

    def __init__(self, index: Index, limit: int) -> None:
        self._index = index
        self._limit = limit
        self._rounds = 0
        self._room = MAX_HAVE

    def first(self) -> bytes:
        """The frame that opens the conversation."""
        opening = _Answer(self._index, self._limit)
        opening.divide(INFINITY, FINGERPRINT, b"")
        return opening.frame()

    def take(self, answer: bytes) -> Step:
        """Learn from the responder's answer. Raises CodecError when it is malformed or of another version."""
        if answer[:1] != bytes((VERSION,)):
            raise CodecError(
                f"The answer is not of negentropy version {VERSION & 0x0F}: it begins with {answer[:1]!r}."
            )
        self._rounds += 1
        step = Step(None, [], [])
        question = _Answer(self._index, self._limit)
        for bound, mode, payload in _ranges(answer, self._limit):
            if mode == ID_LIST:
                self._compare(*question.skip_to(bound), payload, step)
            elif not question.divide(bound, mode, payload):
                break
        frame = question.frame()
        over = len(frame) == 1 or self._rounds >= MAX_ROUNDS
        return Step(None if over else frame, step.have, list(dict.fromkeys(step.need)))

    def _compare(self, lower: int, upper: int, listed: bytes, step: Step) -> None:
        """Note how our ids with these ranks differ from those that the other side listed for the same range."""
        theirs = {listed[at : at + ID_BYTES]: None for at in range(0, len(listed), ID_BYTES)}
        step.need.extend(id for id in theirs if id not in self._index)
        for entry in self._index.keys(lower, upper):
            id = entry[TIME_BYTES:]
            if id not in theirs:
                if not self._room:
                    return
                self._room -= 1
                step.have.append(id)


@dataclass
class _Answer:
    """A frame in the making, range by range, in step with the other side's frame."""

    index: Index
    limit: int
    _out: bytearray = field(default_factory=lambda: bytearray((VERSION,)))
    _time: int = 0
    """The time of the bound written last."""
    _rank: int = 0
    """The rank up to which the other side's frame has been read."""
    _skipped: bytes = b""
    """The bound up to which ranges were passed over, and not yet written."""
    _sums: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit < MIN_LIMIT:
            raise ValueError(f"frames of negentropy have a limit of at least {MIN_LIMIT} bytes")

    def frame(self) -> bytes:
        """The frame. Everything above its last range is taken to be skipped."""
        return bytes(self._out)

    def skip_to(self, bound: bytes) -> tuple[int, int]:
        """Say nothing about the range up to `bound`; returns the ranks between which our ids of it are."""
        lower, self._rank = self._rank, self.index.rank(bound)
        self._skipped = bound
        return lower, self._rank

    def divide(self, bound: bytes, mode: int, fingerprint: bytes) -> bool:
        """Tell more of the range up to `bound`, unless it is skipped or ours is the same. False: the frame is full."""
        skipped, start = self._skipped, len(self._out)
        lower, upper = self.skip_to(bound)
        if mode == SKIP or fingerprint == self._fingerprint(lower, upper):
            return True
        self._write_skip(skipped)
        self._write_divided(bound, lower, upper)
        if len(self._out) <= self.limit - RESERVE:
            return True
        del self._out[start:]
        return self._end()

    def list_ours(self, bound: bytes) -> bool:
        """List our ids of the range up to `bound`, as many as there is room for. False: the frame is full."""
        fit = (self.limit - RESERVE - len(self._out)) // ID_BYTES + 1
        skipped = self._skipped
        lower, upper = self.skip_to(bound)
        if upper - lower > fit:
            self._rank = upper = lower + fit
            (bound,) = self.index.keys(upper, upper + 1)
        self._write_skip(skipped)
        self._write_list(bound, lower, upper)
        return len(self._out) <= self.limit - RESERVE or self._end()

    def _end(self) -> bool:
        """The frame is full: the rest in one fingerprint."""
        self._write(INFINITY, FINGERPRINT, self._fingerprint(self._rank, len(self.index)))
        return False

    def _write_divided(self, bound: bytes, lower: int, upper: int) -> None:
        count = upper - lower
        if count < 2 * BUCKETS:
            return self._write_list(bound, lower, upper)
        size, larger = divmod(count, BUCKETS)
        for bucket in range(BUCKETS):
            end = lower + size + (bucket < larger)
            between = bound if end == upper else _between(*self.index.keys(end - 1, end + 1))
            self._write(between, FINGERPRINT, self._fingerprint(lower, end))
            lower = end
        return None

    def _write_list(self, bound: bytes, lower: int, upper: int) -> None:
        self._write(bound, ID_LIST, _varint(upper - lower))
        for entry in self.index.keys(lower, upper):
            self._out += entry[TIME_BYTES:]

    def _write_skip(self, bound: bytes) -> None:
        if bound:
            self._write(bound, SKIP, b"")
        self._skipped = b""

    def _write(self, bound: bytes, mode: int, payload: bytes) -> None:
        time, prefix = int.from_bytes(bound[:TIME_BYTES], "big"), bound[TIME_BYTES:]
        self._out += _varint(0 if time > MAX_TIME else time - self._time + 1)
        self._out += bytes((len(prefix),)) + prefix + bytes((mode,)) + payload
        self._time = time

    def _fingerprint(self, lower: int, upper: int) -> bytes:
        total = (self._sum_below(upper) - self._sum_below(lower)) % MODULUS
        return sha256(total.to_bytes(ID_BYTES, "little") + _varint(upper - lower)).digest()[:FINGERPRINT_BYTES]

    def _sum_below(self, rank: int) -> int:
        if rank not in self._sums:
            self._sums[rank] = self.index.sum_below(rank)
        return self._sums[rank]


def _between(below: bytes, above: bytes) -> bytes:
    """The shortest bound that has the key `below` below it, and the key `above` not."""
    different = int.from_bytes(below, "big") ^ int.from_bytes(above, "big")
    shared = TIME_BYTES + ID_BYTES - (different.bit_length() + 7) // 8
    return above[: max(shared + 1, TIME_BYTES)]


def _varint(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def _ranges(frame: bytes, limit: int) -> Iterator[tuple[bytes, int, bytes]]:
    """The ranges of a frame: upper bound (a key or the beginning of one), mode, fingerprint or ids in one piece.

    Skipped ranges next to each other come as one. Raises CodecError, at the latest when it gets to what is malformed.
    """
    if len(frame) > limit:
        raise CodecError(f"A frame of {len(frame)} bytes came in; at most {limit} are allowed.")
    reader = _Reader(frame)
    last, skipped = b"", False
    for _ in range(limit // RANGE_BYTES):
        if reader.at == len(frame):
            return
        bound, mode, payload = reader.range()
        if bound < last and bound.ljust(len(last), b"\0") < last:
            raise CodecError("The ranges of the frame are out of order.")
        if skipped and mode != SKIP:
            yield last, SKIP, b""
        if mode != SKIP:
            yield bound, mode, payload
        last, skipped = bound, mode == SKIP
    if reader.at < len(frame):
        raise CodecError(f"The frame has more than {limit // RANGE_BYTES} ranges.")


class _Reader:
    """Takes a frame apart."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._time = 0
        self.at = 1

    def range(self) -> tuple[bytes, int, bytes]:
        """The next range: its bound, its mode, and what goes with it."""
        bound = self._bound()
        mode = self._number()
        if mode == ID_LIST:
            return bound, mode, self._bytes(self._number() * ID_BYTES)
        if mode > ID_LIST:
            raise CodecError(f"The frame has a range of the unknown mode {mode}.")
        return bound, mode, self._bytes(FINGERPRINT_BYTES) if mode == FINGERPRINT else b""

    def _bound(self) -> bytes:
        offset = self._number()
        time = self._time + offset - 1 if offset else MAX_TIME + 1
        if offset and time > MAX_TIME:
            raise CodecError("A bound of the frame has a time beyond 64 bits.")
        self._time = time
        size = self._number()
        if size > ID_BYTES:
            raise CodecError(f"A bound of the frame has {size} bytes of an id.")
        return time.to_bytes(TIME_BYTES, "big") + self._bytes(size)

    def _number(self) -> int:
        number = 0
        for byte in self._frame[self.at : self.at + MAX_DIGITS]:
            self.at += 1
            number = number << 7 | byte & 0x7F
            if byte < 0x80:
                return number
            if not number:
                raise CodecError("A number in the frame begins with a zero.")
        raise CodecError(f"A number in the frame does not end within {MAX_DIGITS} bytes.")

    def _bytes(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self._frame):
            raise CodecError("The frame ends too early.")
        return self._frame[start : self.at]
