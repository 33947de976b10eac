"""From an image file to one answer for each prompt, whatever runs the model. In the engine's process only.

Prompts are asked in their order where one uses the answer to another, and together where none does. The backend turns
a question into text; which texts are answers, and how often one is asked for, is decided here.

Always holds: an image gets an answer to every prompt, or one ImageError that says which prompt had none. When one
prompt ends in an error, or the call is cancelled, nothing of the image is left with the backend, nor in the room.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, cast

from msgspec import structs
from PIL import Image

from p2pcap.engine.base import Finish, Output, Score, Spelt
from p2pcap.engine.decoding import Decoders
from p2pcap.engine.form import Form
from p2pcap.engine.output import Policy
from p2pcap.engine.picture_room import PictureRoom
from p2pcap.errors import ImageError
from p2pcap.project.prompts import uses
from p2pcap.project.task import Task

ATTEMPTS = 2
"""How often an answer is asked for before its absence is the image's fault."""


@dataclass(frozen=True)
class Question:
    """One request. `number` is the prompt's place in the task, `image` the decoded picture (None: it is not shown),
    `values` what `{name}` stands for: the image's fields and the answers to earlier prompts. `attempt` is from 0 on."""

    number: int
    image: Image.Image | None
    sha256: bytes
    values: Mapping[str, str]
    attempt: int = 0


@dataclass(frozen=True)
class Generated:
    """What a backend made of a question: the raw text, its tokens' number and ids (empty: not told), why it ended
    ("stop", "length", output.FILTERED or another word of the backend's)."""

    text: str
    tokens: int
    finish: str
    ids: tuple[int, ...] = ()


class Backend(Protocol):
    """What runs the model, for one task."""

    async def generate(self, question: Question) -> Generated:
        """Raises ImageError when the image or its texts are at fault, EngineDied when the backend is gone."""
        ...

    async def score(self, question: Question, ids: Sequence[int]) -> Score:
        """What the model thinks of `ids` as the answer. Raises as `generate` does, ImageError("unscorable") when it
        cannot say or these are no such answer."""
        ...

    def spell(self, number: int, ids: Sequence[int], finish: Finish) -> Spelt:
        """What tokens are as an answer to that prompt that ended so, before the task's output policy. Raises
        ImageError("unscorable") when it cannot say."""
        ...

    def cut(self, number: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        """The tokens that an answer with this text may have been made of. Raises as `spell` does."""
        ...


class Answering:
    """Answers one task's prompts; several may share a loaded model. `decoding` is how many images are being decoded.

    Raises ModelError when a prompt's format makes no sense.
    """

    def __init__(self, task: Task, backend: Backend, decoders: Decoders, room: PictureRoom) -> None:
        self.task = task
        self.decoding = 0
        self._backend = backend
        self._decoders = decoders
        self._room = room
        self._policies = [Policy(task.policy, Form(prompt.format)) for prompt in task.prompts]
        self._levels = levels([uses(task, number) for number in range(len(task.prompts))])

    async def caption(self, file: bytes, sha256: bytes, fields: Mapping[str, str]) -> tuple[Output, ...]:
        """One answer a prompt, in the prompts' order, with the image's `fields` in them.

        Raises ImageError for a faulty image or one without an answer, EngineDied when the backend is gone.
        """
        async with self._picture(file) as image:
            return await self._all_answers(image, sha256, fields)

    async def _all_answers(self, image: Image.Image, sha256: bytes, fields: Mapping[str, str]) -> tuple[Output, ...]:
        made: dict[int, Output] = {}
        values = fields
        for level in self._levels:
            if made:
                values = {**fields, **{self.task.prompts[number].name: output.text for number, output in made.items()}}
            questions = [Question(number, image, sha256, values) for number in level]
            made |= zip(level, await self._together(questions), strict=True)
        return tuple(made[number] for number in range(len(made)))

    async def score(
        self, file: bytes, sha256: bytes, prompt: int, ids: Sequence[int], values: Mapping[str, str]
    ) -> Score:
        """What the model thinks of `ids` as the answer to that prompt (base.NodeEngine.score)."""
        self._must_have(prompt)
        async with self._picture(file) as image:
            return await self._backend.score(self._shown(Question(prompt, image, sha256, values)), ids)

    def spell(self, prompt: int, ids: Sequence[int], finish: Finish) -> Spelt:
        """What tokens are as an answer (base.NodeEngine.spell)."""
        self._must_have(prompt)
        spelt = self._backend.spell(prompt, ids, finish)
        try:
            return structs.replace(spelt, text=self._policies[prompt].answer(spelt.text, finish))
        except ImageError:
            return structs.replace(spelt, text="")

    def cut(self, prompt: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        """The tokens that a text may have been made of (base.NodeEngine.cut)."""
        self._must_have(prompt)
        return self._backend.cut(prompt, text, finish)

    def _must_have(self, prompt: int) -> None:
        if prompt >= len(self.task.prompts):
            raise ImageError("unscorable", "The project has no such prompt.")

    @asynccontextmanager
    async def _picture(self, file: bytes) -> AsyncIterator[Image.Image]:
        """The picture in a file, decoded when there is room for it, and for as long as it is needed."""
        async with AsyncExitStack() as held:
            self.decoding += 1
            try:
                place = await held.enter_async_context(self._room.place())
                image = await asyncio.wrap_future(self._decoders.submit(file, self.task.image_edge))
            finally:
                self.decoding -= 1
            place.decoded(image)
            yield image

    async def _together(self, questions: Sequence[Question]) -> Sequence[Output]:
        """The answers, asked for at once so that they share the image's preprocessing."""
        if len(questions) == 1:
            return [await self._answer(questions[0])]
        try:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(self._answer(question)) for question in questions]
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        return [task.result() for task in asked]

    async def _answer(self, question: Question) -> Output:
        """The answer to one prompt. What is none is asked for once more."""
        policy = self._policies[question.number]
        question = self._shown(question)
        for attempt in range(ATTEMPTS):
            made = await self._backend.generate(replace(question, attempt=attempt))
            try:
                text = policy.answer(made.text, made.finish)
            except ImageError as error:
                fault = error
            else:
                return Output(text, made.tokens, cast(Finish, made.finish), made.ids)
        raise self._named(fault, question.number)

    def _shown(self, question: Question) -> Question:
        """The question without the image where the prompt is not about it."""
        return question if self.task.prompts[question.number].shows_image else replace(question, image=None)

    def _named(self, fault: ImageError, number: int) -> ImageError:
        """The fault with the prompt's name, where there are several."""
        if len(self.task.prompts) == 1:
            return fault
        return ImageError(fault.code, f"{fault.reason} (prompt {self.task.prompts[number].name})")


def levels(needs: Sequence[Sequence[int]]) -> list[list[int]]:
    """The prompts in groups: each as soon as the answers that it needs are there. `needs` are, for each prompt, the
    numbers of prompts before it."""
    depth: list[int] = []
    for earlier in needs:
        depth.append(max((depth[number] + 1 for number in earlier), default=0))
    return [[number for number, at in enumerate(depth) if at == level] for level in range(max(depth) + 1)]


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to say of several prompts that failed at once: an engine that died before an image at fault."""
    first = errors.exceptions[0]
    return next((error for error in errors.exceptions if not isinstance(error, ImageError)), first)
