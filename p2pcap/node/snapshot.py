"""What a node shows of itself: the one view model behind `p2pcap status`, `status --json` and every other front end.

A snapshot is a value: made at one moment, sent over the control socket as JSON, never changed. Nothing heavy is
imported here, so whatever displays a node loads neither libp2p nor DuckDB.

Always holds: `decode(encode(s)) == s`. Times are unix seconds, rates are per second, names from strangers are as they
were signed (whoever prints them strips control characters).
"""

from typing import Literal

import msgspec


class NodeInfo(msgspec.Struct, frozen=True):
    """The node itself. `role` is coordinator, volunteer or observer; `directory` holds everything it keeps.

    `state` is a p2pcap.node.state.NodeState, `state_why` says why in words, and `paused_until` is when a pause ends by
    itself, if it does.

    `loop_lag`: seconds by which its event loop was late at most in the last minute; a node that is over half a second
    late answers its peers too slowly.
    """

    peer_id: str
    name: str
    role: str
    version: str
    pid: int
    started: float
    directory: str
    addresses: tuple[str, ...] = ()
    loop_lag: float = 0.0
    state: str = ""
    state_why: str = ""
    paused_until: float | None = None


class StandingInfo(msgspec.Struct, frozen=True):
    """How an author stands by what verifiers looked at, in items (p2pcap.ledger.trust.Standing). `why` says in words
    what keeps his work from counting, or his tier from being higher."""

    captions: int = 0
    checked: int = 0
    passed: int = 0
    failed: int = 0
    unsure: int = 0
    unchecked: int = 0
    tier: int = 0
    quarantined: bool = False
    why: str = ""


class ContradictionInfo(msgspec.Struct, frozen=True):
    """Captions of one author that some found wrong (`bad`) and some right (`ok`), by peer ids; `result` is the result's
    id in hex."""

    result: str
    author: str
    captions: int
    bad: tuple[str, ...]
    ok: tuple[str, ...]


class StageInfo(msgspec.Struct, frozen=True):
    """A stage of the project: its name, model and prompts; `done` counts images with a row here. `audited`: verifiers
    look at what is captioned."""

    name: str
    model: str
    prompts: tuple[str, ...]
    done: int = 0
    finished: bool = False
    paused: bool = False
    audited: bool = False


class ProjectInfo(msgspec.Struct, frozen=True):
    """The project and how far it is, as this node knows; before the node has it, only `title` and `id` say something.

    `id` is the root's hash in hex; `signed_by` the peer id of the coordinator key that signed the manifest. `done`
    counts images with a row, of each stage, out of `wanted`; of all rows `errors` are those that are errors, `captions`
    the others, and `held` those that are kept on this node. `finished`: every stage has all its rows. `checkpoint` is
    the number of the newest one taken here, `sealed` how many statements it and those before it seal. `warnings` are
    about the project's keys, for people.
    `failures` are the errors by code, most first. `model` and `prompts` are the first of the `stages`'; the counts are
    of all stages and of earlier tasks. `paused`: nobody works on it, by the maintainer's word.
    """

    title: str
    id: str
    manifest: int = 0
    signed_by: str = ""
    model: str = ""
    prompts: tuple[str, ...] = ()
    images: int = 0
    chunks: int = 0
    done: int = 0
    chunks_done: int = 0
    captions: int = 0
    errors: int = 0
    held: int = 0
    finished: bool = False
    checkpoint: int = 0
    sealed: int = 0
    warnings: tuple[str, ...] = ()
    failures: tuple[tuple[str, int], ...] = ()
    stages: tuple[StageInfo, ...] = ()
    paused: bool = False
    wanted: int = 0


class EngineUnit(msgspec.Struct, frozen=True):
    """One engine of the node, called `name` after what it runs on.

    `phase` is "resting" (its GPU is too hot for new images) or a phase of p2pcap.engine.base, and `detail` says more in
    words; `notice` what is not as the volunteer chose. `rate` is images and `tokens` tokens made a second lately,
    `in_flight` the images it has in hand. `running` and `waiting` are requests in its batch and before it, `kv` the
    share (0 to 1) of the memory for keys and values in use. Of its GPUs: `power` and `power_limit` in watts together,
    the highest `temperature` in degrees Celsius, `busy` the share of the time in which they compute; None: not told.
    """

    name: str = ""
    phase: str = "stopped"
    detail: str = ""
    device: str = ""
    rate: float = 0.0
    tokens: float = 0.0
    in_flight: int = 0
    running: int = 0
    waiting: int = 0
    kv: float = 0.0
    restarts: int = 0
    power: float | None = None
    power_limit: float | None = None
    temperature: int | None = None
    busy: float | None = None
    notice: str = ""


class EngineInfo(msgspec.Struct, frozen=True):
    """The engines together. `phase` is "off" (there is none), "captioning" (ready, with images in hand) or a phase of
    p2pcap.engine.base, and `detail` says more in words. `rate` is images a second lately, `average` since captioning
    began; `in_flight` images are with them now. `tokens`, `running`, `waiting` and `kv` are as in EngineUnit, `notices`
    lines on what is not as the volunteer chose, `first_caption` is the first that was published here since the node
    started, `units` the engines one by one."""

    phase: str = "off"
    detail: str = ""
    device: str = ""
    rate: float = 0.0
    average: float = 0.0
    in_flight: int = 0
    restarts: int = 0
    tokens: float = 0.0
    running: int = 0
    waiting: int = 0
    kv: float = 0.0
    notices: tuple[str, ...] = ()
    first_caption: str = ""
    units: tuple[EngineUnit, ...] = ()


class PeerInfo(msgspec.Struct, frozen=True):
    """A connected peer. `rtt` is the round trip in seconds, None before it was measured; `since` when it connected.

    `direction` is "out" when this node dialled; `relayed`: the connection goes through another peer. `score` is 0 or,
    for a peer that misbehaved, negative. `sent` and `received` are bytes on its connections since this node started.
    """

    peer_id: str
    address: str
    name: str = ""
    role: str = ""
    engine_ready: bool = False
    since: float = 0.0
    rtt: float | None = None
    direction: Literal["in", "out"] = "out"
    relayed: bool = False
    score: float = 0.0
    sent: int = 0
    received: int = 0


class NetworkInfo(msgspec.Struct, frozen=True):
    """The node's place in the network.

    `reachability` is "public" when others can dial this node, "private" when they cannot, and "unknown" before enough
    of them tried. `reached` are the ways by which others get through now; none: not at all. `external` are addresses
    at which they did, or that the router told. `port_mapping` says what became of asking the router, and is empty when
    it was not asked. `relays` are the peers that hold a place for this node, `circuits` the connections between others
    that it carries, `carried` the bytes of these. Connections through a relay count as incoming or outgoing too.
    `sent` and `received` are all bytes on connections, `uploaded` and `downloaded` those of content, limited to
    `upload_limit` and `download_limit` bytes a second (None: no limit). `known` are peers remembered for dialling,
    `synced` is when statements were last compared with a peer and equal in the end. `troubles` say why peers that the
    user named are not connected, a line each.
    """

    reachability: Literal["unknown", "public", "private"] = "unknown"
    reached: tuple[Literal["direct", "port mapping", "relay"], ...] = ()
    external: tuple[str, ...] = ()
    port_mapping: str = ""
    relays: tuple[str, ...] = ()
    circuits: int = 0
    carried: int = 0
    incoming: int = 0
    outgoing: int = 0
    relayed: int = 0
    max_connections: int = 0
    sent: int = 0
    received: int = 0
    uploaded: int = 0
    downloaded: int = 0
    upload_limit: float | None = None
    download_limit: float | None = None
    banned: int = 0
    known: int = 0
    synced: float | None = None
    troubles: tuple[str, ...] = ()


class CountInfo(msgspec.Struct, frozen=True):
    """How often something came to an outcome since the node started.

    `what` is gossip, asked, served, reconciliations, dials or connections; `name` is the request's, for asked (by this
    node) and served (to others).
    """

    what: str
    outcome: str
    times: int
    name: str = ""


class StoreInfo(msgspec.Struct, frozen=True):
    """What is on disk. `role` is full, share or archive; `statements` are held, `waiting` ones accepted and not yet
    committed; `newest` is the largest time that one of them names, in unix seconds by its author's clock;
    `bodies_missing` are being fetched; `bytes` is the size of the database file."""

    role: str = "full"
    statements: int = 0
    waiting: int = 0
    newest: int | None = None
    bodies_missing: int = 0
    bytes: int = 0


class ClaimInfo(msgspec.Struct, frozen=True):
    """A chunk this node has claimed: rows done of its images, and seconds until the claim lapses."""

    chunk: int
    done: int
    images: int
    lease: float


class ContributorInfo(msgspec.Struct, frozen=True):
    """An author's share of the table: rows that count, and how many of them are errors; and how he stands."""

    peer_id: str
    name: str
    rows: int
    errors: int
    standing: StandingInfo = StandingInfo()


class AuditInfo(msgspec.Struct, frozen=True):
    """What this node has checked of others' captions since it started, in items: `right`, `wrong`, and `unsure`, where
    nothing can be said. `waiting` are results of which some are still to be checked. `verifier`: what it finds counts;
    else what is wrong is an accusation."""

    verifier: bool = False
    right: int = 0
    wrong: int = 0
    unsure: int = 0
    waiting: int = 0


class FetchInfo(msgspec.Struct, frozen=True):
    """Image files held here, and bytes fetched from peers since the node started."""

    images: int = 0
    bytes: int = 0


class NodeSnapshot(msgspec.Struct, frozen=True):
    """A node at the moment `published`. `engines_ready` counts ready engines in the swarm, this node's included.
    `standing` is that of a node that captions, `contradictions` are the first of those there are among verifiers.
    `connected` counts the peers and `contributing` the contributors: a subscriber may have asked for the first few of
    each only."""

    published: float
    node: NodeInfo
    project: ProjectInfo
    engine: EngineInfo = EngineInfo()
    engines_ready: int = 0
    peers: tuple[PeerInfo, ...] = ()
    claims: tuple[ClaimInfo, ...] = ()
    contributors: tuple[ContributorInfo, ...] = ()
    fetch: FetchInfo = FetchInfo()
    audit: AuditInfo = AuditInfo()
    network: NetworkInfo = NetworkInfo()
    store: StoreInfo = StoreInfo()
    counts: tuple[CountInfo, ...] = ()
    standing: StandingInfo | None = None
    contradictions: tuple[ContradictionInfo, ...] = ()
    connected: int = 0
    contributing: int = 0

    @property
    def uptime(self) -> float:
        """Seconds the node had been running."""
        return self.published - self.node.started


class PeerPage(msgspec.Struct, frozen=True):
    """Peers as they were asked for: the first of the `matching` ones, of `total`."""

    total: int
    matching: int
    rows: tuple[PeerInfo, ...]


class ContributorPage(msgspec.Struct, frozen=True):
    """Contributors as they were asked for: the first of the `matching` ones, of `total`."""

    total: int
    matching: int
    rows: tuple[ContributorInfo, ...]


def encode(snapshot: NodeSnapshot) -> bytes:
    """As JSON, on one line."""
    return msgspec.json.encode(snapshot)


def decode(data: bytes | str) -> NodeSnapshot:
    """From JSON. Raises msgspec.ValidationError when it is not a snapshot, msgspec.DecodeError when it is not JSON."""
    return msgspec.json.decode(data, type=NodeSnapshot)
