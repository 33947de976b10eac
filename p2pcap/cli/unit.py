"""The systemd user unit of a node: which words it has, and how they are written.

Pure. Always holds: whatever a folder is called and whatever a variable holds, it stays one word of the unit (systemd.
syntax(7), systemd.service(5)); nothing secret is written into it.
"""

from collections.abc import Mapping, Sequence

from p2pcap.cli.exits import INTERRUPTED
from p2pcap.errors import ConfigError

CARRIED = (
    "P2PCAP_HOME",
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "SSL_CERT_FILE",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
)
"""Variables that say where things are; a service does not have those of the terminal it was installed from. Tokens and
proxies, which may hold passwords, are never written: they stand in `SECRETS`."""

SECRETS = "%h/.config/p2pcap/environment"
"""A file of NAME=VALUE lines that the unit reads if it is there; %h: the user's home."""

HOPELESS = (2, 5, 6)
"""Exit codes after which starting again would end the same (p2pcap.cli.exits): misuse, distrust, hardware."""

FINISH_WITHIN = 300
"""Seconds a node gets to finish what it has in hand before it is killed."""

TEXT = """\
# Made by `p2pcap service install`, which makes it anew; your own settings: systemctl --user edit {name}
[Unit]
Description=p2pcap volunteer in {described}
StartLimitIntervalSec=600
StartLimitBurst=4

[Service]
ExecStart={command}
WorkingDirectory=%h
{environment}EnvironmentFile=-{secrets}
Restart=on-failure
RestartSec=5
RestartPreventExitStatus={hopeless}
SuccessExitStatus={interrupted}
KillMode=mixed
KillSignal=SIGINT
TimeoutStopSec={finish}
Nice=10
NoNewPrivileges=true

[Install]
WantedBy=default.target
"""


def unit(name: str, command: Sequence[str], environment: Mapping[str, str], described: str) -> str:
    """The file of the unit `name`, which runs `command`. Raises ConfigError for a word that no unit can hold."""
    carried = "".join(f"Environment={_word(f'{key}={environment[key]}')}\n" for key in CARRIED if environment.get(key))
    return TEXT.format(
        name=name,
        described=_plain(described).replace("%", "%%"),
        command=" ".join(_word(word).replace("$", "$$") for word in command),
        environment=carried,
        secrets=SECRETS,
        hopeless=" ".join(map(str, HOPELESS)),
        interrupted=INTERRUPTED,
        finish=FINISH_WITHIN,
    )


def _word(text: str) -> str:
    """One word, whatever is in it: in quotes, without specifiers."""
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _plain(text: str) -> str:
    """The text itself. Raises ConfigError for one of several lines, or with characters that are none."""
    if not text.isprintable():
        raise ConfigError(f"{text!r} holds what cannot stand in a unit of systemd. Choose another name for it.")
    return text
