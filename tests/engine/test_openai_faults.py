"""Servers that are slow, busy, gone, hostile or badly set up: what is asked again, and what is nobody's fault but the
image's."""

import asyncio
import json
import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from p2pcap.engine.base import EngineSettings
from p2pcap.engine.endpoints import KEY
from p2pcap.engine.exchange import MAX_ANSWER
from p2pcap.engine.openai import OpenAI
from p2pcap.engine.servers import TRIES
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError
from p2pcap.project.sampling import Sampling
from tests.engine.openai_server import (
    Asked,
    Behaviour,
    OpenAIServer,
    answer,
    drip,
    held,
    http,
    raw,
    reset,
    stall,
    status,
)
from tests.engine.test_openai import TASK, ask, opened, refusal, run

GOOD = json.dumps({"choices": [{"message": {"content": "a picture"}, "finish_reason": "stop"}]}).encode()
HTML = raw(http(200, b"<!doctype html><html><body>Welcome</body></html>", {"Content-Type": "text/html"}))
ELSEWHERE = {"Location": "http://127.0.0.1:9/v1/chat/completions"}


async def picky(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """As OpenAI's newer models, and vendors without seeds."""
    if "max_tokens" in asked.body:
        said = status(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    elif "seed" in asked.body:
        said = status(422, "Extra inputs are not permitted: seed")
    else:
        said = answer()
    await said(asked, writer)


async def asked_of(
    *behaviours: Behaviour, count: int = 1, answer_seconds: float = 60.0
) -> tuple[list[str], OpenAIServer]:
    """The answers to `count` questions at once of a server that behaves so first, and well afterwards."""
    async with OpenAIServer() as server, opened(server, answer_seconds=answer_seconds) as host:
        server.script.extend(behaviours)
        answers = await asyncio.gather(*(ask(host) for _ in range(count)))
    return [each.text for each in answers], server


@pytest.mark.parametrize(
    "behaviour",
    [
        status(429, "slow down", {"Retry-After": "0"}),
        status(503, "loading the model", {"retry-after-ms": "1"}),
        status(500, "out of memory"),
        status(502),
        reset(),
        raw(http(200, GOOD[:30], length=len(GOOD))),
        raw(http(200, GOOD[:30])),
        HTML,
        raw(http(200, b'{"choices": []}')),
        raw(http(200, b'{"choices": [{"message": {"content": 5}}]}')),
        raw(http(200, b"[" * 100_000)),
        raw(http(200, b'"\xff\xfe"')),
        raw(http(200, b"", {"Content-Encoding": "gzip"})),
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000),
        raw(http(200, GOOD + b" " * MAX_ANSWER), close=False),
    ],
    ids=[
        "429", "503", "500", "502", "reset", "broken off", "truncated", "html", "no choice", "wrong kind", "deep",
        "not UTF-8", "gzip", "another protocol", "endless header", "huge",
    ],
)  # fmt: skip
def test_a_question_that_a_server_fails_once_is_asked_again(behaviour: Behaviour) -> None:
    async def test() -> None:
        answers, server = await asked_of(behaviour)
        assert answers == ["a picture"]
        assert len(server.questions) == 2
        assert server.questions[0].body == server.questions[1].body

    run(test)


@pytest.mark.parametrize(
    "behaviour",
    [stall(), stall(http(200, b'{"cho', length=500)), drip(http(200, b" " * 5_000), every=0.02)],
    ids=["silent", "stuck", "dripping"],
)
def test_an_answer_that_takes_too_long_is_given_up(behaviour: Behaviour) -> None:
    async def test() -> None:
        answers, server = await asked_of(behaviour, answer_seconds=1.0)
        assert (answers, len(server.questions)) == (["a picture"], 2)

    run(test)


def test_a_question_under_which_servers_fail_again_and_again_ends_the_engine() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            server.always = status(500, "cannot process the image")
            with pytest.raises(EngineDied, match=rf"failed {TRIES} times under one question: http://127.*status 500"):
                await ask(host)
            assert len(server.questions) == TRIES

    run(test)


@pytest.mark.parametrize("code", [429, 503])
def test_a_question_waits_for_a_busy_server_as_long_as_it_takes(code: int) -> None:
    async def test() -> None:
        answers, server = await asked_of(*[status(code, "busy", {"Retry-After": "0"})] * (3 * TRIES))
        assert (answers, len(server.questions)) == (["a picture"], 3 * TRIES + 1)

    run(test)


@pytest.mark.parametrize("code", [400, 413, 422])
def test_an_image_that_is_refused_is_at_fault_alone(code: int, caplog: pytest.LogCaptureFixture) -> None:
    """What the server says of it is for the log: the reason goes into a row that is signed."""

    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            server.script.append(status(code, "The image\nis \x1b[31mtoo strange"))
            with pytest.raises(ImageError) as fault:
                await ask(host)
            assert fault.value.code == "rejected"
            assert fault.value.reason == "The server refuses the image."
            assert caplog.messages == [f"{server.url} refuses an image: The image is [31mtoo strange"]
            assert (await ask(host)).text == "a picture"
            assert len(server.probed) == 2, "at the start, and to find out whose fault it is"

    run(test)


def test_an_image_is_refused_only_when_every_server_refuses_it() -> None:
    async def test() -> None:
        async with OpenAIServer() as one, OpenAIServer() as two, opened(one, two) as host:
            one.always, two.always = status(413, "too large"), answer("seen")
            assert [(await ask(host)).text for _ in range(4)] == ["seen"] * 4
            two.always = status(400, "no")
            with pytest.raises(ImageError, match="rejected"):
                await ask(host)

    run(test)


def test_no_image_is_blamed_for_a_server_that_refuses_all() -> None:
    """One whose owner starts another model, or that unloads it, refuses every question from then on."""

    async def test() -> None:
        async with OpenAIServer() as server, opened(server, patience=1.0) as host:
            assert (await ask(host)).text == "a picture"
            server.always = server.probes = status(400, "No models loaded")
            asked = [asyncio.create_task(ask(host)) for _ in range(30)]
            done = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(each) for each in done} == {EngineDied}
            with pytest.raises(EngineDied, match=r"No server has answered for 1 s\. .*No models loaded"):
                await host.check()

    run(test)


def test_many_refused_images_are_found_out_together() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server, batch=30) as host:
            release = asyncio.Event()
            server.script.extend([held(release, status(400, "strange"))] * 4)
            asked = [asyncio.create_task(ask(host)) for _ in range(4)]
            await server.until(lambda: len(server.questions) == 4)
            release.set()
            done = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(each) for each in done} == {ImageError}
            assert len(server.probed) <= 1 + 4

    run(test)


def test_a_dead_server_costs_nothing_but_its_share() -> None:
    async def test() -> None:
        async with OpenAIServer() as one, OpenAIServer() as two, opened(one, two) as host:
            await asyncio.gather(*(ask(host) for _ in range(8)))
            assert one.questions
            assert two.questions
            await one.stop()
            answers = await asyncio.gather(*(ask(host) for _ in range(60)))
            assert len(answers) == 60
            assert host.load().notice == host.notice == f"{one.url} cannot be reached."
            await one.start()
            before = len(one.questions)
            while len(one.questions) == before:
                await asyncio.gather(*(ask(host) for _ in range(8)))
            assert host.load().notice == host.notice == ""

    run(test)


def test_nothing_is_lost_while_the_only_server_is_started_again() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server, batch=8) as host:
            release = asyncio.Event()
            server.always = held(release)
            asked = [asyncio.create_task(ask(host)) for _ in range(40)]
            await server.until(lambda: len(server.questions) >= 4)
            await server.stop()
            release.set()
            await server.start()
            answers = await asyncio.gather(*asked)
            assert {each.text for each in answers} == {"a picture"}
            assert len(server.probed) == 2, "it was looked at anew"

    run(test)


def test_a_server_that_is_back_with_another_model_is_not_asked() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server, patience=2.0) as host:
            server.always = reset()
            server.listing = raw(http(200, b'{"data": [{"id": "other"}]}'))
            with pytest.raises(EngineDied):
                await asyncio.gather(*(ask(host) for _ in range(4)))
            assert 'does not serve "shapes" but "other"' in host.notice

    run(test)


def test_an_engine_whose_servers_are_gone_for_long_ends() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server, patience=0.5) as host:
            await host.check()
            await server.stop()
            with pytest.raises(EngineDied, match=r"No server has answered for 0 s\..* cannot be reached\."):
                await ask(host)
            with pytest.raises(EngineDied):
                await host.check()
            await server.start()

    run(test)


def test_places_grow_with_answers_and_shrink_when_the_server_is_busy() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server, batch=16) as host:
            await asyncio.gather(*(ask(host) for _ in range(100)))
            assert 8 <= server.most <= 16
            release = asyncio.Event()
            server.script.extend([held(release, status(429, "busy", {"Retry-After": "0"}))] * 16)
            asked = [asyncio.create_task(ask(host)) for _ in range(16)]
            await server.until(lambda: server.now == 16)
            server.most = 0
            server.always = held(release)
            release.set()
            await asyncio.gather(*asked)
            server.most = 0
            await asyncio.gather(*(ask(host) for _ in range(24)))
            assert server.most <= 11

    run(test)


def test_a_key_is_refused_in_the_middle() -> None:
    """Such a server rests; the others go on."""

    async def test() -> None:
        async with OpenAIServer() as one, OpenAIServer() as two, opened(one, two) as host:
            one.always = one.listing = status(401, "expired")
            answers = await asyncio.gather(*(ask(host) for _ in range(30)))
            assert len(answers) == 30
            assert "status 401" in host.notice

    run(test)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_not_followed(code: int) -> None:
    async def test() -> None:
        async with OpenAIServer() as one, OpenAIServer() as two:
            moved = status(code, "", {"Location": f"{two.url}/chat/completions"})
            async with opened(one, keys={KEY: "secret"}, patience=0.5) as host:
                one.always = moved
                with pytest.raises(EngineDied):
                    await ask(host)
            one.listing = moved
            assert "redirects to another address" in await refusal(one, keys={KEY: "secret"})
            assert two.asked == []

    run(test)


def serve(**attributes: Any) -> Callable[[OpenAIServer], None]:
    def change(server: OpenAIServer) -> None:
        for name, value in attributes.items():
            setattr(server, name, value)

    return change


FIELD = status(400, "Unrecognized request argument supplied: top_k")
MODELS = raw(http(200, json.dumps({"data": [{"id": f"llava-{n}"} for n in range(9)] + [{"id": "Shapes-v2"}]}).encode()))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (serve(listing=MODELS), 'does not serve "shapes" but "Shapes-v2", '),
        (serve(listing=MODELS), " and 5 more. Name the one that is the project's model with --served-model"),
        (serve(listing=raw(http(200, b'{"data": []}'))), 'does not serve "shapes" but no model at all.'),
        (serve(listing=HTML), "does not speak OpenAI's interface. Give the address before /chat/completions"),
        (serve(listing=status(401, "no")), "asks for a key. Put a good one into the environment as P2PCAP_OPENAI_KEY."),
        (serve(listing=status(403, "no")), "asks for a key."),
        (serve(probes=status(401, "no")), "asks for a key."),
        (serve(probes=status(404, "The model does not exist")), "answers with status 404 (The model does not exist)."),
        (serve(probes=FIELD), 'does not take "top_k", which the task asks for: Unrecognized request argument'),
        (serve(probes=status(400, "images are not supported")), 'refuses the prompt "describe": images are not supp'),
        (serve(probes=HTML), "answers a question with no answer to a question."),
        (serve(probes=status(500, "no memory")), "answers with status 500 (no memory). Start the server, or correct"),
        (serve(listing=status(429, "quota", {"Retry-After": "60"})), "answers with status 429 (quota)."),
        (serve(listing=raw(b"SSH-2.0-OpenSSH_9.2\r\n")), "broke off in the middle of an answer."),
    ],
)
def test_what_keeps_an_engine_from_working_is_said_in_one_sentence(
    change: Callable[[OpenAIServer], None], sentence: str
) -> None:
    async def test() -> None:
        async with OpenAIServer() as server:
            change(server)
            said = await refusal(server, task=replace(TASK, sampling=Sampling(max_tokens=48, top_k=3)))
            assert sentence in said
            assert said.startswith(server.url)

    run(test)


def test_a_key_that_is_refused_is_never_repeated() -> None:
    async def test() -> None:
        async with OpenAIServer() as server:
            server.listing = status(401, "Incorrect API key provided: secret")
            said = await refusal(server, keys={KEY: "secret"})
            assert "does not take the key" in said
            assert "secret" not in said
            server.listing, server.probes = status(404), status(400, "secret is no good")
            said = await refusal(server, keys={KEY: "secret"})
            assert "secret" not in said

    run(test)


@pytest.fixture
def certified(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS, and its certificate for localhost, which nobody trusts yet."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-keyout", str(key), "-out", str(certificate), "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", *named, *made], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def test_certificates_are_verified(certified: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = certified

    async def test() -> None:
        async with OpenAIServer(tls=context) as server:
            said = await refusal(server, keys={KEY: "secret"})
            assert f"{server.url} shows a certificate that does not hold (self" in said
            assert server.asked == []
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            async with opened(server, keys={KEY: "secret"}) as host:
                assert (await ask(host)).text == "a picture"
        async with OpenAIServer() as plain:
            settings = EngineSettings(endpoints=(plain.url.replace("http:", "https:"),))
            host = OpenAI(TASK, settings, {})
            with pytest.raises(EngineStartError, match=r"/v1 does not speak TLS there\."):
                await host.open()
            await host.close()

    run(test)


def test_no_server_at_all() -> None:
    async def test() -> None:
        server = OpenAIServer()
        await server.start()
        await server.stop()
        assert f"{server.url} cannot be reached. Start the server, or correct the address." == await refusal(server)
        settings = EngineSettings(endpoints=("http://no-such-host.invalid/v1",))
        host = OpenAI(TASK, settings, {})
        with pytest.raises(EngineStartError, match=r"no-such-host\.invalid/v1 cannot be reached"):
            await host.open()
        await host.close()
        with pytest.raises(EngineStartError, match="has a password or a key in it"):
            OpenAI(TASK, EngineSettings(endpoints=("http://a:b@c/v1",)), {})

    run(test)


def test_a_server_without_a_list_of_models_is_taken_as_it_is() -> None:
    async def test() -> None:
        async with OpenAIServer() as server:
            server.listing = status(404)
            async with opened(server) as host:
                assert (await ask(host)).text == "a picture"
            assert len(server.probed) == 1

    run(test)


def test_one_server_of_several_may_be_gone_at_the_start() -> None:
    async def test() -> None:
        async with OpenAIServer() as one, OpenAIServer() as two:
            await one.stop()
            one.probes = one.always = picky
            async with opened(one, two) as host:
                assert (await ask(host)).text == "a picture"
                assert f"{one.url} cannot be reached." == host.notice
                await one.start()
                while not one.questions:
                    await asyncio.gather(*(ask(host) for _ in range(8)))
            assert "max_completion_tokens" in one.questions[0].body, "it was looked at before it was asked"

    run(test)


def test_a_server_that_is_started_late_is_waited_for_where_that_is_wanted() -> None:
    async def test() -> None:
        async with OpenAIServer() as server:
            host = OpenAI(TASK, EngineSettings(endpoints=(server.url,)), {})
            tried = asyncio.Event()

            async def loading(asked: Asked, writer: asyncio.StreamWriter) -> None:
                tried.set()
                await status(503, "loading the model")(asked, writer)

            listing, server.listing = server.listing, loading
            opening = asyncio.create_task(host.open(patience=60.0))
            await tried.wait()
            server.listing = listing
            await opening
            assert (await ask(host)).text == "a picture"
            await host.close()

    run(test)


OTHER = raw(http(200, b'{"data": [{"id": "other"}]}'))


@pytest.mark.parametrize(
    ("change", "notice"),
    [
        (serve(listing=status(401, "no")), "asks for a key. Put a good one into the environment as P2PCAP_OPENAI_KEY."),
        (serve(listing=OTHER), 'does not serve "shapes" but "other". Name the one that is the project\'s model with'),
        (serve(probes=HTML), "answers a question with no answer to a question. Use another server."),
    ],
)
@pytest.mark.parametrize("patience", [0.0, 60.0], ids=["first start", "another start"])
def test_one_server_of_several_that_does_not_work_for_us_is_left_out_until_it_does(
    change: Callable[[OpenAIServer], None], notice: str, patience: float
) -> None:
    async def test() -> None:
        async with OpenAIServer() as one, OpenAIServer() as two:
            change(one)
            host = OpenAI(TASK, EngineSettings(endpoints=(one.url, two.url)), {})
            try:
                await host.open(patience)
                assert host.load().notice.startswith(f"{one.url} {notice}")
                assert not host.load().notice.endswith("..")
                answers = await asyncio.gather(*(ask(host) for _ in range(8)))
                assert [each.text for each in answers] == ["a picture"] * 8
                assert (len(one.questions), len(two.questions)) == (0, 8)
            finally:
                await host.close()

    run(test)


def test_servers_that_have_worked_and_do_not_fit_now_are_waited_for_and_are_not_the_models_fault() -> None:
    async def test() -> None:
        async with OpenAIServer() as one, OpenAIServer() as two:
            good, one.listing = one.listing, OTHER
            two.listing = status(401, "no")
            host = OpenAI(TASK, EngineSettings(endpoints=(one.url, two.url)), {})
            with pytest.raises(ModelError, match="does not serve"):
                await host.open()
            await host.close()
            host = OpenAI(TASK, EngineSettings(endpoints=(one.url, two.url)), {})
            with pytest.raises(EngineStartError, match="does not serve") as refused:
                await host.open(patience=0.1)
            assert not isinstance(refused.value, ModelError)
            await host.close()
            one.listing = status(503, "loading", {"Retry-After": "1"})
            host = OpenAI(TASK, EngineSettings(endpoints=(one.url, two.url)), {})
            opening = asyncio.create_task(host.open(patience=60.0))
            before = len(one.asked)
            await one.until(lambda: len(one.asked) > before)
            one.listing = good
            await opening
            assert (await ask(host)).text == "a picture"
            await host.close()

    run(test)


def test_other_words_for_the_same_are_found_out() -> None:
    task = replace(TASK, sampling=Sampling(max_tokens=48, temperature=500))

    async def test() -> None:
        async with OpenAIServer() as server:
            server.probes = server.always = picky
            async with opened(server, task=task) as host:
                await ask(host, task)
            body = server.questions[0].body
            assert (body["max_completion_tokens"], len(server.questions)) == (48, 1)
            assert not {"max_tokens", "seed"} & set(body)

    run(test)


def test_the_environment_of_this_process_is_not_read_for_tests() -> None:
    assert not [name for name in os.environ if name.startswith(KEY)]
