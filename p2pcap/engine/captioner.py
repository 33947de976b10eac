"""One vLLM engine that answers a task's prompts about image files. Runs in the engine's process only.

Requests are independent: vLLM batches whatever is in hand at each step, so the caller keeps enough images in flight and
nothing ever waits for a batch to fill or to drain. All prompts of an image are asked together and share its encoding.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, get_args

import vllm
from PIL import Image
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.model_executor.model_loader import get_model_cls
from vllm.platforms import current_platform
from vllm.renderers.params import ChatParams
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from p2pcap.engine import device
from p2pcap.engine.base import EngineSettings, Finish, Output
from p2pcap.engine.control_tokens import ControlTokens
from p2pcap.engine.decoding import Decoders
from p2pcap.engine.prompts import Prompts, complaint, one_line
from p2pcap.errors import EngineDied, EngineStartError, ImageError, ModelError
from p2pcap.project.task import Task

ATTEMPTS = 2
"""How often an answer is asked for before its absence is the image's fault."""


class Captioner:
    """An engine with its model loaded. Loading blocks; afterwards everything happens on the running event loop.

    Raises ModelError when vLLM does not take the model, EngineStartError when its processes do not come up with it.
    """

    def __init__(self, model_dir: str, task: Task, settings: EngineSettings) -> None:
        kind = current_platform.device_type
        self._task = task
        self._seeds = task.sampling.temperature > 0 and device.takes_seeds(kind)
        self._llm = _engine(device.engine_args(kind, model_dir, task, settings))
        control = ControlTokens(self._llm.get_tokenizer(), _image_places(self._llm.model_config))
        self._prompts = Prompts(self._rendered, control, task)
        self._decoders = Decoders()
        self._requests = 0
        self.version = str(vllm.__version__)
        self.device = device.device_name(kind)

    async def caption(self, file: bytes, sha256: bytes, fields: Mapping[str, str]) -> tuple[Output, ...]:
        """One answer a prompt, with the image's `fields` in the prompts.

        Raises ImageError for a faulty image and EngineDied when vLLM's processes are gone.
        """
        image = await asyncio.wrap_future(self._decoders.submit(file, self._task.image_edge))
        heads = self._prompts.heads(fields)
        answers = [self._answer(number, head, image, sha256) for number, head in enumerate(heads)]
        return tuple(await asyncio.gather(*answers))

    async def check(self) -> None:
        """Raises EngineDied when vLLM's processes are gone."""
        try:
            await self._llm.check_health()
        except EngineDeadError as error:
            raise EngineDied("vLLM's own processes ended.") from error

    def _rendered(self, messages: list[Any]) -> Mapping[str, Any]:
        """The messages as the model's chat template puts them, as tokens, with one image token where the image goes."""
        params = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
        rendered: Mapping[str, Any] = self._llm.renderer.render_messages(messages, params)[1]
        return rendered

    async def _answer(self, number: int, head: dict[str, Any], image: Image.Image, sha256: bytes) -> Output:
        """The answer to one prompt. An empty one, or one that vLLM gave up, is asked for once more."""
        finish = None
        for _ in range(ATTEMPTS):
            text, tokens, finish = await self._generate(number, head, image, sha256)
            if text and finish in get_args(Finish):
                return Output(text, tokens, finish)
        if finish in get_args(Finish):
            raise ImageError("empty-output", f"The model gave an empty answer {ATTEMPTS} times.")
        raise ImageError("rejected", f"vLLM gave the image up {ATTEMPTS} times ({finish}).")

    async def _generate(
        self, number: int, head: dict[str, Any], image: Image.Image, sha256: bytes
    ) -> tuple[str, int, Any]:
        """One request: its text, its number of tokens, why it ended. Cancelling it aborts it in vLLM."""
        self._requests += 1
        request = head | {
            "multi_modal_data": {"image": image},
            "multi_modal_uuids": {"image": [sha256.hex()]},  # spares hashing the pixels
        }
        try:
            async for result in self._llm.generate(request, self._sampling(number, sha256), str(self._requests)):
                answer = result.outputs[0]
        except EngineDeadError as error:
            raise EngineDied("vLLM's own processes ended.") from error
        except VLLMClientError as error:
            raise ImageError("rejected", one_line(f"vLLM refuses the image: {error}")) from error
        except EngineGenerateError as error:
            await self.check()
            reason = f"vLLM cannot prepare the image ({type(error.__cause__).__name__})."
            raise ImageError("rejected", reason) from error
        return answer.text.strip(), len(answer.token_ids), answer.finish_reason

    def _sampling(self, number: int, sha256: bytes) -> SamplingParams:
        sampling = self._task.sampling
        return SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature / 1_000,
            top_p=sampling.top_p / 1_000,
            repetition_penalty=sampling.repetition_penalty / 1_000,
            stop=list(sampling.stop),
            seed=_seed(self._task.tid, sha256, number) if self._seeds else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _engine(arguments: dict[str, Any]) -> AsyncLLM:
    try:
        config = AsyncEngineArgs(**arguments).create_engine_config()
    except Exception as error:  # a model's files can make transformers and vLLM raise anything
        raise ModelError(f"vLLM does not take the model: {complaint(error)} Use another model.") from error
    try:
        return AsyncLLM.from_vllm_config(config, disable_log_stats=True)
    except Exception as error:  # the same, and whatever the device's driver raises
        raise EngineStartError(f"vLLM does not start: {complaint(error)}") from error


def _image_places(model_config: Any) -> list[str]:
    """What vLLM takes for an image's place in a text; some models have no token for it."""
    place = get_model_cls(model_config).get_placeholder_str("image", 1)
    return [place] if place else []


def _seed(tid: bytes, sha256: bytes, prompt: int) -> int:
    """63 bits that follow from task, image and prompt alone: nobody chooses the randomness of an answer."""
    digest = hashlib.sha256(b"p2pcap sampling seed 1" + tid + sha256 + prompt.to_bytes(2, "big")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
