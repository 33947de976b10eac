"""What must hold in the end, when everything was put right and had time to spread."""

from collections.abc import Mapping, Sequence

import msgspec

from p2pcap.codec import decode
from p2pcap.ledger.canonical import Batch, Entry, Place, canonical
from p2pcap.ledger.checkpoint import Checkpoint
from p2pcap.ledger.rulings import Ban, Redact, Void
from p2pcap.ledger.sealing import derived
from p2pcap.ledger.state import Ledger
from p2pcap.node.restart import rebuild
from p2pcap.swarm import peers
from tests.makers import Made, task_of, work_of
from tests.simulation.memory import Memory
from tests.simulation.node import SimulatedNode
from tests.simulation.store import Disk
from tests.simulation.world import World

Table = Mapping[Place, Entry]
LAPSES = (peers.BROKE_OFF, peers.STALLED)
"""Penalties for what a bad network does as well."""


def open_ends(nodes: Sequence[SimulatedNode]) -> str:
    """What keeps the job from being over and everything from being known everywhere; empty when nothing does."""
    first = nodes[0]
    down = [node.name for node in nodes if node.life is None]
    if down:
        return f"{down[0]} is down"
    for node in nodes:
        if node.ledger.index.digest != first.ledger.index.digest:
            return f"{node.name} and {first.name} hold other statements"
        if node.ledger.seals.head != first.ledger.seals.head or _can_seal(node, nodes):
            return f"{node.name} has not taken a checkpoint"
        if not node.ledger.finished:
            return f"{node.name} misses items"
        if node.make.volunteer and node.ledger.work_left(node.identity.public):
            return f"{node.name} has work left"
    known = {id_ for node in nodes for id_ in node.disk.bodies}
    for node in nodes:
        wanted = [id_ for id_ in known - node.disk.bodies.keys() if _is_wanted(node.ledger, id_)]
        if wanted:
            return f"{node.name} misses {len(wanted)} bodies"
    return ""


def _can_seal(node: SimulatedNode, nodes: Sequence[SimulatedNode]) -> bool:
    """Whether what the next checkpoint seals is to be had. The coordinator may have been the only one who knew."""
    envelope = node.ledger.checkpoints.get(node.ledger.seals.head + 1)
    if envelope is None:
        return False
    segments = decode(envelope.payload, Checkpoint).segments
    return all(
        any(segment.hash in other.disk.blobs or derived(other.ledger, segment) for other in nodes)
        for segment in segments
    )


def _is_wanted(ledger: Ledger, id_: bytes) -> bool:
    author, result = ledger.results.get(id_, (b"", None))
    return result is not None and ledger.counts(id_, author) and ledger.is_wanted(result)


def check(world: World, made: Made, memory: Memory, nodes: Sequence[SimulatedNode], honest: set[str]) -> None:
    """Everything that must hold; what does not is told to `world`."""
    tables = {node.name: table_of(node.ledger, node.disk) for node in nodes}
    first = nodes[0]
    for node in nodes:
        node.check()
        if list(node.ledger.index) != list(first.ledger.index):
            world.break_(f"{node.name} and {first.name} hold different statements")
        if _plain(tables[node.name]) != _plain(tables[first.name]):
            world.break_(f"{node.name} and {first.name} have different tables")
        _check_disk(world, made, node, tables[node.name])
        _check_table(world, made, node, tables[node.name])
        _check_memory(world, memory, node)
    _check_seals(world, first)
    _check_blames(world, honest)


def table_of(ledger: Ledger, disk: Disk) -> Table:
    """The canonical table, by what a ledger says of the bodies on a disk."""
    batches = []
    for id_, body in disk.bodies.items():
        author, result = disk.results[id_]
        seal = ledger.seals.of(id_)
        tier = seal.tiers.get(author, 0) if seal is not None else ledger.seals.tier(author)
        said = ledger.confirmed(id_), ledger.counted(id_, author)
        batches.append(Batch(id_, author, result, body.rows, seal, tier, *said))
    return canonical(batches, ledger.project.plan.policy.authors_for_error)


def _plain(table: Table) -> dict[Place, tuple[bytes, bytes]]:
    return {place: (batch.id, msgspec.json.encode(row)) for place, (batch, row) in table.items()}


def _check_disk(world: World, made: Made, node: SimulatedNode, table: Table) -> None:
    """A restart would find the same, and the store was told of every ruling's effect."""
    again = rebuild(node.disk.load(), made.project)
    if list(again.index) != list(node.ledger.index):
        world.break_(f"{node.name} would know other statements after a restart")
    if _plain(table_of(again, node.disk)) != _plain(table):
        world.break_(f"{node.name} would have another table after a restart")
    for id_ in node.disk.bodies:
        author, _ = node.disk.results[id_]
        said = node.ledger.ruled(id_, author)
        if node.disk.standing[id_] != said:
            world.break_(f"{node.name} stores standing {node.disk.standing[id_]} of {id_.hex()[:8]}, which has {said}")


def _check_table(world: World, made: Made, node: SimulatedNode, table: Table) -> None:
    """Each image once, in the table and in the bit sets."""
    tid = task_of(made.project).tid
    redacted = _check_rulings(world, node, table)
    for chunk, items in enumerate(made.items):
        closed = redacted.get(chunk, 0)
        for item in range(len(items)):
            has, is_closed = (tid, chunk, item) in table, closed >> item & 1
            if has == bool(is_closed):
                world.break_(
                    f"{node.name}: image {item} of chunk {chunk} is {'redacted and shown' if has else 'missing'}"
                )
            if has != bool(work_of(node.ledger).done.get(chunk, 0) >> item & 1):
                world.break_(f"{node.name}: image {item} of chunk {chunk} is counted wrongly")
            if has and table[tid, chunk, item][1].image != items[item].hash:
                world.break_(f"{node.name}: image {item} of chunk {chunk} has another's row")


def _check_rulings(world: World, node: SimulatedNode, table: Table) -> dict[int, int]:
    """Nothing void or banned altogether is shown; returns the items that were redacted. Read from the statements."""
    redacted: dict[int, int] = {}
    bans: dict[bytes, tuple[int, str]] = {}
    void: set[bytes] = set()
    for envelope in node.disk.statements.values():
        match envelope.kind:
            case "void":
                void.update(decode(envelope.payload, Void).batches)
            case "redact":
                said = decode(envelope.payload, Redact)
                redacted[said.chunk] = redacted.get(said.chunk, 0) | said.items
            case "ban":
                ban = decode(envelope.payload, Ban)
                bans[ban.author] = max(bans.get(ban.author, (0, "")), (ban.version, ban.scope))
    for batch, _ in table.values():
        if batch.id in void or bans.get(batch.author, (0, ""))[1] == "all":
            world.break_(f"{node.name} shows rows of {batch.id.hex()[:8]}, which is void or banned")
    return redacted


def _check_memory(world: World, memory: Memory, node: SimulatedNode) -> None:
    """Nothing that was acknowledged is lost."""
    ledger = node.ledger
    for id_ in memory.statements:
        if not ledger.holds(id_) and not _is_excluded(ledger, memory, id_):
            world.break_(f"{node.name} lost statement {id_.hex()[:8]}")
    for id_ in memory.bodies:
        if id_ not in node.disk.bodies and _is_wanted(ledger, id_):
            world.break_(f"{node.name} lost the rows of {id_.hex()[:8]}")


def _is_excluded(ledger: Ledger, memory: Memory, id_: bytes) -> bool:
    """Whether a pure function of the set takes it out: what banned authors said, and what something better replaced."""
    for disk in memory.disks.values():
        if (envelope := disk.statements.get(id_)) is not None:
            if envelope.kind == "result":
                return not ledger.counts(id_, envelope.author)
            return envelope.kind in ("profile", "stamp", "fork", "verdict")
    return True


def _check_seals(world: World, node: SimulatedNode) -> None:
    """Each final winner of the rows that were sealed by then is a winner now."""
    ledger = node.ledger
    final = table_of(ledger, node.disk)
    errors = ledger.project.plan.policy.authors_for_error
    for number in range(1, ledger.seals.head + 1):
        sealed = {id_ for id_, by in ledger.seals.by_id.items() if by <= number}
        part = Disk(
            bodies={id_: body for id_, body in node.disk.bodies.items() if id_ in sealed}, results=node.disk.results
        )
        for place, (batch, row) in table_of(ledger, part).items():
            if row.error and errors > 1:
                continue  # not final by this alone
            if final[place][0].id != batch.id:
                world.break_(
                    f"{node.name}: checkpoint {number} sealed {batch.id.hex()[:8]} at {place[1:]}, which is out"
                )


def _check_blames(world: World, honest: set[str]) -> None:
    """Honest nodes hold nothing against each other but what the network did, and never to the point of a ban."""
    for blame in world.blames:
        if blame.by in honest and blame.peer in honest and (blame.penalty not in LAPSES or blame.banned):
            names = world.name(blame.by), world.name(blame.peer)
            world.break_(f"at {blame.time:.0f} {names[0]} penalised {names[1]} by {blame.penalty}")
