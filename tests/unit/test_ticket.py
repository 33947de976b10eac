"""The ticket: what is typed wrong is noticed, what is forged does not hold."""

import base64
import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pcap.codec import encode
from p2pcap.errors import TicketError
from p2pcap.project.ticket import SCHEME, Invite, Ticket, invite
from tests.makers import ADA, COORDINATOR, FOREVER, NOW, TICKET_KEY, make_project
from tests.strategies import records

M = b"12345678"
INVITE = invite(COORDINATOR, M, TICKET_KEY.public, FOREVER)
TICKET = Ticket("Shapes", bytes(range(32)), TICKET_KEY.seed, INVITE, ("/ip4/192.0.2.1/tcp/4001/p2p/" + ADA.peer_id,))
TEXT = str(TICKET)


def as_text(data: bytes) -> str:
    """A ticket's text with a right checksum over any bytes."""
    checked = data + hashlib.sha256(b"p2pcap-ticket/1\0" + data).digest()[:4]
    return SCHEME + base64.b32encode(checked).decode().rstrip("=").lower()


@given(records(Ticket))
def test_a_ticket_comes_back(ticket: Ticket) -> None:
    assert Ticket.parse(str(ticket)) == ticket


def test_the_text_is_one_word_of_plain_letters() -> None:
    assert TEXT.startswith("p2pcap:")
    assert set(TEXT.removeprefix("p2pcap:")) <= set("abcdefghijklmnopqrstuvwxyz234567")


@pytest.mark.parametrize(
    "text",
    [
        f"  {TEXT}\n",
        f"{TEXT[:80]}\n{TEXT[80:]}",
        f"{TEXT[:80]}\r\n   {TEXT[80:]}",
        TEXT.upper(),
        " ".join(TEXT),
    ],
)
def test_what_mail_does_to_a_line_is_forgiven(text: str) -> None:
    assert Ticket.parse(text) == TICKET


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_a_wrong_character_is_noticed(at: int, wrong: str) -> None:
    """Or makes no difference: another case, a blank, the spare bits of the last character."""
    with contextlib.suppress(TicketError):
        assert Ticket.parse(TEXT[:at] + wrong + TEXT[at + 1 :]) == TICKET


@given(st.integers(7, len(TEXT) - 2), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_wrong_letter_is_noticed(at: int, wrong: str) -> None:
    if wrong != TEXT[at]:
        with pytest.raises(TicketError, match="damaged"):
            Ticket.parse(TEXT[:at] + wrong + TEXT[at + 1 :])


@given(st.integers(7, len(TEXT) - 2))
def test_a_missing_a_doubled_and_two_swapped_letters_are_noticed(at: int) -> None:
    swapped = TEXT[:at] + TEXT[at + 1] + TEXT[at] + TEXT[at + 2 :]
    for text in (TEXT[:at] + TEXT[at + 1 :], TEXT[:at] + TEXT[at] + TEXT[at:], swapped):
        if text != TEXT and text[:-1] != TEXT[:-1]:
            with pytest.raises(TicketError):
                Ticket.parse(text)


@given(st.integers(0, len(TEXT) - 2))
def test_a_ticket_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(TicketError):
        Ticket.parse(TEXT[:length])


@pytest.mark.parametrize("letter", ["é", "ß", "ı", "ſ", "💥", "\0", "\ud800", "٣"])
def test_a_letter_of_another_alphabet_is_one_clear_error(letter: str) -> None:
    for text in (TEXT + letter, TEXT[:50] + letter + TEXT[51:], SCHEME + letter, letter + TEXT):
        with pytest.raises(TicketError):
            Ticket.parse(text)


@given(st.text(max_size=100))
def test_any_text_is_a_ticket_error(text: str) -> None:
    for tried in (text, SCHEME + text):
        with pytest.raises(TicketError):
            Ticket.parse(tried)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "This is no ticket"),
        ("magnet:?xt=urn:btih:0", "This is no ticket"),
        ("p2pcap", "This is no ticket"),
        ("p2pcap:", "damaged"),
        ("p2pcap:====", "damaged"),
        (SCHEME + "a" * 5_000, "This is no ticket"),
        (SCHEME + " " * 5_000_000, "This is no ticket"),
        (as_text(b""), "damaged"),
        (as_text(encode({"name": "from the future"})), "Update p2pcap"),
        (as_text(b"\xff"), "Update p2pcap"),
        (as_text(b"\x81" * 1_000), "Update p2pcap"),
    ],
)
def test_each_fault_has_its_sentence(text: str, says: str) -> None:
    with pytest.raises(TicketError, match=says):
        Ticket.parse(text)


def test_an_invitation_is_for_one_project_one_key_and_one_time() -> None:
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
    ):
        assert not forged.holds(M, coordinators | {ADA.public})


def test_a_statement_of_the_coordinator_is_no_invitation() -> None:
    manifest = make_project().project.manifest_envelope
    forged = Invite(TICKET_KEY.public, NOW, COORDINATOR.public, manifest.signature)
    assert not forged.holds(M, frozenset({COORDINATOR.public}))
