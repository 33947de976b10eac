"""What a volunteer agrees to before the node lends anything: for whom, signed by whom, which model, what is published.

It is asked once the project is here and verified, and before anything of it is kept, any model fetched, any engine
started, or the key and the name told to anybody. The answer is remembered with what it was about.

Always holds: an answer counts for the same project, root, models and name only; nothing that a stranger does not answer
in time holds the question up.
"""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog
import trio
from msgspec import UNSET

from p2pcap.codec import encode
from p2pcap.errors import CodecError, SourceError, StoreError, UntrustedError
from p2pcap.identity import peer_id_of
from p2pcap.node.fetching import fetch_one, hash_holds
from p2pcap.node.hub_models import HubFacts, hub_facts
from p2pcap.project.chunks import PAGE_BYTES, open_page, row_in
from p2pcap.project.items import ItemList
from p2pcap.project.opened import Project, open_list, payload_hash
from p2pcap.project.task import Model
from p2pcap.sources.locations import HubFile, WebFile, parse
from p2pcap.swarm.swarm import Swarm
from p2pcap.whole_file import replace_whole

LOOK_WITHIN = 10.0
"""Seconds for peers and for the Hub to tell what is only good to know."""

MAX_FILE = 65_536
MAX_PLACES = 3

PIN_SHOWN = 12
"""Characters that are shown of a revision or a hash of files."""

log = structlog.get_logger()


class Terms(msgspec.Struct, frozen=True):
    """What was agreed to: the project's hash and that of the root in force, the models by name and by what pins their
    files (`pinned`), and the name under which captions are published."""

    project: str
    root: str
    models: tuple[str, ...]
    name: str


class Offer(msgspec.Struct, frozen=True):
    """What is asked about. `me` is the peer id of the node's own key. `before` is what was agreed to earlier, if
    anything. Of the models, `bytes` are those of each by name where they are known, and `licenses` what the Hub says.
    `images_at` says where the images come from, `image_bytes` how large one is on average; "" and 0: nobody told."""

    project: Project
    terms: Terms
    me: str
    before: Terms | None = None
    bytes: dict[str, int] = msgspec.field(default_factory=dict)
    licenses: dict[str, str] = msgspec.field(default_factory=dict)
    images_at: str = ""
    image_bytes: float = 0.0

    @property
    def signed_by(self) -> str:
        """The peer id of the key that signed the manifest."""
        return peer_id_of(self.project.manifest_envelope.author)


Agree = Callable[[Offer], Awaitable[None]]
"""Asks; returns when the answer is yes, and raises a P2pcapError when it is no or nobody can answer."""


def terms_of(project: Project, name: str) -> Terms:
    """What a volunteer of that name agrees to."""
    models = {pinned(stage.task.model) for stage in project.stages}
    return Terms(project.hash.hex(), payload_hash(project.root_envelope).hex(), tuple(sorted(models)), name)


def pinned(model: Model) -> str:
    """The model's name, and what no other files have: the Hub's revision, or in hex SHA-256 over names and hashes of
    the files that peers hand on, in whatever order the manifest lists them."""
    if model.revision:
        return f"{model.name}@{model.revision}"
    files = tuple(sorted((file.name, file.hash) for file in model.files))
    return f"{model.name}@{hashlib.sha256(encode(files)).hexdigest()}"


def _models_changed(before: Terms, now: Terms) -> str:
    """Which models were not agreed to, in words; empty: fewer of them ask for nothing more."""
    new = [model.rpartition("@") for model in now.models if model not in before.models]
    known = {model.rpartition("@")[0] for model in before.models}
    said = [f"{'other weights of ' if name in known else ''}{name}@{pin[:PIN_SHOWN]}" for name, _, pin in new]
    return f"another model ({', '.join(said)})" if said else ""


def changed(before: Terms, now: Terms) -> list[str]:
    """What is not as it was agreed to, in words; empty: all is."""
    words = {
        "project": "another project",
        "root": "other keys of the maintainer",
        "models": _models_changed(before, now),
        "name": f"another name for your captions ({now.name or 'none'})",
    }
    return [said for field, said in words.items() if said and getattr(before, field) != getattr(now, field)]


async def make_sure(agree: Agree, swarm: Swarm, project: Project, name: str, file: Path) -> None:
    """Return when this was agreed to, earlier or now. Raises what `agree` raises, and StoreError."""
    terms, before = terms_of(project, name), read_terms(file)
    if before is not None and not changed(before, terms):
        return
    await agree(await _offer(swarm, project, terms, before))
    await trio.to_thread.run_sync(_write, file, terms)
    log.info("agreed", project=terms.project[:16], models=terms.models, name=name)


def read_terms(file: Path) -> Terms | None:
    """What was agreed to; None: nothing, or nothing that can be read."""
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(MAX_FILE), type=Terms)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(file: Path, terms: Terms) -> None:
    try:
        replace_whole(file, msgspec.json.encode(terms))
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}. See that there is room.") from error


async def _offer(swarm: Swarm, project: Project, terms: Terms, before: Terms | None) -> Offer:
    models = {pinned(stage.task.model): stage.task.model for stage in project.stages}
    facts: dict[str, HubFacts] = {}
    found: list[ItemList] = []

    async def look_at_images() -> None:
        if (first := await _first_list(swarm, project)) is not None:
            found.append(first)

    async def ask_hub(model: Model) -> None:
        facts[pinned(model)] = await trio.to_thread.run_sync(hub_facts, model, abandon_on_cancel=True)

    with trio.move_on_after(LOOK_WITHIN):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_at_images)
            for model in models.values():
                if not model.files:
                    nursery.start_soon(ask_hub, model)
    sizes = [item.length for each in found for item in each.items if item.length]
    return Offer(
        project=project,
        terms=terms,
        me=swarm.peer_id,
        before=before,
        bytes={name: sum(file.length for file in model.files) for name, model in models.items() if model.files}
        | {name: fact.bytes for name, fact in facts.items() if fact.bytes},
        licenses={name: fact.license for name, fact in facts.items() if fact.license},
        images_at=from_where(found[0]) if found else "",
        image_bytes=sum(sizes) / len(sizes) if sizes else 0.0,
    )


def from_where(found: ItemList) -> str:
    """Where the images of a list are read, in words."""
    texts = [found.file.file] if found.file else [item.url for item in found.items if item.url is not UNSET]
    if not texts:
        return "other peers"
    places: dict[str, None] = {}
    for text in texts:
        places[_place(text)] = None
    named = list(places)
    return ", ".join(named[:MAX_PLACES]) + (f" and {len(named) - MAX_PLACES} more" if len(named) > MAX_PLACES else "")


def _place(text: str) -> str:
    try:
        location = parse(text)
    except SourceError:
        return "a place that this version cannot read"
    match location:
        case HubFile(repo=repo):
            return f"the Hub ({repo})"
        case WebFile(host=host):
            return host
        case _:
            return "other peers"


async def _first_list(swarm: Swarm, project: Project) -> ItemList | None:
    """The first chunk's item list, if a peer has it now."""
    table = project.plan.chunks
    try:
        rows: bytes | None = table.rows
        if table.pages:
            data = await fetch_one(swarm, table.pages[0], hash_holds, PAGE_BYTES)
            rows = open_page(data, table.pages[0]) if data is not None else None
        if rows is None:
            return None
        row = row_in(rows, 0, project.counts[0])
        data = await fetch_one(swarm, row.items, hash_holds, row.length)
        return await trio.to_thread.run_sync(open_list, data, row, abandon_on_cancel=True) if data is not None else None
    except (CodecError, UntrustedError) as error:
        log.warning("no look at the images", reason=str(error))
        return None
