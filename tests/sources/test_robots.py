"""What sites say of robots, and how much of it one site can make us read."""

import time
from collections.abc import Mapping

import httpx2
import pytest
import trio
from protego import Protego

from p2pcap.errors import ImageError, ImageResting, ImageUnavailable
from p2pcap.project.records import FetchRules
from p2pcap.sources.locations import WebFile
from p2pcap.sources.open_files import Access, open_files
from p2pcap.sources.web.limits import Limits
from p2pcap.sources.web.robots import MOST_BYTES, MOST_RULES, MOST_SITES, Robots, about_us, opted_out
from tests.sources.web_server import Route, WebServer, endless, head, image, in_turn, redirect, reply, stalls

HASTE = Limits(connect=5.0, read=1.0, grace=2.0, pause=0.001, rest=60.0)
IMAGE = b"\xff\xd8\xff image"


def codes(server: WebServer, *paths: str, robots: bool = True) -> list[str]:
    """For each path the code of its error, or "" for the image."""

    async def each() -> list[str]:
        found = []
        rules = FetchRules(hosts=(server.place,), robots=robots)
        async with open_files(None, Access(rules), HASTE) as files:
            for path in paths:
                try:
                    assert await files.image(WebFile(server.url(path)), 1_000) == IMAGE
                    found.append("")
                except ImageError as error:
                    found.append(error.code)
        return found

    return trio.run(each)


def served(robots: Route | str, more: Mapping[str, Route] | None = None) -> WebServer:
    """A site with a robots.txt, and images at all other paths."""
    route = reply(robots.encode()) if isinstance(robots, str) else robots
    return WebServer({"/robots.txt": route, **(more or {})}, fallback=image(IMAGE))


SOME = """
# about some
User-agent: otherbot
Disallow: /

User-agent: P2Pcap   # that is us
User-agent: another
Disallow: /private
Allow: /private/open
Disallow: *.secret$
Disallow: /%C3%A4

User-agent: *
Disallow: /
"""


def test_the_rules_for_us_are_kept() -> None:
    with served(SOME) as server:
        asked = ["/a.jpg", "/private/a.jpg", "/private/open/a.jpg", "/x.secret", "/x.secret.jpg", "/ä/1.jpg"]
        assert codes(server, *asked) == ["", "opted-out", "", "opted-out", "", "opted-out"]
    assert server.asked("/robots.txt") == 1
    assert server.asked("/private/a.jpg") == 0


def test_the_rules_for_everybody_are_kept() -> None:
    with served("User-agent: p2pcapture\nDisallow: /a\n\nUser-agent: *\nDisallow: /b") as server:
        assert codes(server, "/a", "/b") == ["", "opted-out"]


def test_the_rules_for_others_are_not_ours() -> None:
    with served("User-agent: p2pcap\nDisallow: /a\nUser-agent: otherbot\nDisallow: /b") as server:
        assert codes(server, "/a", "/b") == ["opted-out", ""]


def test_an_empty_rule_for_us_allows_everything() -> None:
    with served("User-agent: *\nDisallow: /\n\nUser-agent: p2pcap\nDisallow:\n") as server:
        assert codes(server, "/a.jpg") == [""]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_site_without_rules_keeps_nobody(status: int) -> None:
    with served(reply(b"User-agent: *\nDisallow: /", status)) as server:
        assert codes(server, "/a.jpg") == [""]


@pytest.mark.parametrize("route", [reply(b"", 500), reply(b"", 503), stalls()])
def test_a_site_that_cannot_say_is_not_asked_now(route: Route) -> None:
    with served(route) as server:
        found = codes(server, "/a.jpg", "/b.jpg")
        assert found[0] in ("server-error", "busy", "timeout")
        assert found[0] == found[1]
    assert server.asked("/robots.txt") == HASTE.tries
    assert server.asked("/a.jpg") == 0


def test_images_of_a_site_that_wants_quiet_were_not_asked_for() -> None:
    """But the one whose turn it was to ask for the rules; so each image has its tries in the end."""
    with served(reply(b"", 429, {"Retry-After": "300"})) as server:

        async def three() -> list[bool]:
            found = []
            async with open_files(None, Access(FetchRules(hosts=(server.place,))), HASTE) as files:
                for path in ("/a.jpg", "/b.jpg", "/c.jpg"):
                    with pytest.raises(ImageUnavailable, match="busy") as raised:
                        await files.image(WebFile(server.url(path)), 1_000)
                    found.append(isinstance(raised.value, ImageResting))
            return found

        assert trio.run(three) == [False, True, True]
    assert [request.path for request in server.requests] == ["/robots.txt"]


def test_a_site_that_can_say_again_is_asked_again() -> None:
    with served(in_turn(reply(b"", 500), reply(b"User-agent: *\nDisallow: /a"))) as server:
        assert codes(server, "/a.jpg", "/b.jpg") == ["opted-out", ""]


def test_rules_that_lie_elsewhere() -> None:
    with served(redirect("/rules"), {"/rules": reply(b"User-agent: *\nDisallow: /a")}) as server:
        assert codes(server, "/a.jpg", "/b.jpg") == ["opted-out", ""]


def test_each_hop_of_a_redirect_is_asked_for() -> None:
    with served("User-agent: *\nDisallow: /a") as there:
        with served("", {"/go": redirect(f"http://127.0.0.1:{there.port}/a.jpg")}) as here:

            async def one() -> None:
                rules = FetchRules(hosts=(here.place, there.place))
                async with open_files(None, Access(rules), HASTE) as files:
                    with pytest.raises(ImageError, match="opted-out"):
                        await files.image(WebFile(here.url("/go")), 1_000)

            trio.run(one)
    assert [request.path for request in there.requests] == ["/robots.txt"]


def test_a_project_may_ask_for_no_robots() -> None:
    with served("User-agent: *\nDisallow: /", {"/b.jpg": image(IMAGE, {"X-Robots-Tag": "noai"})}) as server:
        assert codes(server, "/a.jpg", "/b.jpg", robots=False) == ["", ""]
    assert server.asked("/robots.txt") == 0


def test_many_images_ask_for_the_rules_once() -> None:
    with served("User-agent: *\nDisallow: /x") as server:

        async def many() -> None:
            async with open_files(None, Access(FetchRules(hosts=(server.place,))), HASTE) as files:
                async with trio.open_nursery() as nursery:
                    for number in range(50):
                        nursery.start_soon(files.image, WebFile(server.url(f"/{number}")), 1_000)

        trio.run(many)
    assert (server.asked("/robots.txt"), len(server.requests)) == (1, 51)


def test_an_endless_robots_txt_is_read_up_to_a_limit() -> None:
    begin = head(200) + b"User-agent: *\nDisallow: /a\n"
    with served(endless(begin, b"# more\n" * 1_000)) as server:
        assert codes(server, "/a.jpg", "/b.jpg") == ["opted-out", ""]
    assert server.sent["/robots.txt"] < 12 * MOST_BYTES


def test_half_a_megabyte_of_names_and_rules_is_read_in_no_time() -> None:
    """Compared with each other by the parser alone, these would take hours and gigabytes."""
    names = [f"User-agent: robot{number}" for number in range(12_000)]
    lines = [*names, "User-agent: p2pcap", *("Disallow: /*a*b*c*d" for _ in range(12_000))]
    kept = list(about_us(lines))
    assert (kept[0], len(kept)) == ("User-agent: p2pcap", 1 + MOST_RULES)
    began = time.process_time()
    Protego.parse("\n".join(kept)).can_fetch("http://a/" + "abcd" * 500, "p2pcap")
    assert time.process_time() - began < 5, "hours without it; this is no measurement"


def test_the_parser_compares_every_name_with_every_rule() -> None:
    """The defect that `about_us` keeps away from us."""

    def rules(count: int) -> int:
        text = "\n".join([*(f"User-agent: r{n}" for n in range(count)), *(f"Disallow: /{n}" for n in range(count))])
        return sum(len(each._rules) for each in Protego.parse(text)._user_agents.values())

    assert rules(200) == 200 * 200


def test_the_table_of_sites_has_a_bound() -> None:
    class Never:
        """A client whose every site has no rules."""

        def get(self, *_: object, **__: object) -> None:
            raise ImageError("gone", "There is none.")

    async def many() -> Robots:
        robots = Robots(Never(), HASTE)  # type: ignore[arg-type]
        for number in range(MOST_SITES + 10):
            await robots.check(httpx2.URL(f"http://host{number}/a.jpg"))
        return robots

    assert len(trio.run(many)._sites) == MOST_SITES


@pytest.mark.parametrize("tag", ["noai", "NoImageAI", "all, noindex", "noimageindex", "p2pcap: noai", "*: none"])
def test_a_tag_that_keeps_us_out(tag: str) -> None:
    assert opted_out(["max-snippet: 3", tag])
    with served("", {"/a.jpg": image(IMAGE, {"X-Robots-Tag": tag})}) as server:
        assert codes(server, "/a.jpg") == ["opted-out"]


@pytest.mark.parametrize(
    "tag",
    [
        "all",
        "nofollow",
        "otherbot: noai",
        "otherbot: nofollow, noindex",
        "max-image-preview: none",
        "index: noai x",
        "",
    ],
)
def test_a_tag_that_does_not(tag: str) -> None:
    assert not opted_out([tag])


def test_a_robots_txt_is_not_asked_of_a_host_that_is_refused() -> None:
    with served("") as server:

        async def one() -> None:
            async with open_files(None, Access(FetchRules()), HASTE) as files:
                with pytest.raises(ImageError) as raised:
                    await files.image(WebFile(server.url("/a.jpg")), 1_000)
                assert raised.value.code == "bad-address"
                assert not isinstance(raised.value, ImageUnavailable)

        trio.run(one)
    assert server.connections == 0
