"""What a row says of the answers of other tasks that its prompts used.

The canonical answer to an earlier stage may become another one later, so each row names, by hash, what was really put
into its prompts; whoever checks the row tries the answers that are known for the image.

Always holds: the hash is over all the answers that the task may use, in the order of their names.
"""

import hashlib
from collections.abc import Mapping

from p2pcap.codec import encode

LENGTH = 8
"""Bytes of the hash: enough to tell a handful of candidates apart."""


def given_hash(values: Mapping[str, str]) -> bytes:
    """The first 8 bytes of SHA-256 over the pairs of name ("stage.prompt") and answer, sorted, in DAG-CBOR."""
    return hashlib.sha256(encode(sorted(values.items()))).digest()[:LENGTH]
