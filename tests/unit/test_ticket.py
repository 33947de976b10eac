"""The ticket: what is typed wrong is noticed, what is forged does not hold, and what has to fit fits."""

import base64
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import encode
from p2pcap.errors import TicketError
from p2pcap.identity import Identity
from p2pcap.project import ticket_addresses
from p2pcap.project.ticket import LATEST, MAX_USES, SHORT, Invitation, Invite, Ticket, invite, key_of
from p2pcap.project.ticket_text import MAX_TEXT, SCHEME, from_text, to_text
from tests.makers import ADA, BOB, COORDINATOR, EVE, FOREVER, NOW, TICKET_KEY, TICKET_SECRET, make_project
from tests.vectors import tickets

M = b"12345678"
INVITE = invite(COORDINATOR, M, TICKET_KEY.public, FOREVER)
INVITATION = Invitation.of(TICKET_SECRET, COORDINATOR, M, FOREVER)
V4 = f"/ip4/192.0.2.1/tcp/4001/p2p/{ADA.peer_id}"
V6 = f"/ip6/2001:db8:1:2:3:4:5:6/tcp/65535/p2p/{ADA.peer_id}"
TICKET = Ticket("Shapes", bytes(range(32)), INVITATION, (V4,))
TEXT = str(TICKET)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LONGEST = "Cats-and-dogs-of-1984 v2"

texts = st.characters(codec="utf-8")
names = st.text(texts, min_size=1, max_size=64) | st.from_regex(r"[A-Za-z0-9 _-]{1,64}", fullmatch=True)
peers = st.sampled_from([one.peer_id for one in (ADA, BOB, EVE)])
hosts = st.one_of(
    st.ip_addresses(v=4).map("/ip4/{}".format),
    st.ip_addresses(v=6).map("/ip6/{}".format),
    st.from_regex(r"/(dns|dns4|dns6)/[a-z0-9.-]{1,60}", fullmatch=True),
)
dialled = st.builds("{}/tcp/{}/p2p/{}".format, hosts, st.integers(0, 70_000), peers)
relayed = st.builds("{}/tcp/{}/p2p/{}/p2p-circuit/p2p/{}".format, hosts, st.integers(0, 65_535), peers, peers)
others = st.text(texts, min_size=1, max_size=256)
addresses = st.lists(dialled | relayed | others, max_size=8).map(tuple)
invitations = st.none() | st.builds(
    Invitation,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=64, max_size=64),
    st.integers(0, MAX_USES),
)
drawn = st.builds(Ticket, names, st.binary(min_size=32, max_size=32), invitations, addresses)


@given(drawn)
def test_a_ticket_comes_back(ticket: Ticket) -> None:
    text = str(ticket)
    if len(text) <= MAX_TEXT:
        assert Ticket.parse(text) == ticket


@given(addresses)
def test_addresses_come_back(told: tuple[str, ...]) -> None:
    assert ticket_addresses.read(ticket_addresses.write(told)) == told


@pytest.mark.parametrize("case", tickets.CASES, ids=lambda case: case.name)
def test_vector(case: tickets.Case) -> None:
    assert str(case.ticket) == case.text
    assert Ticket.parse(case.text) == case.ticket


def test_the_vectors_are_what_the_generator_writes() -> None:
    assert json.loads(tickets.FILE.read_text()) == json.loads(tickets.written())


# what fits


def _of(name: str, *told: str, uses: int = 20) -> int:
    invitation = Invitation.of(TICKET_SECRET, COORDINATOR, M, FOREVER, uses)
    return len(str(Ticket(name, bytes(range(32)), invitation, told)))


OTHER_V4 = f"/ip4/198.51.100.255/tcp/65535/p2p/{BOB.peer_id}"
OTHER_V6 = f"/ip6/2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/tcp/1/p2p/{ADA.peer_id}"
DNS = f"/dns4/cats.example.org/tcp/4001/p2p/{ADA.peer_id}"
RELAYED = f"/ip4/198.51.100.255/tcp/65535/p2p/{BOB.peer_id}/p2p-circuit/p2p/{ADA.peer_id}"


@pytest.mark.parametrize("told", [(V4,), (V4, V6), (V6, OTHER_V6), (V4, OTHER_V4), (V4, DNS), (V6, DNS), (V4, RELAYED)])
def test_a_name_of_24_characters_an_invitation_and_two_addresses_fit_300_characters(told: tuple[str, ...]) -> None:
    assert len(LONGEST) == 24
    assert _of(LONGEST, *told) <= 300


def test_a_name_of_24_other_characters_fits_with_two_addresses_of_one_peer() -> None:
    assert _of("my_cats, and dogs & owls", V6, OTHER_V6) <= 300


def test_as_many_addresses_are_named_as_fit() -> None:
    known = (V4, V6, OTHER_V4, DNS, OTHER_V6)
    ticket = Ticket(LONGEST, bytes(range(32)), INVITATION).naming(known)
    assert ticket.addresses == (V4, V6)
    assert len(str(ticket)) <= SHORT < len(str(Ticket(LONGEST, bytes(range(32)), INVITATION, known[:3])))
    assert ticket.naming((f"/dns4/{'a' * 240}/tcp/1/p2p/{ADA.peer_id}",)).addresses, "one is named, whatever its length"
    assert ticket.naming(()).addresses == ()
    assert len(ticket.naming((V4,) * 20, limit=MAX_TEXT).addresses) == 8


# damage


def test_the_text_is_one_word_that_no_channel_changes() -> None:
    assert TEXT.startswith("p2pcap:")
    assert set(TEXT.removeprefix(SCHEME)) <= set(LETTERS)


@pytest.mark.parametrize(
    "text",
    [
        f"  {TEXT}\n",
        f"{TEXT[:80]}\n{TEXT[80:]}",
        f"{TEXT[:80]}\r\n   {TEXT[80:]}",
        " ".join(TEXT),
        "P2PCAP:" + TEXT.removeprefix(SCHEME),
        "\N{NO-BREAK SPACE}" + TEXT,
    ],
)
def test_what_mail_does_to_a_line_is_forgiven(text: str) -> None:
    assert Ticket.parse(text) == TICKET


@pytest.mark.parametrize("change", [str.upper, str.lower, str.swapcase])
def test_capitals_matter(change: Callable[[str], str]) -> None:
    with pytest.raises(TicketError, match="capitals"):
        Ticket.parse(SCHEME + change(TEXT.removeprefix(SCHEME)))


def test_each_wrong_letter_is_noticed() -> None:
    """Every single one: all places, all letters."""
    for at in range(len(SCHEME), len(TEXT)):
        for wrong in LETTERS:
            if wrong != TEXT[at]:
                with pytest.raises(TicketError, match="damaged"):
                    from_text(TEXT[:at] + wrong + TEXT[at + 1 :])


@given(st.data())
def test_any_two_wrong_letters_are_noticed(data: st.DataObject) -> None:
    length = data.draw(st.sampled_from([len(TEXT) - len(SCHEME), 4_000]))
    text = TEXT if length < 1_000 else to_text(bytes(index % 251 for index in range(2_997)))
    places = data.draw(st.lists(st.integers(len(SCHEME), len(text) - 1), min_size=2, max_size=2, unique=True))
    damaged = list(text)
    for at in places:
        damaged[at] = data.draw(st.sampled_from(LETTERS.replace(text[at], "")))
    with pytest.raises(TicketError, match="damaged"):
        from_text("".join(damaged))


def test_each_pair_of_swapped_letters_is_noticed() -> None:
    for one in range(len(SCHEME), len(TEXT)):
        for other in range(one + 1, len(TEXT)):
            if TEXT[one] != TEXT[other]:
                swapped = list(TEXT)
                swapped[one], swapped[other] = swapped[other], swapped[one]
                with pytest.raises(TicketError, match="damaged"):
                    from_text("".join(swapped))


def test_a_letter_too_few_or_too_many_is_noticed() -> None:
    for at in range(len(SCHEME), len(TEXT)):
        for text in (TEXT[:at], TEXT[:at] + TEXT[at + 1 :], *(TEXT[:at] + extra + TEXT[at:] for extra in "Aa_")):
            with pytest.raises(TicketError):
                from_text(text)
    for tail in ("A", "AA", "AAA", "AAAA", "=", "==", TEXT.removeprefix(SCHEME)):
        with pytest.raises(TicketError):
            from_text(TEXT + tail)


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_a_wrong_character_is_noticed(at: int, wrong: str) -> None:
    """Or makes no difference: a blank, another case in the scheme."""
    with contextlib.suppress(TicketError):
        assert Ticket.parse(TEXT[:at] + wrong + TEXT[at + 1 :]) == TICKET


@pytest.mark.parametrize("letter", ["é", "ß", "ı", "ſ", "💥", "\0", "\ud800", "٣", "+", "/", "%"])
def test_a_letter_of_another_alphabet_is_one_clear_error(letter: str) -> None:
    for text in (TEXT + letter, TEXT[:50] + letter + TEXT[51:], SCHEME + letter, letter + TEXT):
        with pytest.raises(TicketError):
            Ticket.parse(text)


@given(st.text(max_size=100))
def test_any_text_is_a_ticket_error(text: str) -> None:
    for tried in (text, SCHEME + text):
        with pytest.raises(TicketError):
            Ticket.parse(tried)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_ticket_or_an_error(data: bytes) -> None:
    for tried in (data, b"\x10" + data, b"\x11" + data, b"\x13" + data):
        with contextlib.suppress(TicketError):
            assert str(Ticket.parse(to_text(tried))) == to_text(tried)


PLAIN = from_text(str(Ticket("x_y", bytes(32))))
NEWER = "Update p2pcap"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "This is no ticket"),
        ("magnet:?xt=urn:btih:0", "This is no ticket"),
        ("p2pcap", "This is no ticket"),
        ("p2pcap:", "damaged"),
        ("p2pcap:====", "damaged"),
        (SCHEME + base64.b32encode(bytes(200)).decode().lower(), "damaged"),
        (SCHEME + "a" * 5_000, "more than 4096 characters, and none is so long"),
        (SCHEME.upper() + " " * 5_000_000, "more than 4096 characters"),
        ("a" * 5_000, "This is no ticket"),
        (to_text(b""), "damaged"),
        (to_text(encode({"name": "from the future"})), NEWER),
        (to_text(b"\xff"), "damaged"),
        (to_text(b"\x20" + PLAIN[1:]), NEWER),
        (to_text(b"\x14" + PLAIN[1:]), NEWER),
        (to_text(b"\x10\0" + bytes(32)), "damaged"),
        (to_text(PLAIN[:-1]), "damaged"),
        (to_text(b"\x10\x41" + b"n" * 65 + bytes(32)), "damaged"),
        (to_text(b"\x10\x02\xc3\x28" + bytes(32)), "damaged"),
        (to_text(b"\x10\x01x" + bytes(32)), "damaged"),
        (to_text(PLAIN + b"\x70" + bytes(40)), NEWER),
        (to_text(PLAIN + b"\x1f" + bytes(40)), NEWER),
        (to_text(PLAIN + b"\x10" + bytes(30)), NEWER),
        (to_text(PLAIN + b"\x00\x00\x01\xff"), NEWER),
        (to_text(PLAIN + b"\x00\x00\x00"), "more or longer addresses"),
        (to_text(PLAIN + b"\x00\x00\x01a" * 9), "more or longer addresses"),
        (to_text(PLAIN + b"\x00\x01\x01" + b"a" * 257), "more or longer addresses"),
        (to_text(PLAIN + b"\x00\x00\x01a"), ""),
    ],
)
def test_each_fault_has_its_sentence(text: str, says: str) -> None:
    if not says:
        assert Ticket.parse(text).addresses == ("a",)
        return
    with pytest.raises(TicketError, match=says):
        Ticket.parse(text)


def test_one_ticket_has_one_text() -> None:
    """A form that says the same in other bytes is refused."""
    packed = from_text(str(Ticket("abcd", bytes(32))))
    raw = bytes((packed[0] & ~2, 4)) + b"abcd" + bytes(32)
    address = ticket_addresses.write((V4,))
    as_text = b"\0" + len(V4).to_bytes(2, "big") + V4.encode()
    spare = bytearray(from_text(str(Ticket("abc", bytes(32)))))
    spare[4] |= 1
    long_uses = from_text(TEXT).replace(TICKET_SECRET + b"\0", TICKET_SECRET + b"\x80\0")
    for other in (raw, PLAIN + as_text, bytes(spare), long_uses):
        with pytest.raises(TicketError, match="damaged"):
            Ticket.parse(to_text(other))
    assert Ticket.parse(to_text(PLAIN + address)).addresses == (V4,)


# invitations


def test_an_invitation_is_for_one_project_one_key_one_time_and_one_number() -> None:
    coordinators = frozenset({COORDINATOR.public})
    assert INVITE.holds(M, coordinators)
    assert not INVITE.holds(b"87654321", coordinators)
    assert not INVITE.holds(M, frozenset({ADA.public}))
    assert not INVITE.holds(M, frozenset())
    for forged in (
        Invite(ADA.public, INVITE.expires, INVITE.signer, INVITE.signature),
        Invite(INVITE.key, INVITE.expires + 1, INVITE.signer, INVITE.signature),
        Invite(INVITE.key, INVITE.expires, ADA.public, INVITE.signature),
        Invite(INVITE.key, INVITE.expires, INVITE.signer, bytes(64)),
        Invite(INVITE.key, INVITE.expires, INVITE.signer, INVITE.signature, 1),
    ):
        assert not forged.holds(M, coordinators | {ADA.public})


def test_a_ticket_leaves_out_what_follows_from_the_rest() -> None:
    coordinators = frozenset({ADA.public, COORDINATOR.public, BOB.public})
    assert INVITATION.invite(M, coordinators) == INVITE
    assert INVITATION.invite(M, frozenset({ADA.public})) is None
    assert INVITATION.invite(b"87654321", coordinators) is None
    assert INVITATION.key == TICKET_KEY == key_of(TICKET_SECRET)
    limited = Invitation.of(TICKET_SECRET, COORDINATOR, M, FOREVER, 3)
    found = limited.invite(M, coordinators)
    assert found is not None
    assert (found.most, INVITE.most) == (3, MAX_USES)


def test_an_invitation_for_ever_ends_in_2106() -> None:
    endless = Invitation.of(TICKET_SECRET, COORDINATOR, M, 2**40)
    assert endless.expires == LATEST
    assert endless.invite(M, frozenset({COORDINATOR.public})) is not None
    assert Ticket.parse(str(Ticket("x", bytes(32), endless))).invitation == endless


def test_no_secret_is_shown() -> None:
    for shown in (repr(INVITATION), repr(TICKET)):
        assert TICKET_SECRET.hex() not in shown
        assert repr(TICKET_SECRET) not in shown
        assert repr(TICKET_KEY.seed) not in shown
    assert Identity.from_seed(TICKET_KEY.seed) == TICKET_KEY


def test_a_statement_of_the_coordinator_is_no_invitation() -> None:
    manifest = make_project().project.manifest_envelope
    forged = Invite(TICKET_KEY.public, NOW, COORDINATOR.public, manifest.signature)
    assert not forged.holds(M, frozenset({COORDINATOR.public}))


def test_the_vectors_stand_in_the_repository() -> None:
    assert Path(tickets.__file__).with_name("tickets.json") == tickets.FILE
