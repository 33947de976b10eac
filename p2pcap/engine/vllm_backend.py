"""One task's questions as vLLM's requests. Runs in the engine's process only.

Requests are independent: vLLM batches whatever is in hand at each step, so the caller keeps enough images in flight and
nothing ever waits for a batch to fill or to drain. All prompts of an image carry the same name for it, so that it is
preprocessed and read by the model once: that happens in one thread, in the order of the requests.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from msgspec import UNSET
from vllm.exceptions import VLLMClientError
from vllm.outputs import RequestOutput
from vllm.renderers.params import ChatParams
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from p2pcap.engine import scoring
from p2pcap.engine.answering import Generated, Question
from p2pcap.engine.base import Finish, Score, Spelt
from p2pcap.engine.control_tokens import ControlTokens
from p2pcap.engine.prompts import EXAMPLE, Prompts, complaint, one_line
from p2pcap.engine.rendering import Rendering
from p2pcap.engine.sampling import arguments, seed, structured
from p2pcap.engine.shared_picture import SharedPicture
from p2pcap.engine.spelling import Spelling
from p2pcap.engine.usage import Usage
from p2pcap.errors import EngineDied, ImageError, ModelError
from p2pcap.project.task import Task

SENDINGS = 2
"""How often a request is sent that vLLM gives up: when its processes disagree on which images they keep, because one
was cancelled on its way, they give up a request once and agree again (MultiModalCacheMissError)."""

GAVE_UP = "error"
"""vLLM's finish reason of such a request."""

BEHIND = 1
"""The priority of scores; captions have 0, and smaller goes first."""


class VllmBackend:
    """Asks a loaded model the prompts of one task.

    Raises ModelError when the model or vLLM does not take the task's prompts, template, sampling, formats or arguments
    of the image processor.
    """

    def __init__(
        self, llm: AsyncLLM, rendering: Rendering, task: Task, control: ControlTokens, seeds: bool, usage: Usage
    ) -> None:
        self._llm = llm
        self._rendering = rendering
        self._task = task
        self._control = control
        self._usage = usage
        self._numbers = count()
        self._ends = _ends(llm)
        self._processor = _processor_arguments(task)
        self._prompts = Prompts(self._rendered, control, task)
        self._seeds = [seeds and task.sampling_of(prompt).temperature > 0 for prompt in task.prompts]
        self._params = [self._sampling(number) for number in range(len(task.prompts))]
        self._scoring, self._scoring_anew = _scoring(scoring.ARGUMENTS), _scoring(scoring.ANEW)
        self._spellings = [self._spelling(number) for number in range(len(task.prompts))]
        for number in range(len(task.prompts)):
            self._try(number)

    async def generate(self, question: Question) -> Generated:
        """The model's own text. Raises ImageError when vLLM refuses the image, EngineDied when its processes are gone.

        Cancelling it aborts the request in vLLM.
        """
        head = self._prompts.head(question.number, question.values)
        result = await self._result(self._request(head, question), self._params_of(question), 0)
        answer = result.outputs[0]
        return Generated(answer.text, len(answer.token_ids), str(answer.finish_reason), tuple(answer.token_ids))

    async def score(self, question: Question, ids: Sequence[int]) -> Score:
        """What the model thinks of `ids` as the answer. Raises as `generate` does, ImageError("unscorable") when these
        are no tokens of an answer, or do not fit behind the prompt."""
        self._must_be_answer(question.number, ids)
        head = self._prompts.head(question.number, question.values)
        if "prompt_token_ids" not in head:
            raise scoring.unscorable("The model's prompts have no tokens of their own.")
        claim = {"prompt_token_ids": [*head["prompt_token_ids"], *ids]}
        try:
            result = await self._result(self._request(claim, question), self._scoring, BEHIND)
            if not scoring.is_read(ids, len(result.prompt_token_ids or ()), result.num_cached_tokens or 0):
                result = await self._result(self._request(claim, question), self._scoring_anew, BEHIND)
        except ImageError as error:
            raise scoring.unscorable(error.reason) from error
        return scoring.score(ids, result.prompt_logprobs)

    def spell(self, number: int, ids: Sequence[int], finish: Finish) -> Spelt:
        """What tokens are as an answer to that prompt."""
        return self._spellings[number].spell(ids, finish)

    def cut(self, number: int, text: str, finish: Finish) -> tuple[tuple[int, ...], ...]:
        """The tokens that an answer with this text may have been made of."""
        return self._spellings[number].cut(text, finish)

    def _spelling(self, number: int) -> Spelling:
        prompt, vocabulary = self._task.prompts[number], self._llm.model_config.get_vocab_size()
        sampling, bound = self._task.sampling_of(prompt), prompt.format is not UNSET
        return Spelling(self._llm.get_tokenizer(), vocabulary, sampling, self._ends, bound)

    def _must_be_answer(self, number: int, ids: Sequence[int]) -> None:
        sampling = self._task.sampling_of(self._task.prompts[number])
        if len(ids) > sampling.max_tokens:
            raise scoring.unscorable("The answer has more tokens than max_tokens.")
        ends = self._ends | set(sampling.stop_token_ids or ())
        scoring.must_be_answer(ids, self._llm.model_config.get_vocab_size(), self._control.ids, ends)

    async def _result(self, request: dict[str, Any], params: SamplingParams, priority: int) -> RequestOutput:
        for _ in range(SENDINGS):
            result = await self._sent(request, params, priority)
            if result.outputs[0].finish_reason != GAVE_UP:
                break
        self._usage.add(result)
        return result

    async def _sent(self, request: dict[str, Any], params: SamplingParams, priority: int) -> RequestOutput:
        ready = await self._ready(request)
        try:
            async for result in self._llm.generate(ready, params, str(next(self._numbers)), priority=priority):
                last = result
        except EngineDeadError as error:
            raise EngineDied("vLLM's own processes ended.") from error
        except VLLMClientError as error:
            raise _rejected(error) from error
        except EngineGenerateError as error:
            if self._llm.errored:
                raise EngineDied("vLLM's own processes ended.") from error
            raise _rejected(error.__cause__ or error) from error
        return last

    async def _ready(self, request: dict[str, Any]) -> Any:
        try:
            return await self._rendering.ready(request)
        except Exception as error:  # the model's own code reads the image, and may raise anything
            raise _rejected(error) from error

    def _request(self, head: Mapping[str, Any], question: Question) -> dict[str, Any]:
        if question.image is None:
            return dict(head)
        # The name spares vLLM hashing the pixels; it must tell apart the same file in two sizes.
        name = f"{question.sha256.hex()}-{self._task.image_edge}"
        pixels = {"image": SharedPicture.of(question.image)}
        return {**head, "multi_modal_data": pixels, "multi_modal_uuids": {"image": [name]}, **self._processor}

    def _params_of(self, question: Question) -> SamplingParams:
        number = question.number
        if not self._seeds[number]:
            return self._params[number]
        return self._sampling(number, seed(self._task.tid, question.sha256, number, question.attempt))

    def _sampling(self, number: int, seed: int | None = None) -> SamplingParams:
        prompt = self._task.prompts[number]
        form = None if prompt.format is UNSET else StructuredOutputsParams(**structured(prompt.format))
        try:
            return SamplingParams(
                **arguments(self._task.sampling_of(prompt)),
                seed=seed,
                structured_outputs=form,
                output_kind=RequestOutputKind.FINAL_ONLY,
                skip_clone=True,  # or vLLM makes a deep copy for each request, 8 % of this process's work
            )
        except (ValueError, VLLMClientError) as error:
            raise self._refused(number, error) from error

    def _try(self, number: int) -> None:
        """Raises ModelError when vLLM does not take that prompt, with any image."""
        shown = EXAMPLE if self._task.prompts[number].shows_image else None
        request = self._request(self._prompts.head(number, {}), Question(number, shown, b"", {}))
        params = self._params[number]
        try:
            ready = self._rendering.now(request)
            self._llm.input_processor.process_inputs("example", ready, params, ("generate",))
        except Exception as error:  # the model's own code reads the image, and may raise anything
            raise self._refused(number, error) from error

    def _refused(self, number: int, error: Exception) -> ModelError:
        name = self._task.prompts[number].name
        return ModelError(f"vLLM does not take the prompt {name}: {complaint(error)} Ask the project's maintainer.")

    def _rendered(self, messages: list[Any]) -> Mapping[str, Any]:
        """The messages as the chat template puts them, as tokens, with one image token where the image goes."""
        template = None if self._task.chat_template is UNSET else self._task.chat_template
        params = ChatParams(chat_template=template, chat_template_kwargs={"add_generation_prompt": True})
        rendered: Mapping[str, Any] = self._llm.renderer.render_messages(messages, params)[1]
        return rendered


def _scoring(arguments: Mapping[str, Any]) -> SamplingParams:
    return SamplingParams(**arguments, output_kind=RequestOutputKind.FINAL_ONLY, skip_clone=True)


def _rejected(error: BaseException) -> ImageError:
    """Why vLLM does not take the image; what it says of errors of its own may hold paths, and so only their kind."""
    if isinstance(error, VLLMClientError):
        return ImageError("rejected", one_line(f"vLLM refuses the image: {error}"))
    return ImageError("rejected", f"vLLM cannot prepare the image ({type(error).__name__}).")


def _processor_arguments(task: Task) -> dict[str, Any]:
    if task.image_processor is UNSET:
        return {}
    try:
        arguments = json.loads(task.image_processor)
    except (ValueError, RecursionError) as error:
        raise ModelError("The project's arguments of the image processor are no JSON.") from error
    return {"mm_processor_kwargs": arguments}


def _ends(llm: AsyncLLM) -> set[int]:
    """The tokens with which the model ends a text."""
    told = llm.input_processor.generation_config_fields.get("eos_token_id")
    ends = told if isinstance(told, list) else [told]
    return {token for token in (*ends, llm.renderer.get_eos_token_id()) if token is not None}
