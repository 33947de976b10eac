"""`p2pcap ban`, `revoke`, `void`, `redact` and `grant`: what a maintainer says about volunteers and their work.

Each shows first what it would change, and asks. What is signed is for good: it can be overruled by a later statement,
never taken back.
"""

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pcap.cli.confirming import confirm
from p2pcap.cli.output import result, say, warn
from p2pcap.cli.passphrase import asker, passphrase_option
from p2pcap.errors import ConfigError, P2pcapError

if TYPE_CHECKING:
    from p2pcap.envelope import Envelope
    from p2pcap.ledger.drafting import Asked
    from p2pcap.node.drafts import Draft
    from p2pcap_bootstrap.ruling import Delivery
    from p2pcap_bootstrap.workspace import Workspace

Command = TypeVar("Command", bound=Callable[..., object])

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
STATEMENT = re.compile("[0-9a-f]{64}")
MAX_REASON, MAX_EVIDENCE = 128, 4
"""As the protocol has them (p2pcap.ledger.rulings)."""
QUESTION = "Sign it and tell everybody?"
SHARES = 10
"""Authors whose lost rows are shown; the others are summed up."""


def common_options(command: Command) -> Command:
    """The options of every ruling."""
    options = (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Only show what it would change; sign nothing."),
        click.option(
            "--peer", "peers", multiple=True, metavar="MULTIADDR", help="A peer to tell when no node runs here."
        ),
    )
    made: Any = passphrase_option(command)
    for option in reversed(options):
        made = option(made)
    return made  # type: ignore[no-any-return]  # click's decorators keep the command's type


def reason_option(required: bool = False) -> Callable[[Command], Command]:
    """Why: everybody can read it."""
    text = f"Why, in at most {MAX_REASON} characters; everybody can read it."
    if required:
        return click.option("--reason", required=True, callback=_reason, help=text)
    return click.option("--reason", default="", callback=_reason, help=text)


def _reason(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if len(value) > MAX_REASON:
        raise ConfigError(f"--reason has {len(value)} characters, and {MAX_REASON} are the most. Say it shorter.")
    return value


def _ids(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    if bad := [one for one in value if not STATEMENT.fullmatch(one.lower())]:
        raise ConfigError(f"--evidence {bad[0][:80]} is no id: 64 hex digits, `statement` in p2pcap query.")
    if len(value) > MAX_EVIDENCE:
        raise ConfigError(f"--evidence is given {len(value)} times, and {MAX_EVIDENCE} are the most. Leave some out.")
    return tuple(one.lower() for one in value)


def span_options(scope: str, after: str) -> Callable[[Command], Command]:
    """What it reaches back to; `scope` and `after` are their help."""
    asked = click.option(
        "--scope", default="unsealed", show_default=True, type=click.Choice(["unsealed", "all"]), help=scope
    )
    last = click.option("--after", type=click.IntRange(0, 2**31 - 1), help=f"{after} [default: the newest]")
    return lambda command: asked(last(command))


evidence_option = click.option(
    "--evidence",
    multiple=True,
    metavar="ID",
    callback=_ids,
    help=f"Id of a statement that shows why; up to {MAX_EVIDENCE} times.",
)


@click.command(
    epilog="""\b
Examples:
  p2pcap ban cats bob --reason "captions of other images"       what no checkpoint seals is void
  p2pcap ban cats 12D3KooW… --scope all --dry-run               what it would change if all of it were
  p2pcap ban cats bob --lift"""
)
@DIRECTORY
@click.argument("who", metavar="PEERID|NAME")
@span_options(
    "Which of the results count no more: those that no checkpoint seals, or all.", "Also what later checkpoints seal."
)
@click.option("--lift", is_flag=True, help="Lift an earlier ban.")
@reason_option()
@evidence_option
@common_options
def ban(
    directory: Path,
    who: str,
    scope: str,
    after: int | None,
    lift: bool,
    reason: str,
    evidence: tuple[str, ...],
    **how: Any,
) -> None:
    """Throw a volunteer out of the project of DIRECTORY: what it sends counts no more, and its work is done again."""
    from p2pcap.ledger.drafting import BanAsked

    scope = "none" if lift else scope
    _rule(directory, lambda now: BanAsked(who, scope, after, evidence, reason=reason, time=now), **how)


@click.command(
    epilog="""\b
Examples:
  p2pcap revoke cats team              the invitation that p2pcap invite cats --name team made
  p2pcap revoke cats p2pcap:abc…"""
)
@DIRECTORY
@click.argument("ticket", metavar="TICKET|LABEL")
@span_options(
    "Whom it puts out: who joined with it and is in no checkpoint yet, or everybody who did.",
    "Also who is in later checkpoints.",
)
@reason_option()
@common_options
def revoke(directory: Path, ticket: str, scope: str, after: int | None, reason: str, **how: Any) -> None:
    """Make a ticket of the project of DIRECTORY admit nobody any more."""
    from p2pcap.ledger.drafting import BanAsked
    from p2pcap_bootstrap import ruling

    key = _ticket_key(directory, ticket)
    asked = _rule(directory, lambda now: BanAsked(key.hex(), scope, after, ticket=True, reason=reason, time=now), **how)
    if asked is not None and ruling.retire_ticket(asked, key):
        say("it was the coordinator's own ticket: stop bootstrap serve and start it again, and it prints another")


@click.command(
    epilog="""\b
Examples:
  p2pcap void cats 5a3f0c91…           the result with that id; see `statement` in p2pcap query
  p2pcap void cats --author bob --since 2027-01-31"""
)
@DIRECTORY
@click.argument("statements", nargs=-1, metavar="[STATEMENT]...")
@click.option("--author", default="", metavar="PEERID|NAME", help="All that counts by this volunteer.")
@click.option("--since", default="", metavar="TIME", help="With --author: only what says to be of then or later (UTC).")
@reason_option()
@evidence_option
@common_options
def void(
    directory: Path,
    statements: tuple[str, ...],
    author: str,
    since: str,
    reason: str,
    evidence: tuple[str, ...],
    **how: Any,
) -> None:
    """Make results count no more; their images are done again. Their author may go on."""
    from p2pcap.ledger.drafting import VoidAsked

    if bool(statements) == bool(author):
        raise ConfigError("Name either results or --author. See p2pcap void --help.")
    if since and not author:
        raise ConfigError("--since goes with --author. See p2pcap void --help.")
    ids, start = tuple(text.lower() for text in statements), _seconds(since)
    _rule(directory, lambda now: VoidAsked(ids, author, start, evidence, reason=reason, time=now), **how)


@click.command(
    epilog="""\b
Examples:
  p2pcap redact cats photos/0001.jpg --reason "shows a person who asked us to"
  p2pcap redact cats 12:640 12:641 --reason "court order" """
)
@DIRECTORY
@click.argument("images", nargs=-1, required=True, metavar="KEY|HASH|CHUNK:ITEM...")
@reason_option(required=True)
@common_options
def redact(directory: Path, images: tuple[str, ...], reason: str, **how: Any) -> None:
    """Have the captions of images dropped everywhere, and nobody caption them again."""
    from p2pcap_bootstrap.ruling import find_images
    from p2pcap_bootstrap.workspace import Workspace

    workspace = Workspace(directory)
    project = workspace.project()
    _rule(directory, lambda now: find_images(workspace, project, images, reason, now), **how)


@click.command(
    epilog="""\b
Example:
  p2pcap grant cats 12D3KooW… --name bob"""
)
@DIRECTORY
@click.argument("who", metavar="PEERID")
@click.option("--name", default="", help="Public name, at most 32 characters.")
@common_options
def grant(
    directory: Path, who: str, name: str, yes: bool, dry_run: bool, peers: tuple[str, ...], passphrase_file: Path | None
) -> None:
    """Admit a volunteer to the project of DIRECTORY without a ticket of its own."""
    from p2pcap.identity import peer_id_of
    from p2pcap.ledger.drafting import key_of
    from p2pcap.ledger.grants import grant_by
    from p2pcap_bootstrap.workspace import Workspace

    key = key_of(who)
    if key is None or len(name.encode()) > 32:
        fault = f"{who} is no peer id" if key is None else "The name has more than 32 bytes"
        raise ConfigError(f"{fault}. The volunteer finds its peer id with: p2pcap status")
    workspace, now = Workspace(directory, asker(passphrase_file)), time.time()
    coordinator, project = workspace.coordinator(), workspace.project()
    result(f"{peer_id_of(key)} is admitted to {project.title}{f' as {name}' if name else ''}")
    if dry_run:
        say("nothing was signed")
        return
    confirm(QUESTION, yes)
    send(workspace, [grant_by(coordinator, project.m, key, name, int(now))], peers, now)


def _rule(
    directory: Path,
    ask: "Callable[[int], Asked]",
    yes: bool,
    dry_run: bool,
    peers: Sequence[str],
    passphrase_file: Path | None,
) -> "Workspace | None":
    """Draft, show, ask, sign, hand over. The folder; None when nothing was signed."""
    from p2pcap_bootstrap import ruling
    from p2pcap_bootstrap.workspace import Workspace

    workspace, now = Workspace(directory, asker(passphrase_file)), time.time()
    coordinator = workspace.coordinator()
    made = ruling.draft(workspace, ask(int(now)), coordinator.public, now)
    for line in told(made):
        result(line)
    if not ruling.has_table(workspace):
        warn("the coordinator's node has no database here, so more may change than this")
    if own := ruling.against_own(workspace, made):
        warn(f"warning: {own}. What it says as an author counts no more then; a key that leaves its role is replaced")
        warn(f"with p2pcap key rotate {directory}, not banned")
    if dry_run:
        say("nothing was signed")
        return None
    confirm(QUESTION, yes)
    send(workspace, ruling.sign(coordinator, made), peers, now)
    return workspace


def told(draft: "Draft") -> list[str]:
    """What a draft would change, in lines for people."""
    lines = [f"about {draft.who}; the newest checkpoint is {draft.checkpoint}"] if draft.who else []
    if draft.guests:
        shown = ", ".join(draft.guests[:SHARES]) + (" and others" if len(draft.guests) > SHARES else "")
        lines.append(f"joined with this ticket: {shown}")
    if draft.out:
        shown = ", ".join(draft.out[:SHARES]) + (" and others" if len(draft.out) > SHARES else "")
        lines.append(f"{len(draft.out)} volunteers are out: {shown}")
    if draft.redacted:
        lines.append(f"{draft.redacted} images are closed for good")
    lines += [f"  {caption.key}: {caption.text} ({caption.author or 'no name'})" for caption in draft.captions]
    if draft.gone > len(draft.captions):
        lines.append(f"  and {draft.gone - len(draft.captions)} more captions")
    lines.append(f"{draft.results} results count no more, {sum(share.rows for share in draft.rows)} rows in them")
    lines += [f"  {share.rows} rows of {share.name or share.peer_id}" for share in draft.rows[:SHARES]]
    lines.append(f"{draft.opened} images are open again")
    if draft.closed:
        lines.append(f"{draft.closed} images have a row again")
    return lines


def send(workspace: "Workspace", envelopes: "Sequence[Envelope]", peers: Sequence[str], now: float) -> None:
    """Hand signed statements over, and say where they went. Raises P2pcapError for what the node refuses."""
    from p2pcap_bootstrap import ruling

    delivery = ruling.hand_over(workspace, envelopes, peers, now)
    for line in _where(workspace, delivery):
        say(line)
    if delivery.refused:
        raise P2pcapError(f"The coordinator's node refused {'; '.join(delivery.refused)}. Nobody was told of that.")


def _where(workspace: "Workspace", delivery: "Delivery") -> list[str]:
    lines = []
    if delivery.node:
        lines.append(f"signed {delivery.node}; the coordinator's node holds it and tells everybody")
    if delivery.peer:
        lines.append(f"signed {delivery.peer}; a peer holds it and tells the others; the next serve here takes it in")
    if delivery.kept:
        where = workspace.directory / "outbox"
        lines.append(f"signed {delivery.kept}; no node runs here and no peer answered, so it waits in {where}")
        lines.append(f"hand it in with: p2pcap bootstrap serve {workspace.directory}")
    return lines


def _ticket_key(directory: Path, text: str) -> bytes:
    """The key that a ticket carries. Raises TicketError, ConfigError for one without a key, or of another project, and
    for a label that no ticket here has."""
    from p2pcap.cli.join import ticket_text
    from p2pcap.project.ticket import Ticket
    from p2pcap_bootstrap.inviting import LABEL
    from p2pcap_bootstrap.workspace import Workspace

    labelled = directory / "tickets" / f"{text}.ticket"
    is_label = Path(text).name == text and labelled.is_file()
    if not is_label and LABEL.fullmatch(text) and not Path(text).exists():
        raise ConfigError(f"There is no ticket called {text}. See p2pcap invite {directory} --list")
    ticket = Ticket.parse(ticket_text(str(labelled) if is_label else text))
    if ticket.root != Workspace(directory).project().hash:
        raise ConfigError(f"The ticket is of another project than {directory}. Name that one's folder.")
    if ticket.invitation is None:
        raise ConfigError("The ticket admits nobody by itself, so there is nothing to revoke.")
    return ticket.invitation.key.public


def _seconds(text: str) -> int:
    """A date, a date and time, or unix seconds, in UTC. Raises ConfigError."""
    if not text:
        return 0
    if text.isdecimal() and len(text) < 16:
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--since {text} is no time. Write 2027-01-31, or 2027-01-31T18:00.") from error
    return max(0, int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()))
