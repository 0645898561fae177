import json
import os
import uuid

import hypothesis
import pytest

from environment import quiet_environment

# A slow machine is not a defect of the code, and pytest's own timeout ends a test that hangs.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


quiet_environment()
os.environ.setdefault("OMP_NUM_THREADS", "2")
# On a GPU the order of additions varies between runs, but many tests require identical bytes.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items):
    """Give soak tests a timeout so long that only a test that hangs reaches it, even on a slow machine."""
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(autouse=True)
def _nobody_elses_home(monkeypatch, tmp_path):
    """Hide the home, the servers and the settings of the user who runs the tests."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def new_home(tmp_path_factory):
    """A function that fills a folder as a new home whose databases exist (tests/support/new_homes.py)."""
    from new_homes import NewHomes

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own  # by all workers of this session
    return NewHomes(shared)


@pytest.fixture(scope="session")
def prefect(tmp_path_factory, new_home):
    """The variable with the address of a Prefect server for runs in tests that are not about Prefect.

    A run that starts its own server takes 6 s of processor time more.
    """
    from deployments.local.ephemeral_server import temporary_server

    with temporary_server(new_home(tmp_path_factory.mktemp("prefect"))) as server:
        yield {"PREFECT_API_URL": server.wait()}


@pytest.fixture(scope="session")
def store(tmp_path_factory, new_home):
    return new_home(tmp_path_factory.mktemp("store"))


@pytest.fixture
def registry(store):
    """A registry with its own model, in a database that all tests share because creating one takes seconds."""
    from models.registry.versions import Registry

    name = f"repartee-{uuid.uuid4().hex[:8]}"
    return Registry(f"sqlite:///{store}/mlflow.db", store / "mlartifacts", model=name)


CHAT_MARKS = ("<|endoftext|>", "<|im_start|>", "<|tool|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _pretrained(folder, *, template=CHAT_TEMPLATE, family="llama"):
    """A tiny random model in the form in which others publish models; it pads with its end-of-turn token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    folder.mkdir()
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(CHAT_MARKS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator(["hello there", "how are you", "user assistant system"], trainer)
    learnt.save(str(folder / "tokenizer.json"))
    end = CHAT_MARKS[-1] if template else CHAT_MARKS[0]
    names = {"eos_token": end, "pad_token": end, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    torch.manual_seed(0)
    size = learnt.get_vocab_size()
    if family == "llama":
        shape = {
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_size": 16,
        }
        config = LlamaConfig(vocab_size=size, intermediate_size=32, max_position_embeddings=256, **shape)
        LlamaForCausalLM(config).save_pretrained(folder)
    else:
        config = GPT2Config(vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=256)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pretrained():
    return _pretrained
