"""What a task may ask of real vLLM: formats, sampling, templates, stages, and what vLLM says it is busy with."""

import hashlib
import io
import json
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from PIL import Image, ImageOps
from PIL.Image import Transpose

from models.shapes.pictures import DESCRIBE, PROMPTS, draw, encode
from p2pcap.engine.base import EngineLoad, Output
from p2pcap.engine.shared_picture import SharedPicture
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.errors import ImageError, ModelError
from p2pcap.project.sampling import Bias, Format, OutputPolicy, Sampling
from p2pcap.project.task import Model, Prompt, Task
from tests.engine.hosted import MODEL, TASK, HostedEngine

PICTURE = draw("held-out", 21, 0)
FILE = encode(PICTURE, "jpg")
TRUTH = PICTURE.answers[DESCRIBE]
WORDS = ("red", "green", "blue", "yellow", "purple", "orange")
TEMPLATE = (MODEL / "chat_template.jinja").read_text().replace("{{ part['text'] }}", PROMPTS[1])


def one(text: str = PROMPTS[0], **more: Any) -> Task:
    return replace(TASK, prompts=(Prompt("only", text, **more),))


def caption(hosted: HostedEngine, task: Task, file: bytes = FILE) -> tuple[Output, ...]:
    with hosted.serving(task):
        return hosted.run(VllmEngine.caption, file, hashlib.sha256(file).digest())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "good"),
    [
        (Format("choice", choices=WORDS), WORDS.__contains__),
        (Format("regex", "(a|two) (red|blue) (circle|square)"), lambda text: text.split()[1] in WORDS),
        (Format("schema", json.dumps({"enum": list(WORDS)})), lambda text: json.loads(text) in WORDS),
        (Format("schema", json.dumps({"const": {"a": 1}})), lambda text: json.loads(text) == {"a": 1}),
    ],
    ids=["choice", "regex", "enum", "const"],
)
def test_the_model_can_make_no_other_form(hosted: HostedEngine, form: Format, good: Any) -> None:
    (output,) = caption(hosted, one(format=form))
    assert good(output.text)
    assert output.ids


@pytest.mark.slow
def test_an_answer_that_cannot_have_its_form_is_an_error_row(hosted: HostedEngine) -> None:
    """Twenty digits are more tokens than the task allows."""
    task = one(format=Format("regex", "[0-9]{20}"), sampling=Sampling(max_tokens=4))
    with pytest.raises(ImageError, match="bad-format"):
        caption(hosted, task)


EVERY_SETTING = Sampling(
    max_tokens=40,
    temperature=500,
    top_p=900,
    repetition_penalty=1_010,
    stop=("END",),
    top_k=10,
    min_p=10,
    presence_penalty=-1,
    frequency_penalty=1,
    min_tokens=1,
    stop_token_ids=(2,),
    bad_words=("zebra",),
    allowed_token_ids=tuple(range(2, 500)),
    logit_bias=(Bias(500, -100_000),),
    ignore_eos=False,
    include_stop_str_in_output=False,
    skip_special_tokens=True,
)


@pytest.mark.slow
def test_vllm_knows_every_setting(hosted: HostedEngine) -> None:
    (output,) = caption(hosted, one(sampling=EVERY_SETTING))
    assert output.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        one(sampling=Sampling(temperature=3_000)),
        one(sampling=Sampling(stop=("",))),
        one(sampling=Sampling(stop_token_ids=(10**6,))),
        one(sampling=Sampling(max_tokens=2, min_tokens=3)),
        one(format=Format("regex", "(?<=a)b")),
        one(format=Format("schema", '{"type": "strange"}')),
        replace(one(), image_processor="[1]"),
        replace(one(), image_processor="{"),
        replace(one(), chat_template="{{ 1 / 0 }}"),
        replace(one(), chat_template="no image"),
        one(text="a cat " * 1_300),
    ],
    ids=lambda task: "",
)
def test_what_vllm_does_not_take_is_one_sentence_before_any_image(hosted: HostedEngine, task: Task) -> None:
    with pytest.raises(ModelError) as fault, hosted.serving(task):
        pass
    assert len(str(fault.value)) < 400
    assert "\n" not in str(fault.value)
    assert caption(hosted, TASK)[0].text == TRUTH, "the engine goes on"


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        replace(TASK, model=Model("another")),
        replace(TASK, dtype="float16"),
        replace(TASK, quantization="fp8"),
        replace(TASK, max_model_len=128),
    ],
    ids=["model", "dtype", "quantization", "length"],
)
def test_a_task_of_another_model_needs_another_engine(hosted: HostedEngine, task: Task) -> None:
    with pytest.raises(ModelError), hosted.serving(task):
        pass


@pytest.mark.slow
def test_a_chat_template_of_the_task_s_is_used(hosted: HostedEngine) -> None:
    """This one asks the second question whatever the prompt says."""
    (output,) = caption(hosted, replace(one(), chat_template=TEMPLATE))
    assert output.text == PICTURE.answers[PROMPTS[1]]


@pytest.mark.slow
def test_an_answer_goes_into_the_next_prompt(hosted: HostedEngine) -> None:
    stages = (
        Prompt("question", "x", format=Format("choice", choices=(PROMPTS[0],))),
        Prompt("answer", "{question}"),
        Prompt("again", "{answer} {question}", image=False),
    )
    question, answer, again = caption(hosted, replace(TASK, prompts=stages))
    assert question.text == PROMPTS[0]
    assert answer.text == TRUTH
    assert again.text != TRUTH


@pytest.mark.slow
def test_a_policy_of_the_task_s_is_kept_to(hosted: HostedEngine) -> None:
    assert caption(hosted, replace(TASK, output=OutputPolicy(cut=(" on a",))))[0].text == TRUTH.partition(" on a")[0]
    with pytest.raises(ImageError, match="refusal"):
        caption(hosted, replace(TASK, output=OutputPolicy(refusals=("A ",))))
    with pytest.raises(ImageError, match="unfinished"):
        caption(hosted, replace(one(sampling=Sampling(max_tokens=3)), output=OutputPolicy(whole=True)))


@pytest.mark.slow
def test_the_same_file_in_another_size_is_another_image(hosted: HostedEngine) -> None:
    """vLLM keeps what it has preprocessed by name."""
    tiny = replace(one(), image_edge=2)
    assert caption(hosted, one())[0].text == TRUTH
    assert caption(hosted, tiny)[0].text != TRUTH
    assert caption(hosted, one())[0].text == TRUTH


@pytest.mark.slow
def test_vllm_tells_what_it_is_busy_with(hosted: HostedEngine) -> None:
    async def ask(engine: VllmEngine) -> EngineLoad:
        busiest = EngineLoad()
        async with trio.open_nursery() as nursery:
            for number in range(200):
                file = encode(draw("held-out", 100 + number % 20, 0), "jpg")
                nursery.start_soon(engine.caption, file, hashlib.sha256(file + bytes([number])).digest())
            while not busiest.running:
                await trio.sleep(0.05)
                busiest = engine.state.load
        return busiest

    load = hosted.run(ask)
    assert 0 < load.kv <= 1
    assert load.running <= 64


# Pictures


def noise(size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.effect_noise(size, 50).convert("RGB")


def test_a_shared_picture_is_not_copied_where_another_is() -> None:
    """What vLLM does to every picture (normalize_image in vllm.multimodal.image)."""
    plain = noise()
    assert ImageOps.exif_transpose(plain).im is not plain.im
    shared = SharedPicture.of(plain)
    upright = ImageOps.exif_transpose(shared)
    assert upright.im is ImageOps.exif_transpose(upright).im is plain.im
    assert upright.convert("RGB").im is plain.im


def test_a_shared_picture_is_the_same_picture() -> None:
    plain = noise()
    shared = SharedPicture.of(plain)
    assert isinstance(shared, Image.Image)
    assert (shared.size, shared.mode, shared.tobytes()) == (plain.size, "RGB", plain.tobytes())
    assert shared.resize((7, 9)).tobytes() == plain.resize((7, 9)).tobytes()
    assert shared.transpose(Transpose.ROTATE_90).tobytes() == plain.transpose(Transpose.ROTATE_90).tobytes()
    file = io.BytesIO()
    shared.save(file, "PNG")
    assert Image.open(file).tobytes() == plain.tobytes()


def test_who_writes_into_a_copy_changes_no_other() -> None:
    plain = noise()
    before = plain.tobytes()
    shared = SharedPicture.of(plain)
    copy = shared.copy()
    copy.paste((0, 0, 0), (0, 0, 20, 20))
    copy.putpixel((30, 20), (1, 2, 3))
    shared.copy().thumbnail((5, 5))
    assert copy.tobytes() != before
    assert shared.tobytes() == plain.tobytes() == before
