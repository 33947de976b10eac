"""Every error p2pcap raises on purpose.

    P2pcapError
    ├── ConfigError            project.yaml, an option or a path given by the user is wrong
    │   ├── TicketError        the text is no ticket, is damaged, or is out of date
    │   ├── ModelError         the model directory or name cannot be used
    │   └── QueryError         the SQL is refused or does not run
    ├── KeyFileError           a key file is missing, unreadable, damaged or readable by others
    ├── UntrustedError         a signature, hash or project identity does not hold
    │   └── Misdescribed       a signed header says what its body is not: its author's fault, not the server's
    ├── CodecError             bytes are not strict DAG-CBOR of the expected record
    ├── FrameError             bytes on a socket break the framing or its limits
    ├── NotRunningError        no node answers on the control socket
    ├── StoreError             the database file cannot be opened or written
    ├── SwarmError             the network layer cannot do what was asked
    │   ├── AddressInUse       the listening port is taken
    │   ├── Unreachable        no connection to that peer
    │   └── RequestFailed      a peer refused, broke off or was too slow
    ├── EngineError            the captioning engine cannot do what was asked
    │   ├── EngineStartError   it did not come up, and trying again will not help
    │   └── EngineDied         its process went away; what it had in hand may be asked again
    ├── SourceError            a file of images cannot be read here: the fault of the way there, or of this machine
    │   ├── SourceGone         the file is not there any more, or is not the one that was planned
    │   ├── SourceDenied       this machine may not read it; another one may
    │   └── SourceUnavailable  not now; it may be read later
    └── ImageError             one image cannot be captioned: the image's own fault
        └── ImageUnavailable   it cannot be had now; it may be had later, or by somebody else
            └── ImageResting   nobody was asked for it: whoever has it is to be left alone for a while

A message is one sentence that says what happened, and a second that says what to do next.
`p2pcap.cli.exits` maps each class to a documented exit code. Foreign exceptions are turned into one of these
where they enter, so whatever else reaches the command line is a defect and shows its traceback in the log.
"""


class P2pcapError(Exception):
    """Base of the tree above; `str()` of it is fit to be shown to the user."""


class ConfigError(P2pcapError):
    """Something the user wrote or named is wrong."""


class TicketError(ConfigError):
    """The text is no ticket, is damaged, or is out of date."""


class ModelError(ConfigError):
    """The model directory or name cannot be used."""


class QueryError(ConfigError):
    """The SQL is refused or does not run."""


class KeyFileError(P2pcapError):
    """A key file is missing, unreadable, damaged or readable by other users."""


class UntrustedError(P2pcapError):
    """A signature, a hash or a project identity does not hold."""


class Misdescribed(UntrustedError):
    """A signed header says of its body what is not so: the fault of its author, not of whoever served the body."""


class CodecError(P2pcapError):
    """Bytes are not the strict DAG-CBOR encoding of the expected record."""


class FrameError(P2pcapError):
    """Bytes on a socket break the framing or its limits."""


class NotRunningError(P2pcapError):
    """No node answers on the control socket."""


class StoreError(P2pcapError):
    """The database file cannot be opened or written."""


class SwarmError(P2pcapError):
    """The network layer cannot do what was asked."""


class AddressInUse(SwarmError):
    """The listening port is taken."""


class Unreachable(SwarmError):
    """No connection to that peer could be made."""


class RequestFailed(SwarmError):
    """A peer refused a request, broke off or was too slow."""


class EngineError(P2pcapError):
    """The captioning engine cannot do what was asked."""


class EngineStartError(EngineError):
    """The engine did not come up, and trying again will not help."""


class EngineDied(EngineError):
    """The engine's process went away; what it had in hand may be asked again once it is ready."""


class SourceError(P2pcapError):
    """A file that holds images cannot be read on this machine."""


class SourceGone(SourceError):
    """The file is not there any more, or is not the one that was planned. Nobody else will find it either."""


class SourceDenied(SourceError):
    """This machine may not read the file; another one may."""


class SourceUnavailable(SourceError):
    """The file cannot be read now; it may be later."""


class ImageError(P2pcapError):
    """One image cannot be captioned, through its own fault.

    `code` is a short stable word for tables; docs/protocol.md lists all of them. `reason` is one line for people, free
    of paths and of what strangers wrote. Both travel in the signed error row.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class ImageUnavailable(ImageError):
    """The image cannot be had now; it may be had later, or by somebody else."""


class ImageResting(ImageUnavailable):
    """Nobody was asked for the image: whoever has it is to be left alone for `seconds`. That counts as no try."""

    def __init__(self, code: str, reason: str, seconds: float) -> None:
        super().__init__(code, reason)
        self.seconds = seconds
