"""The stages of the recipe `finetune` on tiny data, from the folder of a pretrained model to the chat."""

import json
import shutil
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from chat.session import Session
from flows.lifecycle.context import describe_run
from flows.recipes import configure
from flows.retrain import CHAIN
from models.data.examples import export_examples
from models.data.schemas import SPLIT_TURNS
from models.errors import InputError
from models.evaluation.report import EvaluateConfig, evaluate_model
from models.evaluation.scorecard import RescoreConfig, rescore_champion, score_model
from models.generation.config import GenerationConfig
from models.pretrained import gguf
from models.pretrained.source import StartConfig, is_foreign, take_start
from models.registry.versions import Registry
from models.text.config import MarkupConfig
from models.text.vocabulary import VocabularyConfig, learn_vocabulary
from models.training import trainer
from settings import Settings
from tasks.plan import plan_chain
from tasks.register import check_answers
from tasks.start import resolve
from tasks.train import train
from tasks.vocabulary import vocabulary


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    home = tmp_path_factory.mktemp("registry")
    return Registry(f"sqlite:///{home}/mlflow.db", home / "mlartifacts", "repartee", "repartee")


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def stages(request, pretrained, registry, tmp_path_factory):
    """The folder of every stage; the GPT-2 model has no chat template."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("stages")
    template = {} if request.param == "llama" else {"template": None}
    theirs = pretrained(root / "theirs", family=request.param, **template)
    (theirs / "pytorch_model.bin").write_bytes(b"a pickle")
    folders = {name: root / name for name in ("start", "clean", "vocabulary", "export", "evaluate", "run")}
    for folder in folders.values():
        folder.mkdir()
    texts = ("hello there", "how are you", "hello", "you there")
    rows = [
        {
            "conversation_id": f"L{i}",
            "turn": turn,
            "speaker": "u",
            "text": text,
            "group": f"m{i}",
            "role": "",
            "weight": 1.0,
            "split": split,
        }
        for i, split in enumerate(["train"] * 20 + ["validation"] * 3 + ["test"] * 12)
        for turn, text in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows, SPLIT_TURNS), folders["clean"] / "turns.parquet")
    (folders["clean"] / "report.json").write_text(json.dumps({"normalisation": "plain"}))
    source = resolve(str(theirs), registry, root)
    take_start(folders["start"], StartConfig(init=str(theirs)), source=source)
    kind = VocabularyConfig(kind="pretrained")
    learn_vocabulary(folders["vocabulary"], kind, folders["clean"], start=folders["start"])
    markup = MarkupConfig(max_tokens=200)
    export_examples(folders["export"], markup, folders["clean"], folders["vocabulary"])
    steps = {"max_steps": 90, "batch_tokens": 512, "max_epochs": 50, "log_every": 5, "warmup_steps": 2}
    run = {
        "network": {"family": "pretrained"},
        "train": {"optimizer": "adamw", "learning_rate": 1e-2, **steps},
        "markup": markup.model_dump(),
        "normalisation": "plain",
        "tokenizer": str(folders["vocabulary"]),
        "examples": str(folders["export"]),
        "start": str(folders["start"]),
    }
    (folders["run"] / "config.json").write_text(json.dumps(run))
    (folders["run"] / "precision.json").write_text(json.dumps({"precision": "fp32"}))
    assert trainer.train(folders["run"], threading.Event())
    (folders["run"] / "logs").mkdir()
    shutil.copy(folders["run"] / "metrics.jsonl", folders["run"] / "logs")
    config = EvaluateConfig(sample_replies=10, shown_replies=2)
    evaluate_model(folders["evaluate"], config, folders["run"], folders["clean"], folders["export"])
    return folders


def test_no_pickle_is_taken_over(stages):
    assert not list(stages["start"].glob("*.bin"))


def test_training_lowers_the_starts_loss(stages):
    lines = [json.loads(line) for line in (stages["run"] / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert losses[-1] < losses[0] - 1


def test_the_bytes_scored_are_those_of_the_replies(stages):
    figures = json.loads((stages["evaluate"] / "report.json").read_text())["metrics"]
    assert figures["test_replies"] == 12 * 3
    assert figures["test_bytes"] == 12 * len("how are youhelloyou there")
    assert 0 < figures["test_bpb"] < 4


def test_a_part_of_the_test_split_is_the_same_for_every_model(stages, tmp_path):
    model, turns = stages["run"] / "model", stages["clean"] / "turns.parquet"
    whole, part = score_model(model, turns), score_model(model, turns, 20)
    assert (whole.replies, part.replies) == (36, 18)
    assert set(part.by_group) == {f"m{23 + i}" for i in range(0, 12, 2)}
    assert part.by_group.items() <= whole.by_group.items()
    assert score_model(model, turns, 1000) == whole
    config = RescoreConfig(max_replies=20)
    rescore_champion(tmp_path, config, model, stages["clean"])
    assert json.loads((tmp_path / "score.json").read_text())["replies"] == 18


def test_the_published_folder_answers_in_the_chat(stages):
    model = stages["run"] / "model"
    check_answers(model)
    session = Session(model, GenerationConfig(temperature=0, max_tokens=12))
    pieces = "".join(session.say("hello there"))
    assert pieces == session.messages()[-1]["content"] == "how are you"
    session.new()
    assert session.reply_once("hello there").finished


def test_the_published_folder_is_a_plain_transformers_folder(stages):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = stages["run"] / "model"
    theirs, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    said = [{"role": "user", "content": "hello there"}]
    context = theirs.apply_chat_template(said, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    made = network.generate(context, do_sample=False, max_new_tokens=12)[0, context.shape[1] :]
    assert theirs.decode(made, skip_special_tokens=True).strip() == "how are you"


@pytest.mark.parametrize(
    ("init", "line"),
    [
        ("nowhere/at/all", "there is no such folder or file; give champion"),
        ("missing.gguf", "there is no such folder or file; give champion"),
        ("champion", "no version of 'repartee' is registered"),
        ("7", "no version of 'repartee' is registered"),
    ],
)
def test_a_start_that_is_not_there_gets_one_line(init, line, registry, tmp_path):
    with pytest.raises(InputError, match=line) as told:
        resolve(init, registry, tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("lost", "line"),
    [
        ("config.json", "it has no config.json"),
        ("tokenizer.json", "it has no tokenizer.json"),
        ("model.safetensors", r"its weights are a pickle \(pytorch_model.bin\), which is never read"),
    ],
)
def test_a_folder_without_a_whole_model_gets_one_line(pretrained, registry, tmp_path, lost, line):
    folder = pretrained(tmp_path / "theirs")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / lost).unlink()
    with pytest.raises(InputError, match=line):
        resolve(str(folder), registry, tmp_path)


def test_a_gguf_file_says_what_must_be_installed(registry, tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs gguf and accelerate: pip install .*finetune"):
        take_start(tmp_path, StartConfig(), source=resolve(str(path), registry, tmp_path))


def test_the_identity_is_the_content_wherever_it_lies(pretrained, registry, tmp_path):
    folder = pretrained(tmp_path / "theirs")
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "generation_config.json").write_text("{}")  # generation settings are not part of the identity
    had, same = (resolve(str(path), registry, tmp_path).identity for path in (folder, copy))
    (copy / "model.safetensors").write_bytes(b"other weights")
    assert had == same != resolve(str(copy), registry, tmp_path).identity


def test_scratch_adds_no_stage_and_a_start_is_planned_first(pretrained, tmp_path):
    names = ["download", "parse", "clean", "vocabulary", "export", "train", "evaluate"]
    from_scratch, _ = plan_chain(describe_run(configure("quick", None, []), Settings()), CHAIN)
    assert [stage.name for stage in from_scratch] == names
    folder = str(pretrained(tmp_path / "theirs"))
    finetuned = describe_run(configure("finetune", "sample", [], folder), Settings())
    planned, _ = plan_chain(finetuned, CHAIN)
    assert [stage.name for stage in planned] == ["start", *names]
    assert vocabulary.inputs(finetuned, ["start", *names]) == ("clean", "start")
    assert train.inputs(finetuned, ["start", *names]) == ("vocabulary", "export", "start")


def test_a_vocabulary_may_be_that_of_the_start_but_one_of_words_is_always_learnt(pretrained, tmp_path):
    start = str(pretrained(tmp_path / "theirs"))
    run = describe_run(configure("quick", None, [], start), Settings())
    assert vocabulary.inputs(run, ["start", "clean"]) == ("clean", "start")
    words = describe_run(configure("quick", None, ["vocabulary.kind=word"], start), Settings())
    assert vocabulary.inputs(words, ["start", "clean"]) == ("clean",)
    assert train.inputs(run, ["start"]) == ("vocabulary", "export", "start")


def test_finetune_without_a_start_says_what_to_give():
    with pytest.raises(
        InputError, match="a pretrained network needs a model to start from; with --init, give champion"
    ):
        describe_run(configure("finetune", "sample", []), Settings())


def test_a_start_outside_of_the_home_is_foreign(tmp_path):
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    assert is_foreign("/etc", home) and is_foreign("~/model", home) and is_foreign("../x", home)
    for fine in ("scratch", "champion", "3", str(home / "models")):
        assert not is_foreign(fine, home)
