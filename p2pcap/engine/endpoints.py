"""Where servers with OpenAI's interface are, and the keys that open them.

An address is the part before `/chat/completions`: `http://127.0.0.1:8000/v1`. Keys come from the environment and from
nowhere else, since addresses and options end up in shell histories, process lists and logs.

Always holds: no text made here, an Endpoint's own included, has a key or an address's query in it; and no key goes to
a public host in clear.
"""

import ipaddress
import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from p2pcap.errors import ConfigError

KEY = "P2PCAP_OPENAI_KEY"
"""The variable with the key of every address; with _0, _1, ... behind it, of the first, the second, ..."""

FOREIGN_KEY = "OPENAI_API_KEY"
"""The variable of other programs. Its owner did not mean it for any address there is, so it is taken only for a single
https one."""

MAX_ENDPOINTS = 16
MAX_KEY = 4_096
"""Characters."""

PATH = "/chat/completions"

Reach = Literal["loopback", "private", "public"]

_LOCAL_ENDINGS = (".local", ".lan", ".internal", ".home.arpa")
"""Names that only a private network knows (RFC 6762, RFC 8375, and ICANN's reservation of .internal)."""

_SECRET = re.compile(r"key|token|secret|passw|sig|auth|cred", re.IGNORECASE)
"""What the name of a query's parameter that is a credential has in it."""


@dataclass(frozen=True)
class Endpoint:
    """One server. `name` is the address for people; `reach` says who can listen on the way there."""

    name: str
    reach: Reach
    _base: str = field(repr=False)
    _query: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    def url(self, path: str) -> str:
        """The address of `path`, such as "/models"."""
        return self._base + path + (f"?{self._query}" if self._query else "")

    @property
    def host(self) -> str:
        """The host, and its port where the address has one."""
        return urlsplit(self._base).netloc

    @property
    def encrypted(self) -> bool:
        """Whether what is sent there is."""
        return self._base.startswith("https:")

    def cleaned(self, body: bytes) -> bytes:
        """What the server answered without the key, should it repeat it."""
        return body.replace(self.key.encode(), b"...") if self.key else body


def keys(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that hold keys."""
    return {name: value for name, value in environment.items() if _holds_key(name) and value}


def take_keys(environment: MutableMapping[str, str]) -> dict[str, str]:
    """The variables that hold keys, which are not in `environment` any more: what is started later gets none."""
    taken = keys(environment)
    for name in [name for name in environment if _holds_key(name)]:
        del environment[name]
    return taken


def parse(urls: Sequence[str], keys: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """The servers at `urls`, each with its key. Raises ConfigError for an address or a key that cannot be used."""
    if len(urls) > MAX_ENDPOINTS:
        raise ConfigError(f"There are {len(urls)} addresses of servers; at most {MAX_ENDPOINTS} are asked.")
    endpoints = tuple(_endpoint(url, number, len(urls), keys) for number, url in enumerate(urls))
    names = [endpoint.url("") for endpoint in endpoints]
    if twice := next((one for one in endpoints if names.count(one.url("")) > 1), None):
        raise ConfigError(
            f"The address {twice.name} is given twice. Give it once; more requests go there by themselves."
        )
    return endpoints


def warnings(endpoints: Sequence[Endpoint]) -> list[str]:
    """What a volunteer should know of these servers, a line each."""
    return [
        f"The key for {one.name} is sent in clear through your network. Use https there if others can listen."
        for one in endpoints
        if one.key and not one.encrypted and one.reach == "private"
    ]


def _holds_key(name: str) -> bool:
    return name == FOREIGN_KEY or re.fullmatch(rf"{KEY}(_\d+)?", name) is not None


def _endpoint(url: str, number: int, count: int, keys: Mapping[str, str]) -> Endpoint:
    parts = _split(url, number)
    host = parts.hostname or ""
    path = parts.path.rstrip("/").removesuffix(PATH).rstrip("/")
    base = f"{parts.scheme}://{_netloc(parts)}{path}"
    plain = Endpoint(base, reach_of(host), base, parts.query)
    variable, key = _key(keys, number, alone=count == 1 and plain.encrypted)
    if not key:
        return plain
    if len(key) > MAX_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{variable} holds no key: it has blanks or characters that no key has. Correct it.")
    if plain.reach == "public" and not plain.encrypted:
        raise ConfigError(f"The key for {base} would be sent in clear. Use https, or unset {variable}.")
    return Endpoint(plain.name, plain.reach, base, parts.query, key)


def _split(url: str, number: int) -> SplitResult:
    """The parts of an address. A refused one is named by its place, since it may hold a password."""
    which = f"Address {number + 1} of the servers"
    if not url.isascii() or not url.isprintable() or any(letter in url for letter in ' "<>\\^`{|}'):
        raise ConfigError(f"{which} has characters that no address has. Write it like http://127.0.0.1:8000/v1.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{which} is none. Write it like http://127.0.0.1:8000/v1.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError(f"{which} is no http or https address. Write it like http://127.0.0.1:8000/v1.")
    secret = any(_SECRET.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    if "@" in parts.netloc or secret:
        raise ConfigError(f"{which} has a password or a key in it. Leave it out, and put the key into {KEY}.")
    if parts.fragment:
        raise ConfigError(f"{which} has a part behind a #. Leave it out.")
    return parts


def _netloc(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"


def _key(keys: Mapping[str, str], number: int, alone: bool) -> tuple[str, str]:
    """The variable with the key of that address, and the key; "" for none."""
    names = [f"{KEY}_{number}", KEY, *([FOREIGN_KEY] if alone else [])]
    return next(((name, keys[name]) for name in names if keys.get(name)), ("", ""))


def reach_of(host: str) -> Reach:
    """How far away a host is, by its address or its name; an unknown name is public."""
    name = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        if name == "localhost" or name.endswith(".localhost"):
            return "loopback"
        return "private" if "." not in name or name.endswith(_LOCAL_ENDINGS) else "public"
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return "loopback"
    return "public" if address.is_global else "private"
