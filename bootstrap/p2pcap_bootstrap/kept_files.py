"""Files in which a project or what belongs to it is kept, told in words: keys, exports, backups, databases.

Always holds: of a key file only the public half is read out; nothing is written.
"""

from pathlib import Path
from typing import BinaryIO

from p2pcap.codec import decode
from p2pcap.envelope import open_envelope
from p2pcap.errors import CodecError, ConfigError, KeyFileError, StoreError, UntrustedError
from p2pcap.identity import is_encrypted, peer_id_of, public_half
from p2pcap.node.bundle import LENGTH, MAGIC, MAX_HEAD, Head, read_bundle
from p2pcap.project.opened import open_list
from p2pcap.project.roots import open_first
from p2pcap_bootstrap.backup import PLAIN
from p2pcap_bootstrap.cosigning import differences, read_partial
from p2pcap_bootstrap.describing import Report, until


def key_file(path: Path) -> Report:
    """A key file: its public half."""
    try:
        public = public_half(path)
        secret = "under a passphrase" if is_encrypted(path) else "not encrypted: whoever can read the file has it"
    except KeyFileError as error:
        return Report("key file", False, {"what": "a secret key"}, (str(error),))
    facts = {"what": "a secret key", "peer id": peer_id_of(public), "public key": public.hex(), "secret half": secret}
    return Report("key file", True, facts)


def export(path: Path) -> Report:
    """An export: every row against its proof."""
    from p2pcap.export.proven_lines import verify_file

    facts = {"what": "an export of captions, each row with its proof"}
    try:
        counts = verify_file(path)
    except UntrustedError as error:
        return Report("export", False, facts, (str(error),))
    facts["rows"] = f"{counts.images}: {counts.captions} captioned, {counts.errors} errors"
    return Report("export", True, facts | {"signed by": "each row by its author; all of them hold"})


def bundle(path: Path, file: BinaryIO, now: float) -> Report:
    """A project as one file: everything in it is checked, on the way from the root that it brings itself."""
    facts = {"what": "a project as one file, for: p2pcap join --project"}
    try:
        file.seek(len(MAGIC))
        length = int.from_bytes(file.read(LENGTH), "big")
        head = decode(file.read(min(length, MAX_HEAD)), Head, MAX_HEAD)
        first = open_envelope(head.root).payload_hash
        seed = read_bundle(path, first)
        for chunk in seed.project.chunks(seed.blobs.__getitem__):
            open_list(seed.blobs[chunk.items], chunk)
    except (CodecError, UntrustedError) as error:
        return Report("project file", False, facts, (str(error),))
    manifest = seed.project.manifest
    facts |= {"project": f"{seed.project.title}, {first.hex()}", "images": str(seed.project.images)}
    facts |= {"manifest": f"{manifest.version}, expires {until(manifest.expires, now)}"}
    return Report("project file", True, facts)


def backup(head: bytes) -> Report:
    """A backup, which is not unpacked."""
    secret = "not encrypted: whoever has the file has the keys" if head.startswith(PLAIN) else "under a passphrase"
    facts = {"what": "a backup of a project's keys and of what is signed", "keys in it": secret}
    return Report("backup", None, facts | {"to use it": "p2pcap key import FILE DIRECTORY"})


def partial(path: Path, now: float) -> Report:
    """A root that waits for more signatures."""
    facts = {"what": "a root that waits for more signatures; see p2pcap key sign-root"}
    try:
        before, after, chain = read_partial(path)
    except (ConfigError, UntrustedError) as error:
        return Report("waiting root", False, facts, (str(error),))
    facts["signed by"] = ", ".join(peer_id_of(envelope.author) for envelope in chain[-1] if envelope.holds())
    facts[f"root {after.version}"] = "; ".join(differences(before, after))
    return Report("waiting root", None, facts | {"expires": until(after.expires, now)})


def database(path: Path) -> Report:
    """The database of a node that is not running."""
    from p2pcap.store.database import reading
    from p2pcap.store.reads import load

    facts = {"what": "the database of a node"}
    try:
        with reading(path) as readers, readers.lend() as cursor:
            found = load(cursor)
            counts = cursor.execute(DATABASE).fetchall()
    except (StoreError, CodecError, UntrustedError) as error:
        return Report("database", False, facts, (str(error),))
    facts |= {str(label): str(value) for label, value in counts}
    if found.root is None or found.manifest is None:
        return Report("database", None, facts | {"project": "none yet"})
    return _in_project(found.root, facts)


def _in_project(root: bytes, facts: dict[str, str]) -> Report:
    first = open_envelope(root)
    try:
        name = open_first(first, first.payload_hash).name
    except UntrustedError as error:
        return Report("database", False, facts, (str(error),))
    whole = {"signatures": "p2pcap fsck checks them all"}
    return Report("database", None, facts | {"project": f"{name}, {first.payload_hash.hex()}"} | whole)


DATABASE = """
SELECT 'statements', count(*) FROM statement
UNION ALL SELECT 'volunteers', count(*) FROM author
UNION ALL SELECT 'images', coalesce(sum(images), 0) FROM chunk
UNION ALL SELECT 'rows', count(*) FROM counted
UNION ALL SELECT 'newest checkpoint', coalesce(max(number), 0) FROM seal
"""
