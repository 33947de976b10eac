"""From an answer's tokens to its text and back, as the real model's tokenizer has it."""

from collections.abc import Sequence

import msgspec
import pytest

from p2pcap.engine.base import Finish, Output, Spelt
from p2pcap.engine.vllm_engine import VllmEngine
from p2pcap.errors import ImageError
from p2pcap.project.sampling import Format, Sampling
from tests.engine.hosted import TASK, HostedEngine
from tests.engine.test_scoring import END, Outputs, all_answers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def answers(hosted: HostedEngine) -> Outputs:
    return hosted.run(all_answers)


def spell(hosted: HostedEngine, ids: Sequence[int], finish: Finish = "stop", prompt: int = 0) -> Spelt:
    return hosted.run(VllmEngine.spell, prompt, ids, finish)


def every(answers: Outputs) -> list[tuple[int, Output]]:
    return [(prompt, output) for outputs in answers for prompt, output in enumerate(outputs)]


def test_honest_tokens_spell_the_answer(hosted: HostedEngine, answers: Outputs) -> None:
    for prompt, output in every(answers):
        assert spell(hosted, output.ids, output.finish, prompt) == Spelt(output.text)


def test_one_of_the_readings_of_a_text_is_the_models_own(hosted: HostedEngine, answers: Outputs) -> None:
    for prompt, output in every(answers):
        assert output.ids in hosted.run(VllmEngine.cut, prompt, output.text, output.finish)


def test_tokens_without_their_end_are_no_whole_answer(hosted: HostedEngine, answers: Outputs) -> None:
    whole = answers[0][0]
    part = spell(hosted, whole.ids[:5])
    assert whole.text.startswith(part.text)
    assert not part.ended
    assert spell(hosted, whole.ids[:5], "length") == msgspec.structs.replace(part, ended=True, short=True)


@pytest.mark.parametrize("ids", [(511, 512), (END,), (5,) * 49])
def test_what_no_answer_is_made_of_spells_nothing(hosted: HostedEngine, ids: Sequence[int]) -> None:
    assert spell(hosted, ids).text == ""


@pytest.mark.parametrize(("prompt", "ids"), [(3, (5,)), (-1, (5,)), (0, ()), (0, (-1,))])
def test_what_names_no_prompt_or_no_tokens_is_refused(hosted: HostedEngine, prompt: int, ids: Sequence[int]) -> None:
    with pytest.raises(ImageError, match="unscorable"):
        spell(hosted, ids, prompt=prompt)
    with pytest.raises(ImageError, match="unscorable"):
        hosted.run(VllmEngine.cut, prompt if prompt else 3, "text", "stop")


def test_an_answer_that_a_text_or_a_format_ends_is_spelt_as_it_was_made(hosted: HostedEngine) -> None:
    """vLLM cuts the text where the stop text begins, and the tokens go on."""
    stopped = msgspec.structs.replace(TASK, sampling=Sampling(max_tokens=48, stop=(" on ", ",")))
    form = Format("regex", "(red|blue|green) [a-z]{3,8}", ())
    formed = msgspec.structs.replace(TASK, prompts=(msgspec.structs.replace(TASK.prompts[0], format=form),))
    for task in (stopped, formed):
        with hosted.serving(task):
            for prompt, output in every(hosted.run(all_answers)):
                spelt = spell(hosted, output.ids, output.finish, prompt)
                assert spelt.text == output.text
                assert spelt.ended or not spelt.certain
