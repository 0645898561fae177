"""The chain: each stage with its settings and what it reads, in the order in which they run."""

from corpus.download import find_corpus
from flows.config import RetrainConfig
from flows.lifecycle.context import reach
from models.errors import InputError
from models.pretrained.source import FORMS, SCRATCH, Source
from models.registry.reference import open_registry
from models.training.launch import TrainingConfig
from settings import Settings
from tasks import clean, download, evaluate, export, parse, start, train, vocabulary
from tasks.plan import Link


def source_of(config: RetrainConfig) -> Source | None:
    """Where the weights begin; None from scratch.

    Raises:
        InputError: there is no such start, or settings that need one have none.
    """
    if config.start.init != SCRATCH:
        here = Settings()
        return start.resolve(config.start.init, open_registry(here), here.root)
    if takes_vocabulary(config) or config.network.family == "pretrained":
        raise InputError(
            f"recipe {config.recipe}: a pretrained network has nothing to begin with; --init: {FORMS}"
        )
    return None


def takes_vocabulary(config: RetrainConfig) -> bool:
    """Whether the start's vocabulary is used, and not one learnt from the corpus."""
    return config.vocabulary.kind == "pretrained"


def turns_chain(config: RetrainConfig) -> list[Link]:
    """From the corpus to clean turns."""
    corpus = find_corpus(config.download, Settings().root, reach())
    return [
        Link(download.STAGE, config.download, identity=corpus.identity, context={"corpus": corpus}),
        Link(parse.STAGE, config.parse, ("download",)),
        Link(clean.STAGE, config.clean, ("parse",)),
    ]


def prepare_chain(config: RetrainConfig) -> list[Link]:
    """The data half."""
    source = source_of(config)
    begun = [Link(start.STAGE, config.start, identity=source.identity)] if source else []
    learnt_from = ("clean", "start") if takes_vocabulary(config) else ("clean",)
    return [
        *begun,
        *turns_chain(config),
        Link(vocabulary.STAGE, config.vocabulary, learnt_from),
        Link(export.STAGE, config.markup, ("clean", "vocabulary")),
    ]


def retrain_chain(config: RetrainConfig) -> list[Link]:
    """All that is kept in the store; gate and register look at the registry besides."""
    data = prepare_chain(config)
    begun = ("start",) if data[0].stage is start.STAGE else ()
    return [
        *data,
        Link(train.STAGE, training(config), ("vocabulary", "export", *begun)),
        Link(evaluate.STAGE, config.evaluate, ("train", "clean", "export")),
    ]


def training(config: RetrainConfig) -> TrainingConfig:
    return TrainingConfig(network=config.network, train=config.train)
