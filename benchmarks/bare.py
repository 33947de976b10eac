"""`python -m benchmarks.bare KIND WORKSPACE IMAGES MODEL`: vLLM with nothing around it, as a node path's baseline.

KIND is "loop", an AsyncLLM fed by the simplest loop that keeps its batch full and a few more images in flight,
"offline", one call of LLM.generate over all images, or "batches", a loop of LLM.chat over BATCH images at a time that
decodes each batch when the one before is done, as simple captioning scripts do. Task, engine arguments and sampling are
those of the node's engine. Reading and decoding the files is part of the measured time, as it is for the node.

Says "ready" once the engine is up, then one JSON object with `seconds` and `captions`, and ends when standard input
is closed.
"""

import asyncio
import json
import os
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import vllm
from PIL import Image
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.renderers.params import ChatParams
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from p2pcap.engine.base import EngineSettings
from p2pcap.engine.device import engine_args
from p2pcap.engine.sampling import arguments as arguments_of
from p2pcap.project.task import Task
from p2pcap_bootstrap.workspace import Workspace

IN_HAND_BEYOND_BATCH = 16
"""Images in flight above the batch, so that a finished one is replaced at once."""

SETTINGS = EngineSettings()
BATCH = 8


def main() -> None:
    """Caption every image below IMAGES once."""
    kind, workspace, images, model = sys.argv[1:]
    task = Workspace(Path(workspace)).project().stages[0].task
    paths = sorted(path for path in Path(images).rglob("*") if path.is_file())
    arguments = engine_args(current_platform.device_type, model, task, SETTINGS)
    if kind == "loop":
        asyncio.run(_loop(arguments, task, paths))
    elif kind == "offline":
        _offline(arguments, task, paths)
    else:
        _batches(arguments, task, paths)


async def _loop(arguments: dict[str, Any], task: Task, paths: list[Path]) -> None:
    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    head, sampling = _head(llm.renderer, task), _sampling(task)
    free = asyncio.Semaphore(SETTINGS.max_num_seqs + IN_HAND_BEYOND_BATCH)
    texts: list[str] = []

    async def caption(number: int, image: Image.Image) -> None:
        async for result in llm.generate(_request(head, number, image), sampling, str(number)):
            texts.append(result.outputs[0].text)
        free.release()

    print("ready", flush=True)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, path in enumerate(paths):
            await free.acquire()
            group.create_task(caption(number, _decoded(path)))
    _end(time.perf_counter() - started, texts)


def _offline(arguments: dict[str, Any], task: Task, paths: list[Path]) -> None:
    llm = vllm.LLM(**arguments)
    head, sampling = _head(llm.renderer, task), _sampling(task)
    print("ready", flush=True)
    started = time.perf_counter()
    requests = [_request(head, number, _decoded(path)) for number, path in enumerate(paths)]
    results = llm.generate(requests, sampling, use_tqdm=False)
    _end(time.perf_counter() - started, [result.outputs[0].text for result in results])


def _batches(arguments: dict[str, Any], task: Task, paths: list[Path]) -> None:
    llm = vllm.LLM(**arguments)
    sampling = _sampling(task)
    texts: list[str] = []
    print("ready", flush=True)
    started = time.perf_counter()
    for first in range(0, len(paths), BATCH):
        asked = [_question(task, _decoded(path)) for path in paths[first : first + BATCH]]
        texts += [result.outputs[0].text for result in llm.chat(asked, sampling, use_tqdm=False)]
    _end(time.perf_counter() - started, texts)


def _end(seconds: float, texts: list[str]) -> NoReturn:
    """Say the result and wait, the engine still alive, until its CPU time has been read.

    Must be called while the engine is in scope: its own way of ending takes six seconds and kills what is measured.
    """
    print(json.dumps({"seconds": seconds, "captions": sum(1 for text in texts if text.strip())}), flush=True)
    sys.stdin.read()
    os._exit(0)


def _head(renderer: Any, task: Task) -> dict[str, Any]:
    """The task's first prompt in the model's chat template."""
    params = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
    _, rendered = renderer.render_messages(_question(task, Image.new("RGB", (64, 64))), params)
    return {name: rendered[name] for name in ("prompt", "prompt_token_ids") if name in rendered}


def _question(task: Task, image: Image.Image) -> list[Any]:
    content = [{"type": "image_pil", "image_pil": image}, {"type": "text", "text": task.prompts[0].text}]
    return [{"role": "user", "content": content}]


def _request(head: dict[str, Any], number: int, image: Image.Image) -> dict[str, Any]:
    named = {"multi_modal_uuids": {"image": [str(number)]}}  # spares hashing the pixels, as in the node's engine
    return head | {"multi_modal_data": {"image": image}} | named


def _sampling(task: Task) -> SamplingParams:
    return SamplingParams(**arguments_of(task.sampling), output_kind=RequestOutputKind.FINAL_ONLY)


def _decoded(path: Path) -> Image.Image:
    return Image.open(BytesIO(path.read_bytes())).convert("RGB")


if __name__ == "__main__":
    main()
