"""Where a ticket may come from: typed, from a file, standard input or the web; and what `p2pcap ticket show` says."""

import io
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import segno

from p2pcap.cli import join
from p2pcap.cli.join import ticket_text
from p2pcap.cli.main import run
from p2pcap.cli.ticket import described, half_blocks
from p2pcap.errors import TicketError
from p2pcap.project.ticket import Invitation, Ticket
from tests.certificates import certified_for
from tests.makers import ADA, COORDINATOR, FOREVER, NOW, TICKET_SECRET
from tests.sources.web_server import Connection, Request, Route, WebServer, reply

Capture = pytest.CaptureFixture[str]
INVITATION = Invitation.of(TICKET_SECRET, COORDINATOR, b"12345678", FOREVER, 3)
UNLIMITED = Invitation.of(TICKET_SECRET, COORDINATOR, b"12345678", FOREVER)
ADDRESS = f"/ip4/192.0.2.7/tcp/4001/p2p/{ADA.peer_id}"
TICKET = Ticket("Shapes", bytes(32), INVITATION, (ADDRESS,))
TEXT = str(TICKET)


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS on loopback, with a certificate that this process trusts."""
    return certified_for("IP:127.0.0.1", tmp_path, monkeypatch)


def secure(server: WebServer, path: str = "/join.txt") -> str:
    return f"https://127.0.0.1:{server.port}{path}"


# files and standard input


def test_a_ticket_comes_from_a_file_or_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ticket.txt"
    file.write_text(TEXT + "\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
    for given in (TEXT, str(file), f"@{file}", "-"):
        assert Ticket.parse(ticket_text(given)) == TICKET


def test_what_is_no_text_is_no_ticket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    with pytest.raises(TicketError, match="Standard input holds no ticket: it is no text"):
        ticket_text("-")
    (tmp_path / "ticket").write_bytes(b"\xff\xfe")
    with pytest.raises(TicketError, match="This is no ticket"):
        join.find_ticket(None, tmp_path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("@/no/such/file", "/no/such/file cannot be read: No such file or directory. Check the name"),
        ("@", "cannot be read"),
        ("@a\0b", "cannot be read: this can be no file's name"),
        ("http://example.org/join.txt", "fetched over https only"),
        ("ftp://example.org/join.txt", "fetched over https only"),
        ("https://", "is no"),
        ("https://[::1", "is no"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(given: str, says: str) -> None:
    with pytest.raises(TicketError) as raised:
        ticket_text(given)
    assert says in str(raised.value)


# the web


def test_a_ticket_comes_from_a_web_page(certified: ssl.SSLContext) -> None:
    with WebServer({"/join.txt": reply(TEXT.encode() + b"\n")}, tls=certified) as server:
        assert Ticket.parse(ticket_text(secure(server))) == TICKET
        assert Ticket.parse(ticket_text(f"  {secure(server)}\n")) == TICKET
    assert [request.path for request in server.requests] == ["/join.txt"] * 2


def moved(to: Callable[[], str]) -> Route:
    def route(request: Request, connection: Connection) -> None:
        reply(b"", status=302, headers={"Location": to()})(request, connection)

    return route


def test_a_redirect_is_followed_over_https_only(certified: ssl.SSLContext) -> None:
    routes: dict[str, Route] = {"/join.txt": reply(TEXT.encode())}
    with WebServer(routes) as clear, WebServer(routes, tls=certified) as server:
        server.routes["/moved"] = moved(lambda: secure(server))
        server.routes["/clear"] = moved(lambda: clear.url("/join.txt"))
        server.routes["/inside"] = moved(lambda: f"https://127.0.0.1:{clear.port}/join.txt")
        server.routes["/circle"] = moved(lambda: secure(server, "/circle"))
        assert Ticket.parse(ticket_text(secure(server, "/moved"))) == TICKET
        for path, says in (("/clear", "without https"), ("/inside", "port"), ("/circle", "in a circle")):
            with pytest.raises(TicketError, match=f"cannot be read. .*{says}.* Check the address"):
                ticket_text(secure(server, path))
    assert clear.requests == []


def test_a_page_that_is_large_gone_or_no_ticket_is_one_sentence(certified: ssl.SSLContext) -> None:
    routes: dict[str, Route] = {
        "/large": reply(b"p2pcap:" + b"a" * join.MAX_PAGE),
        "/page": reply(b"<html>\xff</html>"),
    }
    with WebServer(routes, tls=certified) as server:
        with pytest.raises(TicketError, match="The page has more than 4096 bytes"):
            ticket_text(secure(server, "/large"))
        with pytest.raises(TicketError, match="status 404"):
            ticket_text(secure(server, "/none"))
        with pytest.raises(TicketError, match="This is no ticket"):
            Ticket.parse(ticket_text(secure(server, "/page")))
    with pytest.raises(TicketError, match="cannot be read"):
        ticket_text(secure(server))


def test_a_certificate_of_somebody_else_is_no_server(tmp_path: Path, certified: ssl.SSLContext) -> None:
    with WebServer({"/join.txt": reply(TEXT.encode())}, tls=certified) as server:
        with pytest.raises(TicketError, match="cannot be read"):
            ticket_text(f"https://localhost:{server.port}/join.txt")
    assert server.requests == []


# showing


def test_a_ticket_is_told_in_words_without_its_secret(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "ticket.txt"
    file.write_text(TEXT)
    assert run(["ticket", "show", str(file)]) == 0
    said = capsys.readouterr().out
    for part in (
        "Shapes",
        bytes(32).hex(),
        "up to 3 authors",
        ADDRESS,
        INVITATION.key.peer_id,
        f"{len(TEXT)} characters",
    ):
        assert part in said
    assert TEXT not in said
    assert TICKET_SECRET.hex() not in said


@pytest.mark.parametrize(
    ("ticket", "now", "says"),
    [
        (Ticket("x", bytes(32)), NOW, "none: to watch with --observe"),
        (TICKET, FOREVER + 7_200, "no more: it expired 2"),
        (
            Ticket("x", bytes(32), UNLIMITED),
            NOW,
            "any number of authors",
        ),
    ],
)
def test_what_a_ticket_admits(ticket: Ticket, now: float, says: str) -> None:
    assert says in "\n".join(described(ticket, now))


def test_a_strangers_name_moves_no_cursor(capsys: Capture) -> None:
    assert run(["ticket", "show", str(Ticket("\x1b[2Jx\r\n", bytes(32)))]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["p2pcap:abc", "nonsense", "@/no/such/file"])
def test_what_is_no_ticket_is_one_sentence(text: str, capsys: Capture) -> None:
    assert run(["ticket", "show", text]) == 2
    assert "ticket" in capsys.readouterr().err or text.startswith("@")


def test_a_qr_code_holds_the_ticket_and_fits_a_terminal(capsys: Capture) -> None:
    assert run(["ticket", "show", TEXT, "--qr"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if set(line) <= set(" ▀▄█")]
    drawn = [[letter in dark for letter in line] for line in lines for dark in (" ▄", " ▀")]
    coded = [[bool(module) for module in row] for row in segno.make(TEXT, error="l", micro=False).matrix_iter(border=4)]
    assert drawn[: len(coded)] == coded
    assert len(lines[0]) <= 80


def test_half_blocks_hold_two_rows_a_line() -> None:
    assert list(half_blocks([[True, True, False, False], [True, False, True, False]])) == [" ▄▀█"]
    assert list(half_blocks([[True, False]])) == [" ▀"]
