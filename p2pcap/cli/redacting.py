"""What may be shown to everybody of what a machine says of itself: `p2pcap doctor --redacted`.

Pure. Always holds: paths, addresses, names of hosts and users, keys, peer ids, tickets, tokens and hashes become a word
that says what stood there; versions, sizes and sentences stay. Rather too much is taken out than too little.
"""

import re
from collections.abc import Sequence

TICKET = (re.compile(r"p2pcap:[a-z0-9]{8,}", re.IGNORECASE), "<ticket>")
TOKEN = (re.compile(r"\b(?:hf|sk|ghp|github_pat)[_-][A-Za-z0-9_-]{8,}"), "<token>")
MULTIADDR = (re.compile(r"/(?:ip4|ip6|dns|dns4|dns6|dnsaddr)/[^\s,;()]+"), "<address>")
URL = (re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s,;()'\"]+", re.IGNORECASE), "<url>")
PEER = (re.compile(r"\b(?:12D3Koo|Qm)[1-9A-HJ-NP-Za-km-z]{20,}"), "<peer>")
HEX = (re.compile(r"\b[0-9a-f]{16,}\b", re.IGNORECASE), "<hash>")
PATH = (re.compile(r"(?<![\w.])~?/[^\s,;:()'\"]+"), "<path>")
IPV4 = (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "<address>")
IPV6 = (
    re.compile(r"(?<![\w:])(?=[0-9a-f:]*::|(?:[0-9a-f]{1,4}:){4})[0-9a-f:]{3,39}(?:%\w+)?(?![\w:])", re.IGNORECASE),
    "<address>",
)

KINDS = (TICKET, TOKEN, URL, MULTIADDR, PEER, HEX, PATH, IPV6, IPV4)
"""In this order: what holds others comes first."""

SHORTEST = 3
"""Letters of a name that is taken out; a shorter one is in many words."""


def redacted(text: str, names: Sequence[str] = ()) -> str:
    """`text` without what tells who or where; `names` are of this user, machine, node and project,
    and its own paths, which may hold spaces."""
    for name in sorted(set(names), key=len, reverse=True):
        if len(name) >= SHORTEST:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<name>", text, flags=re.IGNORECASE)
    for pattern, word in KINDS:
        text = pattern.sub(word, text)
    return text
