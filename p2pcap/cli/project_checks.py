"""What `p2pcap doctor` can see of the project: its database and who holds it, its signatures, whether its model can be
had.

Always holds: nothing is fetched but an answer of the Hub's, and that with a deadline; no check raises for what it
finds.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from p2pcap.cli.checks import Finding, clock_against
from p2pcap.cli.nodes import Target
from p2pcap.errors import ModelError, P2pcapError, SourceError

if TYPE_CHECKING:
    from p2pcap.project.opened import Project
    from p2pcap.project.task import Model

SECONDS = 30.0
"""How long a running node may take to tell of its project."""
HUB_WITHIN = 30.0
SOON = 14 * 86_400
"""Seconds before its end at which a maintainer is reminded."""

SIGNED = "SELECT kind, envelope FROM statement WHERE kind IN ('root', 'manifest') ORDER BY no"
BLOBS = "SELECT hash, data FROM blob WHERE hash IN ({})"
MOST = 100_000


def database(target: Target) -> Finding:
    """Whether the database can be opened, and who has it open."""
    path = target.paths.database
    if target.running is not None:
        return Finding("database", "ok", f"{path} is in use by the node, process {target.running.pid}")
    if not os.path.lexists(path):
        return Finding("database", "ok", "none yet; the first join makes it")
    from p2pcap.store.database import reading

    try:
        with reading(path):
            return Finding(
                "database", "ok", f"{path}, {path.stat().st_size / 1_000_000:.1f} MB; no process has it open"
            )
    except P2pcapError as error:
        return Finding("database", "problem", str(error))


def project(target: Target, expected: bytes | None, now: float) -> "tuple[Project | None, list[Finding]]":
    """The project that the node has, every signature checked, and how long it holds. `expected`: the hash that the
    ticket names."""
    try:
        found = _read(target, expected)
    except P2pcapError as error:
        return None, [Finding("project", "problem", f"{error} Ask the maintainer for a ticket, or run p2pcap fsck.")]
    if found is None:
        return None, [Finding("project", "ok", "not here yet; it comes from the first peer")]
    return found, [_holds(found, now)]


def _holds(found: "Project", now: float) -> Finding:
    from p2pcap.identity import peer_id_of
    from p2pcap.project.opened import ends_at, expires_at

    author = peer_id_of(found.manifest_envelope.author)
    said = f"{found.title}: manifest {found.manifest.version} is signed by {author}"
    until = expires_at(found)
    day = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d}"
    if now > ends_at(found):
        return Finding("project", "problem", f"{said}, and expired on {day}: nobody works on it. Ask the maintainer.")
    if now > until:
        return Finding("project", "warning", f"{said}, and expired on {day}: nobody new can join. Ask the maintainer.")
    if now > until - SOON:
        return Finding("project", "warning", f"{said}, and expires on {day}. Have the maintainer sign it again.")
    return Finding("project", "ok", f"{said}; it holds until {day}")


def _read(target: Target, expected: bytes | None) -> "Project | None":
    """The project in the node's table, its whole chain checked. Raises P2pcapError."""
    from msgspec import UNSET

    from p2pcap.codec import decode
    from p2pcap.envelope import open_envelope
    from p2pcap.project.opened import open_project, payload_hash, version_of
    from p2pcap.project.records import Manifest

    signed = [(kind, open_envelope(data)) for kind, data in _rows(target, SIGNED)]
    roots = [envelope for kind, envelope in signed if kind == "root"]
    manifests = [(decode(envelope.payload, Manifest), envelope) for kind, envelope in signed if kind == "manifest"]
    if not roots or not manifests:
        return None
    manifest, envelope = max(manifests, key=lambda pair: version_of(pair[0]))
    chain = b"" if manifest.roots is UNSET else manifest.roots.hash
    wanted = ", ".join(f"from_hex('{hash_.hex()}')" for hash_ in (manifest.plan, chain) if hash_)
    blobs = dict(_rows(target, BLOBS.format(wanted)))
    hash_ = expected or payload_hash(roots[0])
    return open_project(roots[0], envelope, blobs.get(manifest.plan, b""), hash_, blobs.get(chain, b""))


def _rows(target: Target, sql: str) -> Iterator[tuple[object, bytes]]:
    from p2pcap.cli.rows import run_query

    with run_query(target, sql, MOST, SECONDS) as rows:
        for batch in rows:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def hub(ask: Callable[[], tuple[str, str]] | None = None) -> list[Finding]:
    """Whether the Hub answers, and what this machine's clock is against the Hub's."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return [Finding("hub", "ok", "not asked, since HF_HUB_OFFLINE is set")]
    asked = time.time()
    try:
        where, date = (ask or _ask_hub)()
    except (OSError, ValueError, SourceError) as error:
        why = getattr(error, "reason", None) or error
        said = f"it does not answer ({why}): no model and no image comes from there. Check the network, and proxies."
        return [Finding("hub", "warning", said)]
    answered = time.time()
    findings = [Finding("hub", "ok", f"{where} answers in {1000 * (answered - asked):.0f} ms")]
    try:
        told = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return findings
    return [*findings, clock_against(told, asked, answered, where)]


def _ask_hub() -> tuple[str, str]:
    """Who answered, and the date that he told (RFC 9110, 6.6.1)."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from p2pcap.sources.hub import endpoint

    where = endpoint()
    try:
        with urlopen(Request(where, method="HEAD"), timeout=HUB_WITHIN) as answer:
            return where, str(answer.headers.get("Date", ""))
    except HTTPError as error:
        with error:
            return where, str(error.headers.get("Date", ""))


def models(found: "Project") -> list[Finding]:
    """Whether this machine may have each model of the project."""
    wanted = {stage.task.model.name: stage.task.model for stage in found.stages}
    return [_model(model) for model in wanted.values()]


def _model(model: "Model") -> Finding:
    if not model.revision:
        return Finding("model", "ok", f"{model.name} comes from the project's peers")
    from p2pcap.node.hub_models import check_access

    said: Sequence[object] = within(HUB_WITHIN, lambda: check_access(model))
    if not said:
        return Finding(
            "model", "warning", f"the Hub did not say within {HUB_WITHIN:.0f} s whether {model.name} is open."
        )
    (outcome,) = said
    if isinstance(outcome, ModelError):
        return Finding("model", "problem", str(outcome))
    return Finding("model", "ok", f"{model.name} may be fetched from the Hub")


def within(seconds: float, ask: Callable[[], None]) -> list[P2pcapError | None]:
    """What `ask` raised of p2pcap's own, or None; nothing when it took longer. It is left behind then."""
    outcome: list[P2pcapError | None] = []

    def run() -> None:
        try:
            ask()
        except P2pcapError as error:
            outcome.append(error)
        else:
            outcome.append(None)

    asking = threading.Thread(target=run, daemon=True, name="doctor")
    asking.start()
    asking.join(seconds)
    return outcome
