"""What a server is asked before it gets questions: whether it has the model, takes the key, and understands the task.

Asked at the start, when a server that was gone is back (its owner may have started something else meanwhile), and when
it refuses an image without having answered anything shortly before: then the server may be at fault and not the image.
Each kind of question that the task has is asked once, about a grey picture and for a few tokens, and each form of
answers that only some servers can hold to is tried on an answer that no model gives by itself.

Always holds: a server that was found well has answered a question of each kind that the task has.
"""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from p2pcap.engine import chat
from p2pcap.engine.chat import Dialect
from p2pcap.engine.endpoints import KEY, PATH, Endpoint
from p2pcap.engine.exchange import Exchange, Reply, Unanswered
from p2pcap.engine.pacing import quiet_asked, verdict
from p2pcap.errors import EngineStartError, ModelError
from p2pcap.project.task import Task

FEW_TOKENS = 16
"""Of a tried answer; some servers allow no fewer."""

GREY = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAATUlEQVR42u3PQQ0AAAgEIDX5RTeFDzdoQCepz6aeExA"
    "QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQELi3oiwCAJt186UAAAAASUVORK5CYII="
)
"""A picture of 64 by 64 grey pixels."""

_WORD = "p2pcap"
_SCHEMA = {
    "type": "object",
    "properties": {_WORD: {"type": "integer", "enum": [7]}},
    "required": [_WORD],
    "additionalProperties": False,
}
_TRIALS: Mapping[str, dict[str, Any]] = {
    "schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": _SCHEMA}}
    },
    "regex": {"structured_outputs": {"regex": _WORD}},
    "choice": {"structured_outputs": {"choice": [_WORD]}},
}


async def probe(exchange: Exchange, task: Task, model: str) -> Dialect:
    """What the server understands. Raises Unanswered when it does not work now; EngineStartError when it does not work
    for us, ModelError when not for this model or task: one sentence with its name, for the volunteer to act on."""
    owner = await _served(exchange, model)
    dialect = Dialect(vllm=owner == "vllm")
    kinds: set[bytes] = set()
    for number in range(len(task.prompts)):
        kind = msgspec.json.encode(
            _example(task, number, model, dialect) | {"messages": task.prompts[number].shows_image}
        )
        if kind not in kinds:
            dialect = await _try(exchange, task, number, model, dialect)
        kinds.add(kind)
    for form in dict.fromkeys(prompt.format.kind for prompt in task.prompts if prompt.format is not UNSET):
        await _try_form(exchange, form, model, dialect)
    return dialect


async def _served(exchange: Exchange, model: str) -> str:
    """Whose the model is, as the list says; "" for a server that has no such list."""
    reply = await exchange.look("/models")
    if reply.status in (404, 405, 501):
        return ""
    _check(exchange.endpoint, reply)
    listed = chat.models(reply.body) if reply.status == 200 else None
    if listed is None:
        raise EngineStartError(
            f"{exchange.endpoint.name} does not speak OpenAI's interface. Give the address before /chat/completions; "
            "it often ends in /v1."
        )
    names = [name for name, _ in listed]
    if model not in names:
        raise ModelError(
            f'{exchange.endpoint.name} does not serve "{chat.one_line(model)}" but {_some(names, model)}. Name the one '
            "that is the project's model with --served-model, or serve it."
        )
    return listed[names.index(model)][1]


def _some(names: list[str], wanted: str) -> str:
    """A few of the names, those like the one that is wanted first."""
    likely = list(dict.fromkeys([*difflib.get_close_matches(wanted, names[:1_000], 5, 0.4), *names]))
    shown = ", ".join(f'"{chat.one_line(name)}"' for name in likely[:5])
    return (shown or "no model at all") + (f" and {len(likely) - 5} more" if len(likely) > 5 else "")


def _example(task: Task, number: int, model: str, dialect: Dialect) -> dict[str, Any]:
    return chat.request(task, number, {}, GREY, model=model, dialect=dialect)


async def _try(exchange: Exchange, task: Task, number: int, model: str, dialect: Dialect) -> Dialect:
    """Asks prompt `number`, in other words if need be; the dialect that was understood."""
    least = task.sampling_of(task.prompts[number]).min_tokens or 0
    short = True
    while True:
        body = _example(task, number, model, dialect)
        if short:
            body[dialect.limit] = min(body[dialect.limit], max(least, FEW_TOKENS))
        reply = await exchange.ask(PATH, body)
        if reply.status == 200:
            _read(exchange.endpoint, reply, body[dialect.limit])
            return dialect
        _check(exchange.endpoint, reply)
        said = chat.complaint(exchange.endpoint.cleaned(reply.body))
        field = chat.named(said, body)
        if field == chat.LIMIT and chat.NEW_LIMIT in said:
            dialect = replace(dialect, limit=chat.NEW_LIMIT)
        elif field == chat.SEED:
            dialect = replace(dialect, seeds=False)
        elif short:
            short = False
        else:
            raise _refused(exchange.endpoint, task.prompts[number].name, field, said or f"status {reply.status}")


def _refused(endpoint: Endpoint, prompt: str, field: str, said: str) -> ModelError:
    if field:
        return ModelError(
            f'{endpoint.name} does not take "{field}", which the task asks for: {said} Use another server.'
        )
    return ModelError(f'{endpoint.name} refuses the prompt "{prompt}": {said} Use another server or model.')


async def _try_form(exchange: Exchange, form: str, model: str, dialect: Dialect) -> None:
    """Raises ModelError when the server makes answers of another form than it was told."""
    if form not in _TRIALS:
        return
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "temperature": 0.0}
    reply = await exchange.ask(PATH, body | {dialect.limit: 2 * FEW_TOKENS} | _TRIALS[form])
    _check(exchange.endpoint, reply)
    held = False
    if reply.status == 200:
        text = _read(exchange.endpoint, reply, 2 * FEW_TOKENS).lstrip()
        held = text.startswith("{") if form == "schema" else text.rstrip() == _WORD
    if not held:
        means = "json_schema" if form == "schema" else f"vLLM's structured_outputs ({form})"
        raise ModelError(
            f"{exchange.endpoint.name} does not hold to {means}, which the task asks for. Use a server that "
            "does, such as vLLM."
        )


def _read(endpoint: Endpoint, reply: Reply, most: int) -> str:
    try:
        return chat.read(reply.body, most).text
    except ValueError as error:
        raise EngineStartError(f"{endpoint.name} answers a question with {error}. Use another server.") from error


def _check(endpoint: Endpoint, reply: Reply) -> None:
    """Raises for a status that says something of the server and not of the request."""
    said = chat.complaint(endpoint.cleaned(reply.body))
    said = f" ({said})" if said else ""
    match verdict(reply.status):
        case "answer" | "image":
            return
        case "busy" | "away" | "fault":
            after = quiet_asked(reply.headers, datetime.now(UTC))
            raise Unanswered(f"answers with status {reply.status}{said}", sent=True, after=after)
        case "unfit" if reply.status in (401, 403):
            wrong = "does not take the key" if endpoint.key else "asks for a key"
            raise EngineStartError(f"{endpoint.name} {wrong}. Put a good one into the environment as {KEY}.")
        case "unfit" if 300 <= reply.status < 400:
            raise EngineStartError(f"{endpoint.name} redirects to another address. Give that one, if you trust it.")
        case "unfit":
            raise EngineStartError(f"{endpoint.name} answers with status {reply.status}{said}. Correct the address.")
