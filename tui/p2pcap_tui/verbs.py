"""What the UI can have the node do: pause, resume, finish, stop. Each asks the node and says what came of it.

Always holds: nothing is stopped without a question; what the node refuses is said in its own words.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from p2pcap.cli.amounts import duration
from p2pcap.node.client import Client
from p2pcap_tui.dialogs import Confirm
from p2pcap_tui.state import is_paused

if TYPE_CHECKING:
    from p2pcap_tui.app import TerminalUI

STOP = "Finish what the node has in hand, and stop it?"


class Verb(NamedTuple):
    """A verb as the palette names it."""

    title: str
    about: str
    do: Callable[["TerminalUI"], Awaitable[None]]


async def pause(ui: "TerminalUI", seconds: float | None = None) -> None:
    """No work from now on, for so long or until it is resumed."""

    def question(client: Client) -> str:
        client.pause(seconds)
        return f"paused for {duration(seconds)}" if seconds is not None else "paused; p goes on"

    await _said(ui, question)


async def resume(ui: "TerminalUI") -> None:
    """End a pause."""

    def question(client: Client) -> str:
        why = client.resume()
        return f"the pause is over, but: {why}" if why else "it goes on"

    await _said(ui, question)


async def toggle(ui: "TerminalUI") -> None:
    """Pause, or end a pause."""
    await (resume(ui) if is_paused(ui.moment) else pause(ui))


async def finish(ui: "TerminalUI") -> None:
    """Do what is in hand, then pause."""

    def question(client: Client) -> str:
        client.finish()
        return "it finishes what it has in hand, then pauses; p goes on"

    await _said(ui, question)


async def stop(ui: "TerminalUI") -> None:
    """End the node politely, if that is meant."""
    if await ui.push_screen_wait(Confirm(STOP)):
        await _said(ui, lambda client: f"process {client.stop()} finishes what it has in hand, and ends")


async def _said(ui: "TerminalUI", question: Callable[[Client], str]) -> None:
    answer = await ui.ask(question)
    if answer is not None:
        ui.say(answer)


def _pause_for(seconds: float) -> Callable[["TerminalUI"], Awaitable[None]]:
    async def do(ui: "TerminalUI") -> None:
        await pause(ui, seconds)

    return do


VERBS = (
    Verb("Pause", "No new work until you resume; what is in hand is given back", pause),
    *[
        Verb(f"Pause for {text}", "No new work for so long; it goes on by itself", _pause_for(3_600 * hours))
        for text, hours in (("half an hour", 0.5), ("2 hours", 2), ("8 hours", 8))
    ],
    Verb("Resume", "End a pause", resume),
    Verb("Finish, then pause", "Do what is in hand, take no more", finish),
    Verb("Finish and stop the node", "Do what is in hand, then end the node", stop),
)
