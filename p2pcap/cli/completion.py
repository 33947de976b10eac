"""`p2pcap completion`: what lets a shell complete p2pcap's commands, options and files."""

import click

from p2pcap.cli.output import result, say

VARIABLE = "_P2PCAP_COMPLETE"
"""By which the shell asks the program (click.shell_completion)."""

INSTALLED = {
    "bash": "p2pcap completion bash > ~/.local/share/bash-completion/completions/p2pcap",
    "zsh": "p2pcap completion zsh > ~/.zfunc/_p2pcap     (with ~/.zfunc in $fpath before compinit)",
    "fish": "p2pcap completion fish > ~/.config/fish/completions/p2pcap.fish",
    "powershell": "p2pcap completion powershell >> $PROFILE",
}
"""How each shell is taught it for good."""


@click.command(
    epilog="""\b
Examples:
  source <(p2pcap completion bash)       for this shell alone
  p2pcap completion bash > ~/.local/share/bash-completion/completions/p2pcap
  p2pcap completion fish > ~/.config/fish/completions/p2pcap.fish"""
)
@click.argument("shell", type=click.Choice(list(INSTALLED)))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete what is typed after p2pcap, and say where to put it."""
    from click.shell_completion import get_completion_class

    from p2pcap.cli.main import program

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"This version of click completes nothing in {shell}. Install a newer one.")
    for line in kind(program, {}, "p2pcap", VARIABLE).source().split("\n"):
        result(line)
    say(f"to have it in every new shell: {INSTALLED[shell]}")
