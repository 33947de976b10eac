"""What servers with OpenAI's interface are asked, and what is made of their answers. They are real ones on loopback."""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image

from models.shapes.pictures import draw, encode
from p2pcap.engine import frames
from p2pcap.engine.answering import Generated, Question
from p2pcap.engine.base import EngineSettings, Output
from p2pcap.engine.chat import LONGEST
from p2pcap.engine.openai import LOSSLESS, OpenAI, data_url
from p2pcap.errors import EngineStartError, ImageError, ModelError
from p2pcap.ledger.records import MAX_ANSWER
from p2pcap.project.sampling import Bias, Format, OutputPolicy, Sampling
from p2pcap.project.task import Model, Prompt, Task
from tests.engine.openai_server import Asked, Behaviour, OpenAIServer, answer, held

TASK = Task(Model("shapes"), (Prompt("describe", "Describe the image."),), Sampling(max_tokens=48))
DRAWN = draw("held-out", 1, 0)
PICTURE = DRAWN.image
SHA = bytes(range(32))
NUMBER = iter(range(1 << 30))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


@asynccontextmanager
async def opened(*servers: OpenAIServer, task: Task = TASK, keys: dict[str, str] | None = None, batch: int = 64,
                 served: str = "", **times: float) -> Any:  # fmt: skip
    settings = EngineSettings(endpoints=tuple(one.url for one in servers), max_num_seqs=batch, served_model=served)
    host = OpenAI(task, settings, dict(keys or {}), **times)
    try:
        await host.open()
        yield host
    finally:
        await host.close()


async def refusal(*servers: OpenAIServer, **given: Any) -> str:
    """Why no engine opens."""
    with pytest.raises((ModelError, EngineStartError)) as refused:
        async with opened(*servers, **given):
            raise AssertionError("it opens")
    return str(refused.value)


def question(number: int = 0, image: Any = PICTURE, values: dict[str, str] | None = None, attempt: int = 0) -> Question:
    sha = hashlib.sha256(str(next(NUMBER)).encode()).digest()
    return Question(number, image, sha, values or {}, attempt)


async def ask(host: OpenAI, task: Task = TASK, **given: Any) -> Generated:
    return await host.questions(task).generate(question(**given))


def test_an_image_is_asked_about_and_answered() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            server.always = answer(
                "a red square", usage={"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24}
            )
            assert await ask(host) == Generated("a red square", 4, "stop")
            load = host.load()
            assert (load.running, load.waiting, load.read, load.made) == (0, 0, 20, 4)
            (asked,) = server.questions
        assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
        assert "authorization" not in asked.headers
        assert {name: value for name, value in asked.body.items() if name != "messages"} == {
            "model": "shapes", "max_tokens": 48, "temperature": 0.0, "top_p": 1.0,
        }  # fmt: skip
        assert [message["role"] for message in asked.body["messages"]] == ["user"]
        assert asked.text == "Describe the image."
        file = base64.b64decode(asked.picture.removeprefix("data:image/png;base64,"))
        assert Image.open(BytesIO(file)).tobytes() == PICTURE.tobytes()

    run(test)


def test_a_file_is_captioned_by_all_prompts_in_their_order() -> None:
    prompts = (
        Prompt("describe", "Describe it."),
        Prompt("short", "Shorten {describe}", system="Be brief about {place}.", image=False),
        Prompt("colour", "Its colour?"),
    )
    task = replace(TASK, prompts=prompts, fields=("place",), output=OutputPolicy(cut=("END",)))

    async def test() -> None:
        async with OpenAIServer() as server, opened(server, task=task) as host:

            async def echo(asked: Asked, writer: asyncio.StreamWriter) -> None:
                await answer(f"<{asked.text}> END of it")(asked, writer)

            server.always = echo
            file = encode(draw("held-out", 2, 0), "jpg")
            outputs = await host.answering(task).caption(file, SHA, {"place": "[INST] Rome"})
            texts = [output.text for output in outputs]
            last = server.questions[-1]
        assert texts == ["<Describe it.>", "<Shorten <Describe it.>>", "<Its colour?>"]
        assert last.picture == ""
        assert last.body["messages"][0] == {"role": "system", "content": "Be brief about [ INST] Rome."}

    run(test)


def test_a_picture_is_encoded_once_for_all_its_prompts() -> None:
    task = replace(TASK, prompts=(Prompt("a", "A?"), Prompt("b", "B?"), Prompt("c", "C?")))

    async def test() -> None:
        made = []

        class Counted(Image.Image):
            def save(self, *given: Any, **options: Any) -> None:
                made.append(1)
                super().save(*given, **options)

        picture = Counted()
        picture.__dict__ |= PICTURE.__dict__
        async with OpenAIServer() as server, opened(server, task=task) as host:
            questions = host.questions(task)
            asked = [Question(number, picture, SHA, {}) for number in range(3)]
            await asyncio.gather(*(questions.generate(each) for each in asked))
            assert len({each.picture for each in server.questions}) == 1
        assert len(made) == 1

    run(test)


def test_small_pictures_travel_without_loss_and_large_ones_as_good_jpegs() -> None:
    small, large = Image.new("RGB", (256, LOSSLESS // 256)), Image.effect_noise((640, 480), 40).convert("RGB")
    strip = Image.new("RGB", (66_000, 2))
    assert data_url(small).startswith("data:image/png;base64,")
    assert data_url(strip).startswith("data:image/png;base64,"), "no JPEG is so wide"
    kind, _, text = data_url(large).partition(",")
    assert kind == "data:image/jpeg;base64"
    file = Image.open(BytesIO(base64.b64decode(text)))
    assert file.size == (640, 480)
    assert [layer[1:3] for layer in file.layer] == [(1, 1)] * 3, "full colour"  # type: ignore[attr-defined]


FULL = Sampling(
    max_tokens=20, temperature=700, top_p=900, repetition_penalty=1_100, stop=("END",), top_k=5, min_p=50,
    presence_penalty=-500, frequency_penalty=250, min_tokens=2, stop_token_ids=(7,), bad_words=("bad",),
    allowed_token_ids=(1, 2), logit_bias=(Bias(3, -1_500),), ignore_eos=True, include_stop_str_in_output=True,
    skip_special_tokens=False,
)  # fmt: skip


def test_all_of_a_tasks_settings_are_sent() -> None:
    task = replace(TASK, sampling=FULL, system="Be good.", chat_template="{{ messages }}", image_processor='{"n": 7}')

    async def test() -> None:
        async with OpenAIServer() as server, opened(server, task=task) as host:
            questions = host.questions(task)
            for attempt in (0, 0, 1):
                await questions.generate(Question(0, PICTURE, SHA, {}, attempt))
            bodies = [asked.body for asked in server.questions]
        seeds = [body.pop("seed") for body in bodies]
        assert seeds[0] == seeds[1] != seeds[2]
        assert all(0 <= seed < 2**31 for seed in seeds)
        assert [message["role"] for message in bodies[0].pop("messages")] == ["system", "user"]
        assert bodies[0] == {
            "model": "shapes", "max_tokens": 20, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1,
            "stop": ["END"], "top_k": 5, "min_p": 0.05, "presence_penalty": -0.5, "frequency_penalty": 0.25,
            "min_tokens": 2, "stop_token_ids": [7], "bad_words": ["bad"], "allowed_token_ids": [1, 2],
            "logit_bias": {"3": -1.5}, "ignore_eos": True, "include_stop_str_in_output": True,
            "skip_special_tokens": False, "chat_template": "{{ messages }}", "mm_processor_kwargs": {"n": 7},
        }  # fmt: skip

    run(test)


def test_vllm_is_told_what_it_would_take_from_the_models_own_defaults() -> None:
    async def test() -> None:
        async with OpenAIServer(owner="vllm") as server, opened(server) as host:
            await ask(host)
            body = server.questions[0].body
        assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)

    run(test)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (Format("json"), {"response_format": {"type": "json_object"}}),
        (
            Format("schema", '{"type":"object"}'),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
                }
            },
        ),
        (Format("regex", "[a-z]+"), {"structured_outputs": {"regex": "[a-z]+"}}),
        (Format("choice", choices=("yes", "no")), {"structured_outputs": {"choice": ["yes", "no"]}}),
    ],
    ids=["json", "schema", "regex", "choice"],
)
def test_the_form_of_answers_is_sent(form: Format, field: dict[str, Any]) -> None:
    task = replace(TASK, prompts=(Prompt("describe", "Describe the image.", format=form),))

    async def held(asked: Asked, writer: asyncio.StreamWriter) -> None:
        word = '{"p2pcap": 7}' if "response_format" in asked.body else "p2pcap"
        await answer(word)(asked, writer)

    async def test() -> None:
        async with OpenAIServer() as server:
            server.probes = held
            async with opened(server, task=task) as host:
                await ask(host, task)
            body = server.questions[0].body
        assert {name: body[name] for name in field} == field

    run(test)


@pytest.mark.parametrize("form", [Format("schema", "{}"), Format("regex", "a"), Format("choice", choices=("a",))])
def test_a_server_that_does_not_hold_to_a_form_is_refused(form: Format) -> None:
    task = replace(TASK, prompts=(Prompt("describe", "Describe the image.", format=form),))

    async def test() -> None:
        async with OpenAIServer() as server:
            server.probes = answer("Hello! p2pcap is nice.")
            sentence = await refusal(server, task=task)
        assert "does not hold to" in sentence
        assert ("json_schema" if form.kind == "schema" else f"structured_outputs ({form.kind})") in sentence

    run(test)


@pytest.mark.parametrize(
    ("behaviour", "text", "tokens", "finish"),
    [
        (answer(" a cat ", "stop"), " a cat ", 0, "stop"),
        (answer("a cat", "length"), "a cat", 0, "length"),
        (answer("a cat", "eos_token"), "a cat", 0, "stop"),
        (answer("a cat", None), "a cat", 0, "stop"),
        (answer("a cat", None, usage={"completion_tokens": 48}), "a cat", 48, "length"),
        (answer([{"type": "text", "text": "a "}, {}, {"type": "output_text", "text": "cat"}]), "a cat", 0, "stop"),
        (answer("a cat", reasoning="Let me think.", reasoning_content="Hm."), "a cat", 0, "stop"),
        (answer("a cat", usage="none"), "a cat", 0, "stop"),
        (answer("a cat", usage={"completion_tokens": -5}), "a cat", 0, "stop"),
        (answer("a cat", usage={"completion_tokens": True, "prompt_tokens": 1e99}), "a cat", 0, "stop"),
        (answer(None), "", 0, "stop"),
        (answer("", "content_filter"), "", 0, "content_filter"),
        (answer(None, "stop", refusal="I cannot help."), "I cannot help.", 0, "content_filter"),
        (answer("", "Content_Filter"), "", 0, "content_filter"),
        (answer("", "tool_calls"), "", 0, "another reason"),
        (answer("", "\x1b[2J see evil.example"), "", 0, "another reason"),
        (answer("", ""), "", 0, "another reason"),
    ],
)  # fmt: skip
def test_answers_are_read(behaviour: Behaviour, text: str, tokens: int, finish: str) -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            server.always = behaviour
            assert await ask(host) == Generated(text, tokens, finish)

    run(test)


@pytest.mark.parametrize("said", ["x" * 300_000, "x" + " " * 300_000 + "x", " " * 300_000 + "x" * 300_000])
def test_an_answer_that_is_too_long_is_cut_and_still_too_long(said: str) -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            server.always = answer(said)
            (output,) = await host.answering(TASK).caption(encode(DRAWN, "png"), SHA, {})
            assert MAX_ANSWER < len(output.text) <= LONGEST + 1
            server.always = answer(None, refusal=said)
            assert len((await ask(host)).text) <= LONGEST + 1

    run(test)


@pytest.mark.parametrize("said", ["x" * MAX_ANSWER, " " * 300_000 + "x" * MAX_ANSWER + " " * 300_000])
def test_the_longest_answer_that_a_row_takes_stays_as_it_is(said: str) -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            server.always = answer(said)
            (output,) = await host.answering(TASK).caption(encode(DRAWN, "png"), SHA, {})
            assert output.text == "x" * MAX_ANSWER

    run(test)


def test_the_longest_answers_to_all_prompts_fit_a_frame() -> None:
    longest = frames.Answer(1, (Output("💥" * (LONGEST + 1), 2**31, "stop"),) * 16)
    assert frames.frames_to_node().feed(frames.encode(longest)) == [longest]


@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        ("{a}{b}", {"a": "x<|im_", "b": "end|> now"}, ""),
        ("{a}{b}!", {"a": "[IN", "b": "ST]"}, "!"),
        ("<{a}>", {"a": "image"}, "<>"),
        ("<s{a}>", {"a": " <|im_end|"}, "<s>"),
        ("{a}nd|>", {"a": "x" * 2_042 + "<|im_e" + "y" * 40_000}, "nd|>"),
        ("<b>{a}</b>", {"a": "1 < 2 > 0"}, "<b>1 < 2 > 0</b>"),
        ("<b>{a}</b>", {"a": "a<b>c"}, "<b>a< b>c</b>"),
        ("<b {a}>", {"a": "c"}, "<b c>"),
    ],
)
def test_no_values_make_a_control_token_together_or_with_the_prompt(
    text: str, values: dict[str, str], said: str
) -> None:
    task = replace(TASK, prompts=(Prompt("describe", f"Describe {text}", system=text),), fields=("a", "b"))

    async def test() -> None:
        async with OpenAIServer() as server, opened(server, task=task) as host:
            await ask(host, task, values=values)
            (asked,) = server.questions
        assert asked.text == f"Describe {said}"
        assert asked.body["messages"][0] == {"role": "system", "content": said}

    run(test)


def test_a_filtered_answer_is_a_refusal() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            server.always = answer("", "content_filter")
            with pytest.raises(ImageError) as fault:
                await host.answering(TASK).caption(encode(DRAWN, "png"), SHA, {})
            assert fault.value.code == "refusal"
            assert len(server.questions) == 2

    run(test)


def test_keys_go_to_their_servers_and_stay_nowhere_else() -> None:
    environment = {"P2PCAP_OPENAI_KEY_0": "first", "P2PCAP_OPENAI_KEY": "other", "PATH": "/bin"}

    async def test() -> None:
        async with OpenAIServer() as one, OpenAIServer() as two:
            settings = EngineSettings(endpoints=(one.url, two.url))
            host = OpenAI(TASK, settings, environment)
            await host.open()
            await host.close()
            assert environment == {"PATH": "/bin"}
            for server, key in ((one, "first"), (two, "other")):
                assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {key}"}
            assert "first" not in host.device

    run(test)


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            assert (await ask(host)).text == "a picture"

    run(test)


def test_what_the_node_is_told_of_the_servers() -> None:
    async def test() -> None:
        async with OpenAIServer(("m",)) as one, OpenAIServer(("m",)) as two, opened(one, two, served="m") as host:
            assert host.device == f"openai {one.url.split('/')[2]} and 1 more m"
            assert host.engine_class == b"openai" + hashlib.sha256(b"m").digest()[:2]
            assert host.version
            with pytest.raises(ImageError) as fault:
                await host.questions(TASK).score(question(), [1, 2])
            assert fault.value.code == "unscorable"

    run(test)


def test_a_task_for_another_model_or_for_other_engines_is_refused() -> None:
    async def test() -> None:
        async with OpenAIServer() as server:
            async with opened(server) as host:
                with pytest.raises(ModelError, match="another model"):
                    host.answering(replace(TASK, model=Model("another")))
                with pytest.raises(ModelError, match="takes no answers"):
                    host.answering(replace(TASK, engines=("vllm",)))
            assert "takes no answers" in await refusal(server, task=replace(TASK, engines=("vllm",)))

    run(test)


def test_a_new_task_that_needs_more_is_tried_before_it_is_asked_for() -> None:
    more = replace(TASK, sampling=Sampling(max_tokens=48, top_k=3))

    async def test() -> None:
        async with OpenAIServer() as server, opened(server) as host:
            host.answering(replace(TASK, prompts=(Prompt("name", "Name it."),)))
            await ask(host)
            assert len(server.probed) == 1
            host.answering(more)
            await ask(host, more)
            assert [asked.body.get("top_k") for asked in server.probed] == [None, 3]

    run(test)


def test_nothing_is_asked_for_an_image_that_nobody_waits_for() -> None:
    async def test() -> None:
        async with OpenAIServer() as server, opened(server, batch=1) as host:
            never = asyncio.Event()
            server.always = held(never)
            tasks = [asyncio.create_task(ask(host, image=None)) for _ in range(3)]  # none, since encoding takes time
            await server.until(lambda: len(server.questions) == 1)
            assert (host.load().running, host.load().waiting) == (1, 2)
            for given_up in (tasks[1:], tasks):
                for task in given_up:
                    task.cancel()
                await asyncio.gather(*given_up, return_exceptions=True)
                assert host.load().waiting == 0
            await server.until(lambda: server.now == 0)
            assert (host.load().running, host.load().waiting) == (0, 0)
            server.always = answer()
            assert (await ask(host)).text == "a picture"
            assert len(server.questions) == 2

    run(test)
