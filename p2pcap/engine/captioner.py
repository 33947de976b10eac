"""A vLLM engine with its model loaded, which answers for one task after another. Runs in the engine's process only.

Loading blocks, and takes seconds to minutes; afterwards everything happens on the running event loop, and another task
of the same model costs milliseconds.
"""

import os
from typing import Any

import vllm
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.model_loader import get_model_cls
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from p2pcap.engine import device
from p2pcap.engine.answering import Answering
from p2pcap.engine.base import EngineLoad, EngineSettings
from p2pcap.engine.control_tokens import ControlTokens
from p2pcap.engine.decoding import Decoders
from p2pcap.engine.model import check_same_model
from p2pcap.engine.picture_room import room_here
from p2pcap.engine.prompts import complaint
from p2pcap.engine.rendering import Rendering
from p2pcap.engine.usage import Usage
from p2pcap.engine.vllm_backend import VllmBackend
from p2pcap.errors import EngineDied, EngineStartError, ModelError
from p2pcap.project.task import Task


class Captioner:
    """Raises ModelError when vLLM does not take the model, EngineStartError when its processes do not come up with
    it."""

    version: str
    device: str
    engine_class: bytes

    def __init__(self, model_dir: str, task: Task, settings: EngineSettings) -> None:
        kind = current_platform.device_type
        self._loaded = task
        self._usage = Usage()
        _keep_from_compiling(kind)
        self._llm = _engine(device.engine_args(kind, model_dir, task, settings), self._usage)
        self._control = ControlTokens(self._llm.get_tokenizer(), _image_places(self._llm.model_config))
        self._rendering = Rendering(self._llm)
        self._decoders = Decoders()
        self._room = room_here(self._decoders.count)
        self._takes_seeds = device.takes_seeds(kind)
        self.version = str(vllm.__version__)
        self.device = device.device_name(kind, len(settings.gpus))
        self.engine_class = device.engine_class(self.version, self.device, task)

    def answering(self, task: Task) -> Answering:
        """What answers that task's prompts. Raises ModelError when it needs the model loaded anew, or vLLM does not
        take its prompts or settings."""
        check_same_model(self._loaded, task)
        backend = VllmBackend(self._llm, self._rendering, task, self._control, self._takes_seeds, self._usage)
        return Answering(task, backend, self._decoders, self._room)

    async def check(self) -> None:
        """Raises EngineDied when vLLM's processes are gone."""
        try:
            await self._llm.check_health()
        except EngineDeadError as error:
            raise EngineDied("vLLM's own processes ended.") from error

    def load(self) -> EngineLoad:
        """What vLLM last said that it is busy with; images that are being decoded are not its business."""
        return self._usage.load()


def _keep_from_compiling(kind: str) -> None:
    """Keeps vLLM's processes from compiling on a CPU, where there may be no C++ compiler.

    `enforce_eager` does not reach what it compiles for a request with `prompt_logprobs`, the first of which would stop
    all captions for seconds (batched_count_greater_than in vLLM 0.32).
    """
    if kind == "cpu":
        os.environ["TORCH_COMPILE_DISABLE"] = "1"  # the processes read it as they start


def _engine(arguments: dict[str, Any], usage: Usage) -> AsyncLLM:
    try:
        config = AsyncEngineArgs(**arguments).create_engine_config()
    except Exception as error:  # a model's files can make transformers and vLLM raise anything
        raise ModelError(f"vLLM does not take the model: {complaint(error)} Use another model.") from error
    try:
        return AsyncLLM.from_vllm_config(config, stat_loggers=usage.loggers(), disable_log_stats=True)
    except Exception as error:  # the same, and whatever the device's driver raises
        raise EngineStartError(f"vLLM does not start: {complaint(error)}") from error


def _image_places(model_config: Any) -> list[str]:
    """What vLLM takes for an image's place in a text; some models have no token for it."""
    place = get_model_cls(model_config).get_placeholder_str("image", 1)
    return [place] if place else []
