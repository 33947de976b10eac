"""Exit codes: one table from error class to code, shown in `p2pcap --help` and docs/cli.md.

Always holds: every class in p2pcap.errors has exactly one code, that of its nearest ancestor in the table.
"""

from p2pcap.errors import (
    ConfigError,
    EngineError,
    KeyFileError,
    NotRunningError,
    P2pcapError,
    SwarmError,
    UntrustedError,
)

OK = 0
FAILED = 1
DIFFERS = 3
INTERRUPTED = 130

CODES: dict[type[P2pcapError], int] = {
    P2pcapError: FAILED,
    ConfigError: 2,
    KeyFileError: 2,
    NotRunningError: 4,
    UntrustedError: 5,
    EngineError: 6,
    SwarmError: 7,
}

MEANINGS: dict[int, str] = {
    OK: "done",
    FAILED: "failed; the message says why",
    2: "a command, option, path, ticket, key file, model or query is wrong",
    DIFFERS: "fsck: the database differs from what its statements say",
    4: "no node is running, or it does not answer",
    5: "a signature, hash or project identity does not hold",
    6: "the engine or the hardware cannot do it",
    7: "the network: address in use, or no peer can be reached",
    INTERRUPTED: "interrupted",
}


def exit_code(error: BaseException) -> int:
    """The process's exit code when `error` ended it."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), FAILED)


def explained() -> str:
    """The codes and their meanings, for people, a line each."""
    return "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())
