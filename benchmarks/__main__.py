"""The command `python -m benchmarks`.

Numbers go to standard output, everything for people to standard error. A goal that does not hold is said, and is no
error: on a busy machine a number proves little.
"""

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks.registry import ALL, BENCHMARKS, chosen, load
from benchmarks.report import machine
from p2pcap.errors import P2pcapError
from p2pcap.node.run import first_error

FAILED, BAD_USE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when every benchmark came to its end, 1 when one broke, 2 for an unknown name."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        width = max(map(len, BENCHMARKS)) + 1
        print("\n".join(f"{name:<{width}}{what}" for name, what in BENCHMARKS.items()))
        return 0
    try:
        names = chosen(options.name)
    except P2pcapError as error:
        print(error, file=sys.stderr)
        return BAD_USE
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name in names:
            _run(name, options.json)
    except P2pcapError as error:
        print(f"{name} broke: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _run(name: str, as_json: bool) -> None:
    print(f"{machine()}  {name} begins", file=sys.stderr)
    try:
        for line in load(name)():
            print(line.json() if as_json else line.text(), flush=True)
    except BaseExceptionGroup as group:  # of a benchmark that runs trio
        raise first_error(group) from group
    print(f"{machine()}  {name} ends", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure p2pcap beside its baselines.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="say what there is")
    run = commands.add_parser("run", help="run one benchmark, or all")
    run.add_argument("name", help=f"a name from `list`, or {ALL}")
    run.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
