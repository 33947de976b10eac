"""project.yaml: what it may say, and one sentence for each thing that it may not."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from p2pcap.engine.form import Form
from p2pcap.engine.output import Policy
from p2pcap.errors import ConfigError, ImageError, ModelError
from p2pcap.identity import Identity
from p2pcap.project.sampling import OutputPolicy
from p2pcap.project.task import Prompt
from p2pcap.sources.spec import Images
from p2pcap_bootstrap import config
from p2pcap_bootstrap.creating import NewProject, create
from p2pcap_bootstrap.sections import PromptFile, SamplingFile, milli
from tests.unit.coordinator import PROMPTS, file_of, new_project, tree, write_images, write_model

LEAST = "name: cats\nimages: images\nmodel: owner/model\nprompts:\n  - name: caption\n    text: What is it?\n"


def read(folder: Path, text: str) -> config.ProjectFile:
    (folder / config.FILE).write_text(text, encoding="utf-8")
    return config.read(folder)


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    file = read(tmp_path, LEAST)
    assert (file.chunk, file.expires_days, file.policy.attempts) == (1_024, 90, 3)
    assert (file.sampling, file.output) == (SamplingFile(), OutputPolicy())
    assert file.prompts == (PromptFile(name="caption", text="What is it?"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LEAST + "chunks: 64\n", "did you mean `chunk`"),
        (LEAST + "sampling:\n  max_token: 5\n", "did you mean `max_tokens`"),
        (LEAST + "policy:\n  attempt: 5\n", "did you mean `attempts`"),
        (LEAST + "zzzzzz: 5\n", "unknown field `zzzzzz`"),
        (LEAST.replace("images: images", "images: {source: a.csv, url_colum: url}"), "did you mean `url_column`"),
        (LEAST.replace("images: images", "images: {url_column: url}"), "missing required field `source`"),
        (LEAST.replace("images: images", "images: {source: a.csv, kind: zip}"), "Invalid enum value 'zip'"),
        (
            LEAST.replace("images: images", "images: {source: a.csv, kind: folderr}"),
            "it may be auto, folder, parquet, urls, tar, files, stream; did you mean folder?",
        ),
        (
            LEAST.replace("images: images", "images: {source: a.csv, captioned: skipp}"),
            "it may be append, replace, skip; did you mean skip?",
        ),
        (LEAST.replace("images: images", "images: {source: ''}"), "length >= 1"),
        (LEAST.replace("images: images", "images: {source: a.csv, fields: title}"), "Expected `array`"),
        (LEAST.replace("images: images", "images: 5"), "Expected `str | object`"),
        (LEAST.replace("images: images", "images: ''"), "length >= 1"),
        (LEAST.replace("model: owner/model\n", ""), "missing required field `model`"),
        (LEAST.replace("What is it?", "''"), "length >= 1"),
        (LEAST.replace("caption", "A caption"), "a name is 1 to 32 small letters"),
        (LEAST.replace("name: cats", f"name: {'c' * 65}"), "length <= 64"),
        (LEAST.replace("name: cats", "name: 5"), "Expected `str`"),
        (LEAST + "chunk: 63\n", ">= 64"),
        (LEAST + "chunk: 16385\n", "<= 16384"),
        (LEAST + "chunk: many\n", "Expected `int`"),
        (LEAST + "dtype: int4\n", "`dtype` is not written as it must be: it may be auto, float32"),
        (LEAST + "revision: main\n", "a revision is 40 digits"),
        (LEAST + "quantization: A B\n", "up to 32 small letters"),
        (LEAST + "deadline: soon\n", "`deadline` is no date or time; write 2027-01-31"),
        (LEAST + "sampling: {temperature: -1}\n", ">= 0"),
        (LEAST + "sampling: {top_p: 0}\n", ">= 0.001"),
        (LEAST + "sampling: {top_p: 0.0001}\n", ">= 0.001"),
        (LEAST + "sampling: {temperature: .inf}\n", "<= 2"),
        (LEAST + "sampling: {temperature: 2.1}\n", "<= 2"),
        (LEAST + "sampling: {min_p: -0.1}\n", ">= 0"),
        (LEAST + "sampling: {presence_penalty: 2.5}\n", "<= 2"),
        (LEAST + "sampling: {frequency_penalty: -2.5}\n", ">= -2"),
        (LEAST + "sampling: {stop: ['']}\n", "length >= 1 - at `$.sampling.stop[0]`"),
        (LEAST + f"sampling: {{stop: [{'x,' * 9}]}}\n", "length <= 8"),
        (LEAST + f"sampling: {{stop: [{'x' * 9_000}]}}\n", "length <= 8192"),
        (LEAST + "sampling: {bad_words: ['']}\n", "length >= 1"),
        (LEAST + "sampling: {stop_token_ids: [-1]}\n", ">= 0"),
        (LEAST + "sampling: {logit_bias: {a: 1}}\n", "Expected `int`"),
        (LEAST + "sampling: {logit_bias: {5: 101}}\n", "<= 100"),
        (LEAST + "output: {refusal: [a]}\n", "did you mean `refusals`?"),
        (LEAST + "output: {least: 0}\n", ">= 1"),
        (LEAST + "engines: [vlm]\n", "it may be vllm, openai; did you mean vllm?"),
        (LEAST + "image_processor: [5]\n", "Expected `object`"),
        (LEAST + "    sampling: {max_token: 5}\n", "did you mean `max_tokens`?"),
        (LEAST + "    format: {json_schema: {}}\n", "did you mean `schema`?"),
        (LEAST + "    format: {choice: [yes]}\n", "Expected `str`, got `bool`"),
        (LEAST + "    images: false\n", "did you mean `image`?"),
        (LEAST + "sampling: {temperature: .nan}\n", ">= 0"),
        (LEAST + "policy: {attempts: 0}\n", ">= 1"),
        (LEAST + "expires_days: 0\n", ">= 1"),
        (LEAST + "  - [\n", "is not YAML"),
        (LEAST + "\tx: 1\n", "is not YAML"),
        (LEAST + "description: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        (
            LEAST.replace("name: cats", "name: 2020-13-45"),
            "2020-13-45 cannot be read as timestamp; a text goes in quotes",
        ),
        (LEAST + f"chunk: {'1' * 5_000}\n", "line 7, column 8"),
        (LEAST + f"chunk: {'1' * 100}\n", "line 7: "),
        (LEAST + "chunk: !!bool maybe\n", "maybe cannot be read as bool"),
        (LEAST + "chunk: !!timestamp now\n", "now cannot be read as timestamp"),
        (LEAST + f"image_processor: {{a: {'[' * 3_000 + ']' * 3_000}}}\n", "is nested too deep"),
        (LEAST.replace("prompts:", f"description: {'[' * 3_000}\nprompts:"), "is nested too deep"),
        (LEAST.replace("images: images", "images: ~nobody.here/cats"), "images names '~nobody.here/cats'"),
        (LEAST.replace("images: images", 'images: {source: "a\\0b"}'), "which is no path here"),
        ("", "It says nothing. Write name, images, model and prompts"),
        ("# nothing yet\n", "says nothing"),
        ("- a list\n", "holds no keys"),
        ("just text\n", "holds no keys"),
    ],
)
def test_each_fault_has_its_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert says in str(caught.value)
    assert config.FILE in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LEAST + "chunks: 64\n", 7),
        (LEAST + "\n# a comment\nsampling:\n  seed: 1\n  max_token: 5\n", 11),
        (LEAST + "chunk: 5\n", 7),
        (LEAST + "  - name: more\n    text: ''\n", 8),
        (LEAST + "  - name: more\n    text: x\n    sampling:\n      stop: [a,\n        5]\n", 11),
        (LEAST + "  - name: more\n", 7),
        (LEAST + "sampling:\n  logit_bias:\n    a: 1\n", 8),
        (LEAST + "chunk: 64\nchunk: 65\nchunk: 5\n", 8),
        (LEAST.replace("images: images", "images: {source: a.csv, kind: zip}"), 2),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"{config.FILE}, line {line}: "):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["", "- a list\n", "name: cats\n"])
def test_a_fault_of_the_whole_file_has_no_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"{config.FILE}: "):
        read(tmp_path, text)


def test_images_are_a_text_or_a_section(tmp_path: Path) -> None:
    assert read(tmp_path, LEAST).source == Images(source="images")
    section = "images: {source: '*.parquet', fields: [title], captioned: skip, caption_field: title, robots: false}"
    wanted = Images(source="*.parquet", fields=("title",), captioned="skip", caption_field="title", robots=False)
    assert read(tmp_path, LEAST.replace("images: images", section)).source == wanted


def test_no_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="project init"):
        config.read(tmp_path)


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, closed: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.read(closed)


def test_a_file_that_is_no_text_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.read(tmp_path)


def test_ratios_become_thousandths() -> None:
    assert [milli(number) for number in (0, 0.7, 1, 1.1, 0.3, 100)] == [0, 700, 1_000, 1_100, 300, 100_000]


# project init


def test_a_new_project_reads_as_it_was_told(tmp_path: Path) -> None:
    folder, model = write_images(tmp_path / "my images", 3), write_model(tmp_path / "model")
    new = NewProject(str(folder), str(model), 'Cats: a "study" #1', PROMPTS, "", "float32", 128, 32, 256, 2)
    workspace = create(tmp_path / "deep" / "project", new)
    file = file_of(workspace)
    assert (file.name, file.images, file.model) == (new.name, str(folder), str(model))
    assert [(prompt.name, prompt.text) for prompt in file.prompts or ()] == [
        (prompt.name, prompt.text) for prompt in PROMPTS
    ]
    assert (file.dtype, file.chunk, file.image_edge) == ("float32", 128, 256)
    assert (file.sampling.max_tokens, file.policy.wait_for_engines) == (32, 2)
    keys = {
        Identity.load(path).public for path in (workspace.root_key, workspace.coordinator_key, workspace.ticket_key)
    }
    assert len(keys) == 3
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["project"]


def test_a_new_project_knows_refusals_and_loops(tmp_path: Path) -> None:
    output = file_of(new_project(tmp_path)).output
    assert (output.loops, output.least, output.whole, output.cut) == (True, 1, False, ())
    policies = Policy(output, Form(UNSET))
    for text in ("I\u2019m sorry, but no.", "i cannot help with that", "As an AI language model, I"):
        with pytest.raises(ImageError, match="refuses"):
            policies.answer(text, "stop")
    for text in ("As an airplane lands, a dog barks.", 'A sign says "I cannot".', "A red square left of a red circle."):
        assert policies.answer(f" {text}\n", "stop") == text


SOURCES = ["hf://datasets/owner/name", "hf://datasets/owner/name@main/data/*.parquet", "https://example.org/a.tar"]


@pytest.mark.parametrize("source", SOURCES)
def test_images_elsewhere_are_named_as_they_are(tmp_path: Path, source: str) -> None:
    workspace = create(tmp_path / "project", NewProject(source, "owner/model", "cats", PROMPTS))
    assert file_of(workspace).images == source


@pytest.mark.parametrize("source", ["shards", "shards/a.parquet", "shards/*.parquet", "shards/**/a*.tar"])
def test_local_images_are_named_by_their_whole_path(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.parquet").touch()
    monkeypatch.chdir(tmp_path)
    workspace = create(tmp_path / "project", NewProject(source, "owner/model", "cats", PROMPTS))
    assert file_of(workspace).images == str(tmp_path / source)


@settings(max_examples=15)
@given(st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=200))
def test_any_name_and_prompt_come_back(tmp_path_factory: pytest.TempPathFactory, name: str, prompt: str) -> None:
    base = tmp_path_factory.mktemp("new")
    folder = write_images(base / "images", 1)
    workspace = create(base / "project", NewProject(str(folder), "owner/model", name, (Prompt("caption", prompt),)))
    assert (file_of(workspace).name, file_of(workspace).sections[0].prompts[0].text) == (name, prompt)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"images": "/nowhere/images"}, ConfigError, "There is no folder"),
        ({"images": "~nobody.here/cats"}, ConfigError, "There is no folder"),
        ({"images": "a\0b"}, ConfigError, "There is no folder"),
        ({"model": "~nobody.here/model"}, ModelError, "neither a model directory nor a name on the Hub"),
        ({"images": "images/missing.parquet"}, ConfigError, "There is no folder or file"),
        ({"images": "missing/*.tar"}, ConfigError, "There is no folder or file"),
        ({"images": "hf://datasets/owner"}, ConfigError, "does not name a dataset"),
        ({"images": "s3://bucket/cats"}, ConfigError, "cannot begin with s3://"),
        ({"images": "https://"}, ConfigError, "no address of images"),
        ({"model": "no model at all"}, ModelError, "neither a model directory nor a name on the Hub"),
        ({"model": "./nowhere"}, ModelError, "neither a model directory nor a name on the Hub"),
        ({"name": ""}, ConfigError, "length >= 1"),
        ({"name": "n" * 65}, ConfigError, "length <= 64"),
        ({"prompts": ()}, ConfigError, "prompts"),
        ({"prompts": (*PROMPTS, Prompt(PROMPTS[0].name, "Why?"))}, ConfigError, "Two prompts are called caption"),
        ({"chunk": 1}, ConfigError, ">= 64"),
    ],
)
def test_a_project_that_cannot_be_leaves_nothing_behind(
    tmp_path: Path, change: dict[str, object], error: type[Exception], says: str
) -> None:
    folder = write_images(tmp_path / "images", 1)
    told = {"images": str(folder), "model": "owner/model", "name": "cats", "prompts": PROMPTS} | change
    with pytest.raises(error, match=says):
        create(tmp_path / "project", NewProject(**told))  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, missing: str) -> None:
    folder, model = write_images(tmp_path / "images", 1), write_model(tmp_path / "model")
    (model / missing).unlink()
    with pytest.raises(ModelError, match=missing.removeprefix("model")):
        create(tmp_path / "project", NewProject(str(folder), str(model), "cats", PROMPTS))
    assert not (tmp_path / "project").exists()


def test_a_project_is_not_overwritten(tmp_path: Path) -> None:
    workspace = new_project(tmp_path)
    before = tree(workspace.directory)
    with pytest.raises(ConfigError, match="holds a project already"):
        create(workspace.directory, NewProject(str(tmp_path / "images"), "owner/model", "another", PROMPTS))
    assert tree(workspace.directory) == before


def test_a_folder_that_exists_is_used_and_its_files_kept(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "notes.txt").write_text("mine")
    workspace = new_project(tmp_path)
    assert (workspace.directory / "notes.txt").read_text() == "mine"
    assert file_of(workspace).name == "Shapes"


def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "project").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be made"):
        new_project(tmp_path)
    assert (tmp_path / "project").read_text() == "a file"
