"""Servers with OpenAI's interface in the place of an own engine: vLLM elsewhere, llama.cpp, a vendor. In the engine's
process only, and with the surface of p2pcap.engine.captioner.

Images are decoded and scaled here, as for an own engine, and sent as data URLs: PNG up to LOSSLESS pixels, where a
JPEG's blocks would be a good part of the picture, and else JPEG of quality 95 with full colour, whose error is below
that of scaling (a PNG of a photograph would be six times as large).

Always holds: no key is left in the process's environment, so that what it starts inherits none.
"""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from p2pcap.engine import chat
from p2pcap.engine.answering import Answering, Generated, Question
from p2pcap.engine.base import EngineLoad, EngineSettings, Finish, Score, Spelt
from p2pcap.engine.chat import Dialect
from p2pcap.engine.decoding import Decoders
from p2pcap.engine.endpoints import Endpoint, parse, take_keys
from p2pcap.engine.exchange import ANSWER_SECONDS, Exchange
from p2pcap.engine.picture_room import room_here
from p2pcap.engine.sampling import seed
from p2pcap.engine.servers import PATIENCE, Servers
from p2pcap.errors import ConfigError, EngineStartError, ImageError, ModelError
from p2pcap.project.task import Task

LOSSLESS = 65_536
"""Pixels; as a PNG such a picture has 192 KiB at most."""

QUALITY = 95
MAX_JPEG_EDGE = 65_500
"""Pixels; libjpeg writes no more."""


async def connect(
    task: Task, settings: EngineSettings, environment: MutableMapping[str, str] = os.environ, patience: float = 0.0
) -> "OpenAI":
    """An engine that asks the servers at `settings.endpoints`, which for `patience` seconds are waited for. Raises
    ModelError and EngineStartError, one sentence each, when no server works for this task."""
    host = OpenAI(task, settings, environment)
    try:
        await host.open(patience)
    except BaseException:
        await host.close()
        raise
    return host


class OpenAI:
    """An engine that asks the servers at `settings.endpoints`. Raises EngineStartError for an address or a key that
    cannot be used. `open` has to be awaited before anything else."""

    def __init__(
        self,
        task: Task,
        settings: EngineSettings,
        environment: MutableMapping[str, str] = os.environ,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        patience: float = PATIENCE,
    ) -> None:
        """The keys are taken out of `environment`. An answer may take `answer_seconds`, and no server may answer for
        `patience`."""
        try:
            endpoints = parse(settings.endpoints, take_keys(environment))
        except ConfigError as error:
            raise EngineStartError(str(error)) from error
        model = settings.served_model or task.model.name
        exchanges = [Exchange(endpoint, answer_seconds) for endpoint in endpoints]
        self._servers = Servers(exchanges, settings.max_num_seqs, model, task, patience)
        self._task = task
        self._model = model
        self._decoders = Decoders()
        self._room = room_here(self._decoders.count)
        self.version = "openai"
        self.device = _device(endpoints, model)
        self.engine_class = chat.engine_class(model)

    async def open(self, patience: float = 0.0) -> None:
        """Finds out whether the servers have the model and understand the task. For `patience` seconds servers that are
        not there are waited for. Raises ModelError and EngineStartError, one sentence each."""
        _check_taken(self._task)
        await self._servers.open(patience)

    def answering(self, task: Task) -> Answering:
        """What answers for that task. Raises ModelError when it wants another model, or no answers of such servers."""
        _check_taken(task)
        if task.model != self._task.model:
            raise ModelError("The new task is for another model than the servers were named for. Start the node anew.")
        self._servers.turn_to(task)
        return Answering(task, self.questions(task), self._decoders, self._room)

    def questions(self, task: Task) -> "Questions":
        """What an Answering of that task asks."""
        return Questions(task, self._model, self._servers)

    async def check(self) -> None:
        """Raises EngineDied when no server has answered for long."""
        self._servers.check()

    def load(self) -> EngineLoad:
        """Questions on their way and those that wait for a place; tokens as far as the servers tell."""
        servers = self._servers
        return EngineLoad(
            running=servers.running,
            waiting=servers.waiting,
            read=servers.read,
            made=servers.made,
            notice=servers.notice,
        )

    @property
    def notice(self) -> str:
        """One line about a server that does not work now; "" when all do."""
        return self._servers.notice

    async def close(self) -> None:
        """Ends the decoders, and closes all connections."""
        await self._servers.close()
        await asyncio.to_thread(self._decoders.close)


@dataclass
class _Picture:
    """An image's data URL in the making, or made, for the questions that are asked about it now."""

    url: "asyncio.Task[str]"
    users: int = 0


class Questions:
    """A task's questions to the servers: the backend of its Answering."""

    def __init__(self, task: Task, model: str, servers: Servers) -> None:
        self._task = task
        self._model = model
        self._servers = servers
        self._pictures: dict[bytes, _Picture] = {}

    async def generate(self, question: Question) -> Generated:
        """The answer, with 0 tokens where the server does not count them, and without ids. Raises ImageError when the
        image is refused and EngineDied when no server works."""
        most = self._task.sampling_of(self._task.prompts[question.number]).max_tokens
        async with self._picture(question) as picture:

            def write(dialect: Dialect) -> Mapping[str, Any]:
                number = seed(self._task.tid, question.sha256, question.number, question.attempt)
                return chat.request(
                    self._task,
                    question.number,
                    question.values,
                    picture,
                    model=self._model,
                    dialect=dialect,
                    seed=number,
                )

            said = await self._servers.ask(write, most)
        return Generated(said.text, said.made, said.finish)

    async def score(self, question: Question, ids: Sequence[int]) -> Score:
        """Raises ImageError: the interface has no way to ask for it."""
        raise ImageError("unscorable", "A server with OpenAI's interface cannot score an answer.")

    def spell(self, number: int, ids: Sequence[int], finish: Finish) -> Spelt:
        """Raises ImageError: the tokens are the server's."""
        raise ImageError("unscorable", "A server with OpenAI's interface does not tell its tokens.")

    def cut(self, number: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        """Raises ImageError: the tokens are the server's."""
        raise ImageError("unscorable", "A server with OpenAI's interface does not tell its tokens.")

    @asynccontextmanager
    async def _picture(self, question: Question) -> AsyncIterator[str]:
        """The image's data URL, made once for all the questions that are asked about it at the same time."""
        if question.image is None:
            yield ""
            return
        picture = self._pictures.get(question.sha256)
        if picture is None:
            making = asyncio.get_running_loop().create_task(asyncio.to_thread(data_url, question.image))
            picture = self._pictures[question.sha256] = _Picture(making)
        picture.users += 1
        try:
            yield await asyncio.shield(picture.url)
        finally:
            picture.users -= 1
            if not picture.users:
                del self._pictures[question.sha256]


def data_url(image: Image.Image) -> str:
    """The picture as a `data:` URL. The same pixels give the same text with the same Pillow."""
    file = BytesIO()
    if image.width * image.height <= LOSSLESS or max(image.size) > MAX_JPEG_EDGE:
        image.save(file, "PNG")
        kind = "png"
    else:
        image.save(file, "JPEG", quality=QUALITY, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getbuffer()).decode('ascii')}"


def _check_taken(task: Task) -> None:
    if not task.takes("openai"):
        raise ModelError("The project takes no answers of servers with OpenAI's interface. Join with an own engine.")


def _device(endpoints: Sequence[Endpoint], model: str) -> str:
    """For people: the first host, how many more there are, and the model; control characters left out."""
    more = f" and {len(endpoints) - 1} more" if len(endpoints) > 1 else ""
    return chat.one_line(f"openai {endpoints[0].host}{more} {model}")
