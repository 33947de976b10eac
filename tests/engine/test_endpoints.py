"""Addresses of servers and their keys: what is taken, and that no text gives a secret away."""

import pytest

from p2pcap.engine.endpoints import Endpoint, keys, parse, reach_of, take_keys, warnings
from p2pcap.errors import ConfigError

SECRET = "sk-very-secret"


def one(url: str, **variables: str) -> Endpoint:
    return parse([url], variables)[0]


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/models"),
        ("http://127.0.0.1:8000/v1///", "http://127.0.0.1:8000/v1/models"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/models"),
        ("https://api.example.com/v1/chat/completions", "https://api.example.com/v1/models"),
        ("https://api.example.com/v1/chat/completions/", "https://api.example.com/v1/models"),
        ("HTTP://LocalHost:1234/v1", "http://localhost:1234/v1/models"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/models"),
        ("https://a.example/x?api-version=2026-01-01", "https://a.example/x/models?api-version=2026-01-01"),
    ],
)
def test_an_address_leads_to_the_paths_below_it(url: str, asked: str) -> None:
    assert one(url).url("/models") == asked


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:8000", "ftp://a.example/v1", "unix:///run/x.sock", "file:///etc/passwd", "http://", "http:///v1",
        "http://a.example:99999/v1", "http://a.example:0/v1", "http://a.example:x/v1", "http://[::1/v1",
        "http://a.example/v1#x", "http://a example/v1", "http://a.example/\nX: y", "http://ä.example/v1",
        f"http://user:{SECRET}@a.example/v1", f"https://{SECRET}@a.example/v1", f"https://a.example/v1?api_key={SECRET}",
        f"https://a.example/v1?key={SECRET}", f"https://a.example/v1?X-Auth-Token={SECRET}",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        one(url)
    assert SECRET not in str(refused.value)
    assert str(refused.value).startswith("Address 1 of the servers ")


def test_an_address_is_given_once() -> None:
    with pytest.raises(ConfigError, match=r"http://a\.example/v1 is given twice"):
        parse(["http://a.example/v1", "http://a.example/v1/"], {})
    with pytest.raises(ConfigError, match="17 addresses"):
        parse([f"http://a{number}.example" for number in range(17)], {})


def test_each_address_has_its_own_key_or_that_of_all() -> None:
    urls = ["https://a.example/v1", "https://b.example/v1"]
    found = parse(urls, {"P2PCAP_OPENAI_KEY_1": "second", "P2PCAP_OPENAI_KEY": "all", "OPENAI_API_KEY": "foreign"})
    assert [endpoint.key for endpoint in found] == ["all", "second"]


@pytest.mark.parametrize(
    ("urls", "key"),
    [
        (["https://a.example/v1"], "foreign"),
        (["http://127.0.0.1:8000/v1"], ""),
        (["http://a.example/v1"], ""),
        (["https://a.example/v1", "https://b.example/v1"], ""),
    ],
    ids=["a single https one", "loopback", "in clear", "several"],
)
def test_the_key_of_other_programs_goes_to_a_single_https_address_only(urls: list[str], key: str) -> None:
    assert {endpoint.key for endpoint in parse(urls, {"OPENAI_API_KEY": "foreign"})} == {key}


@pytest.mark.parametrize("host", ["a.example", "8.8.8.8", "[2606:4700::1111]", "1.1.1.1"])
def test_no_key_goes_to_a_public_host_in_clear(host: str) -> None:
    with pytest.raises(ConfigError, match=r"in clear\. Use https, or unset P2PCAP_OPENAI_KEY") as refused:
        one(f"http://{host}/v1", P2PCAP_OPENAI_KEY=SECRET)
    assert SECRET not in str(refused.value)
    assert one(f"http://{host}/v1").key == ""
    assert one(f"https://{host}/v1", P2PCAP_OPENAI_KEY=SECRET).key == SECRET


def test_a_key_in_clear_on_a_private_network_is_warned_of() -> None:
    urls = ["http://192.168.1.7:8000/v1", "http://gpubox:8000/v1", "http://127.0.0.1/v1", "https://a.example/v1"]
    lines = warnings(parse(urls, {"P2PCAP_OPENAI_KEY": SECRET}))
    assert [line.split()[3] for line in lines] == ["http://192.168.1.7:8000/v1", "http://gpubox:8000/v1"]
    assert SECRET not in "".join(lines)
    assert warnings(parse(urls, {})) == []


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", "k" * 4_097])
def test_what_is_no_key_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ConfigError, match="P2PCAP_OPENAI_KEY holds no key") as refused:
        one("https://a.example/v1", P2PCAP_OPENAI_KEY=key)
    assert key not in str(refused.value)


def test_no_text_of_an_endpoint_has_its_key_or_query() -> None:
    endpoint = one("https://a.example/v1?version=7", P2PCAP_OPENAI_KEY=SECRET)
    said = f"{endpoint} {endpoint!r} {endpoint.name} {endpoint.host}"
    assert SECRET not in said
    assert "version" not in said
    assert endpoint.cleaned(f"Incorrect key {SECRET}.".encode()) == b"Incorrect key ...."


def test_keys_are_taken_out_of_the_environment() -> None:
    environment = {"P2PCAP_OPENAI_KEY": "a", "P2PCAP_OPENAI_KEY_12": "b", "OPENAI_API_KEY": "", "PATH": "/bin",
                   "P2PCAP_OPENAI_KEYS": "not ours"}  # fmt: skip
    assert keys(environment) == {"P2PCAP_OPENAI_KEY": "a", "P2PCAP_OPENAI_KEY_12": "b"}
    assert take_keys(environment) == {"P2PCAP_OPENAI_KEY": "a", "P2PCAP_OPENAI_KEY_12": "b"}
    assert environment == {"PATH": "/bin", "P2PCAP_OPENAI_KEYS": "not ours"}


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("127.0.0.1", "loopback"), ("127.9.9.9", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"),
        ("localhost", "loopback"), ("a.localhost", "loopback"), ("10.0.0.1", "private"), ("172.16.0.1", "private"),
        ("192.168.0.1", "private"), ("100.64.0.1", "private"), ("169.254.1.1", "private"), ("fd00::1", "private"),
        ("fe80::1%eth0", "private"), ("::ffff:10.0.0.1", "private"), ("gpubox", "private"), ("gpu.local", "private"),
        ("gpu.home.arpa", "private"), ("gpu.local.", "private"), ("8.8.8.8", "public"), ("::ffff:8.8.8.8", "public"),
        ("api.example.com", "public"), ("local", "private"), ("notlocalhost.example", "public"),
    ],
)  # fmt: skip
def test_how_far_away_a_host_is(host: str, reach: str) -> None:
    assert reach_of(host) == reach
