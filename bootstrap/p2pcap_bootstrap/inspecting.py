"""What something is: a ticket, a key, a signed statement, a file; who signed it, and whether it holds.

What is looked at may come from anybody: it is read with a limit, recognised by its first bytes, and parsed by the same
code that would take it in from the network. A file that lies in a maintainer's folder is also compared with the root
beside it.

Always holds: nothing is written, nothing is fetched, and no secret is shown.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from p2pcap.codec import MAX_BLOB, decode
from p2pcap.envelope import MAX_ENVELOPE, OVERHEAD, open_envelope
from p2pcap.errors import CodecError, ConfigError, TicketError, UntrustedError
from p2pcap.identity import peer_id_of, public_of
from p2pcap.node.bundle import MAGIC
from p2pcap.project.chunks import PAGE_BYTES, are_rows
from p2pcap.project.items import decode_list
from p2pcap.project.records import Plan
from p2pcap.project.roots import last_of, read_chain
from p2pcap.project.ticket import SCHEME, Ticket
from p2pcap_bootstrap import describing, kept_files
from p2pcap_bootstrap.backup import ENCRYPTED, PLAIN
from p2pcap_bootstrap.describing import Report, Trust, until

KEY_MARKS = (b"p2pcap-secret-key-", b"p2pcap-encrypted-key-")

FORMATS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip file; unpack it first"),
    (257, b"ustar", "a tar archive"),
    (0, b"SQLite format 3", "an SQLite database: a node's index of local images"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstandard: the body of a result, or a map of what is covered"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x7fELF", "a program"),
)
"""Where a format's mark stands, the mark, and what it is."""


def inspect(thing: str, now: float, standard_input: Callable[[int], bytes]) -> Report:
    """What `thing` is: a path, "-" for what `standard_input(limit)` reads, a ticket, a peer id, or bytes in hex.

    Raises ConfigError when it is none of these, or cannot be read.
    """
    if thing == "-":
        return of_bytes(standard_input(MAX_BLOB + 1), now)
    if os.path.lexists(thing) if len(thing) < 4_096 and "\0" not in thing else False:
        return of_path(Path(thing), now)
    return of_text(thing, now)


def of_text(text: str, now: float) -> Report:
    """What a word on the command line is, when there is no such file. Raises ConfigError when nobody knows."""
    if text.strip().lower().startswith(SCHEME):
        return ticket(text, now)
    if (key := _peer(text)) is not None:
        return Report("peer id", None, {"what": "names a node by its public key", "public key": key.hex()})
    if (data := _hex(text)) is not None:
        if len(data) == 32:
            facts = {"what": "32 bytes: a public key, or a SHA-256", "as a peer id": peer_id_of(data)}
            return Report("32 bytes", None, facts)
        return of_bytes(data, now)
    raise ConfigError(
        "This is no file, ticket, peer id or hex, so it cannot be told what it is. Check the path, or copy all of it."
    )


def ticket(text: str, now: float) -> Report:
    """A ticket in words. Whether a coordinator signed its invitation shows only with the project."""
    try:
        found = Ticket.parse(text)
    except TicketError as error:
        return Report("ticket", False, {"what": "meant to be a ticket"}, (str(error),))
    facts = {"what": f"ticket of the project {found.name}", "project": found.root.hex()}
    faults: list[str] = []
    if found.invitation is None:
        facts["admits"] = "nobody by itself: for observers, and for projects that admit in another way"
    else:
        uses = f"{found.invitation.uses} volunteers" if found.invitation.uses else "any number of volunteers"
        facts["admits"] = f"{uses}, until {until(found.invitation.expires, now)}"
        facts["key"] = found.invitation.key.peer_id
        faults += ["It has expired. Ask the maintainer for a new one."] if found.invitation.expires < now else []
    facts["peers at"] = ", ".join(found.addresses) or "no address"
    return Report("ticket", not faults, facts, tuple(faults))


def of_path(path: Path, now: float) -> Report:
    """What a file is, or a folder of a node. Raises ConfigError when it cannot be read."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _of_folder(path)
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{path} is no file. Name a file, or a node's folder.")
        with path.open("rb") as file:
            head = file.read(4_096)
            if head[8:12] == b"DUCK":
                return kept_files.database(path)
            if head.startswith(KEY_MARKS):
                return kept_files.key_file(path)
            if head.lstrip()[:1] == b"{" and b'"provenance"' in head:
                return kept_files.export(path)
            if head.startswith(MAGIC):
                return kept_files.bundle(path, file, now)
            if head.startswith((PLAIN, ENCRYPTED)):
                return kept_files.backup(head)
            if path.suffix == ".partial":
                return kept_files.partial(path, now)
            data = head + file.read(MAX_BLOB + 1 - len(head))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path and its owner.") from error
    return _with_name(path, of_bytes(data, now, _trust_beside(path)), data)


def _of_folder(path: Path) -> Report:
    for database in (path / "ledger.duckdb", path / "node" / "ledger.duckdb"):
        if database.is_file():
            return kept_files.database(database)
    raise ConfigError(f"{path} is a folder without a node's database. Name a file in it.")


def _with_name(path: Path, report: Report, data: bytes) -> Report:
    """A blob is stored under its hash: then its name is checked too."""
    name = _hex(path.name)
    if name is None or len(name) != 32:
        return report
    from hashlib import sha256

    if sha256(data).digest() == name:
        facts = report.facts | {"name": "is the SHA-256 of its bytes"}
        return msgspec.structs.replace(report, facts=facts, holds=report.holds is not False)
    faults = (*report.faults, "Its name is not the SHA-256 of its bytes: it was changed, or damaged.")
    return msgspec.structs.replace(report, holds=False, faults=faults)


def _trust_beside(path: Path) -> Trust | None:
    """The project of the maintainer's folder in which a file lies: from signed/, or one folder further up."""
    for folder in (path.parent, path.parent.parent):
        try:
            first = open_envelope((folder / "root.cbor").read_bytes())
            roots = folder / "roots.cbor"
            chain = read_chain(roots.read_bytes()) if roots.is_file() else [[first]]
            return Trust(first.payload_hash, last_of(chain, first.payload_hash))
        except (OSError, CodecError, UntrustedError):
            continue
    return None


# bytes


def of_bytes(data: bytes, now: float, trust: Trust | None = None) -> Report:
    """What bytes are that came from anywhere."""
    if not data:
        return Report("nothing", False, {"what": "no bytes at all"}, ("It is empty. Copy it again.",))
    if len(data) > MAX_BLOB:
        return Report("unknown", None, {"what": f"more than {MAX_BLOB >> 20} MiB: nothing of p2pcap is so large"})
    if data.lstrip()[:8].lower().startswith(SCHEME.encode()) and len(data) < 8_192:
        return ticket(data.decode("utf-8", errors="replace"), now)
    if data.startswith(KEY_MARKS):
        return Report("key file", None, {"what": "a secret key. Name its file: then its public half can be shown"})
    return _signed(data, now, trust) or _blob(data, now) or _strange(data)


def _signed(data: bytes, now: float, trust: Trust | None) -> Report | None:
    """A statement's envelope; also one that is damaged, if it begins as one."""
    if data[:2] != b"\x85\x01":
        return None
    try:
        return describing.statement(open_envelope(data), now, trust)
    except CodecError as error:
        if len(data) > MAX_ENVELOPE + OVERHEAD:
            return None
        return Report("statement", False, {"what": "begins like a signed statement"}, (str(error),))


def _blob(data: bytes, now: float) -> Report | None:
    """A chain of roots, a plan, a page of its chunk table, or an item list: nothing in it is signed, it is named by its
    hash."""
    from hashlib import sha256

    named = {"bytes": str(len(data)), "SHA-256": sha256(data).hexdigest()}
    if len(data) == PAGE_BYTES and are_rows(data):
        return Report("page", None, describing.page(data) | named)
    try:
        versions = read_chain(data)
        return describing.chain(versions, now)
    except UntrustedError:
        pass  # it is something else
    try:
        return Report("plan", None, describing.plan(decode(data, Plan, MAX_BLOB)) | named)
    except (CodecError, UntrustedError) as error:
        fault = str(error)
    try:
        return Report("item list", None, describing.item_list(decode_list(data, MAX_BLOB)) | named)
    except CodecError:
        pass  # it is something else
    if b"etitle" in data[:64]:
        return Report("plan", False, {"what": "looks like a plan"} | named, (fault,))
    return None


def _strange(data: bytes) -> Report:
    for start, mark, what in FORMATS:
        if data[start : start + len(mark)] == mark:
            return Report("foreign", None, {"what": what, "bytes": str(len(data))})
    text = _text(data)
    if text is None:
        facts = {"what": "bytes of no form that p2pcap knows", "bytes": str(len(data)), "begins": data[:16].hex(" ")}
        return Report("unknown", None, facts)
    if text.lstrip().startswith(("images:", "name:", "#")) and "images:" in text and "model:" in text:
        return Report(
            "project.yaml", None, {"what": "a project's description; p2pcap project check says whether it is"}
        )
    words = text.split()
    if len(words) == 1 and len(text) < 8_192 and (_peer(words[0]) is not None or _hex(words[0]) is not None):
        return of_text(words[0], 0)
    return Report("text", None, {"what": "text, and nothing of p2pcap", "begins": text[:72]})


# words


def _peer(text: str) -> bytes | None:
    try:
        return public_of(text.strip())
    except ValueError:
        return None


def _hex(text: str) -> bytes | None:
    digits = "".join(text.split())
    try:
        return bytes.fromhex(digits) if digits else None
    except ValueError:
        return None


def _text(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
