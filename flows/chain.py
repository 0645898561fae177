"""The chain: each stage with its settings and what it reads, in the order in which they run."""

from flows.config import RetrainConfig
from tasks import clean, download, evaluate, export, parse, train, vocabulary
from tasks.plan import Link


def prepare_chain(config: RetrainConfig) -> list[Link]:
    """The data half."""
    source = download.corpus_identity(config.download)
    return [
        Link(download.STAGE, config.download, identity=source),
        Link(parse.STAGE, config.parse, ("download",)),
        Link(clean.STAGE, config.clean, ("parse",)),
        Link(vocabulary.STAGE, config.vocabulary, ("clean",)),
        Link(export.STAGE, config.markup, ("clean", "vocabulary")),
    ]


def retrain_chain(config: RetrainConfig) -> list[Link]:
    """All that is kept in the store; gate and register look at the registry besides."""
    return [
        *prepare_chain(config),
        Link(train.STAGE, training(config), ("vocabulary", "export")),
        Link(evaluate.STAGE, config.evaluate, ("train", "clean", "export")),
    ]


def training(config: RetrainConfig) -> train.TrainingConfig:
    return train.TrainingConfig(network=config.network, train=config.train)
