"""RetrainConfig: all settings that decide the result of a run, composed of the packages' settings classes."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from corpus.cleaning.config import CleanConfig, MixConfig
from corpus.contract.config import ContractConfig
from corpus.download import DownloadConfig
from corpus.mix import is_built_in, weights_of, without_weights
from corpus.readers.parsing import ParseConfig
from models.config import Config
from models.errors import InputError
from models.evaluation.checks.cases import Case, read_cases
from models.evaluation.report import CheckedConfig, EvaluateConfig
from models.evaluation.scorecard import RescoreConfig
from models.evaluation.verdict import GateConfig
from models.files import PROJECT
from models.generation.config import GenerationConfig
from models.model_name import name_fault
from models.network.config import NetworkConfig
from models.pretrained.source import StartConfig
from models.text.config import MarkupConfig
from models.text.vocabulary import VocabularyConfig
from models.training.config import TrainConfig
from models.training.launch import TrainingConfig

MAX_HOURS = 24 * 366
SAMPLE_CHECKS = PROJECT / "corpus" / "sample" / "checks.yaml"


def _check_line(name: str | None) -> str | None:
    if name is None:
        return None
    if fault := "contains @, which separates a line from a version" if "@" in name else name_fault(name):
        raise InputError(f"line {ascii(name)[:300]} {fault}; choose another name for the model line")
    return name


class RetrainConfig(Config):
    recipe: str = "small"
    """The named configuration that provides the values of all settings that are not set explicitly."""
    line: Annotated[str | None, AfterValidator(_check_line)] = None
    """The model line: the name of the registered model, which has its own champion and history. The default
    is the value of REPARTEE_MODEL_NAME, or `repartee` if that variable is not set."""
    max_hours: float | None = Field(default=None, gt=0, le=MAX_HOURS)
    """The time limit of the whole run, in hours. A run that takes longer is stopped and ends as failed. If
    the run is repeated, it resumes from its checkpoint."""
    start: StartConfig = StartConfig()
    download: DownloadConfig = DownloadConfig()
    parse: ParseConfig = ParseConfig()
    clean: CleanConfig = CleanConfig()
    contract: ContractConfig = ContractConfig()
    vocabulary: VocabularyConfig = VocabularyConfig()
    markup: MarkupConfig = MarkupConfig()
    network: NetworkConfig = NetworkConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    generation: GenerationConfig = GenerationConfig()
    """The default generation settings of the registered model, in `repartee chat` and in transformers."""

    @model_validator(mode="after")
    def _an_encoder_reads_pairs(self) -> Self:
        if self.network.family == "encoder-decoder" and self.markup.unit != "pair":
            raise ValueError(
                "network.family encoder-decoder reads only pairs of a context and a reply; set "
                "markup.unit=pair (and markup.max_tokens=20, as in the recipe tutorial)"
            )
        return self

    @property
    def takes_model(self) -> bool:
        """Whether the network or the vocabulary is that of the initial model."""
        return self.vocabulary.kind == "pretrained" or self.network.family == "pretrained"

    @property
    def cleaning(self) -> CleanConfig:
        """The settings of the stage `clean`, in which the corpus has decided the value `auto` of `redact`.

        The stage itself does not know the corpus. The configuration keeps `auto`, so a command or a schedule
        that is made from it means the same for another corpus.
        """
        if self.clean.redact != "auto":
            return self.clean
        redact = "none" if is_built_in(self.download.corpus) else "personal"
        return self.clean.model_copy(update={"redact": redact})

    @property
    def own_checks(self) -> Path | None:
        """The user's file of checks; None if the user has not given one."""
        given = self.evaluate.checks
        return None if given in ("auto", "none") else Path(given).expanduser()

    @property
    def check_cases(self) -> tuple[Case, ...]:
        """The checks of this configuration.

        Raises:
            InputError: their file cannot be read, or a case in it is wrong.
        """
        is_built_in = self.evaluate.checks == "auto" and self.download.corpus.strip() == "sample"
        path = SAMPLE_CHECKS if is_built_in else self.own_checks
        return read_cases(path) if path else ()

    def by_stage(self) -> dict[str, Config]:
        """The settings of each stage. Most stages have their own group; others use parts of several.

        The weights of the sources are settings of the stage `clean`, so nothing is downloaded again if only a
        weight has changed. The checks are settings of the stage `evaluate` by their content, not by the path
        of their file.

        Raises:
            InputError: the file of the checks cannot be used.
        """
        cases = self.check_cases
        evaluate = self.evaluate.model_copy(update={"checks": "auto"})
        groups = {name: group for name, group in self if isinstance(group, Config)}
        corpus = self.download.corpus
        weights, clean = weights_of(corpus), self.cleaning
        return {
            **groups,
            "download": self.download.model_copy(update={"corpus": without_weights(corpus)}),
            "clean": MixConfig(**clean.model_dump(), weights=weights) if weights else clean,
            "train": TrainingConfig(network=self.network, train=self.train),
            "evaluate": CheckedConfig(**evaluate.model_dump(), cases=cases) if cases else evaluate,
            "rescore": RescoreConfig(
                max_replies=evaluate.max_replies, sample_replies=evaluate.sample_replies, cases=cases
            ),
        }


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as a flat mapping whose keys are those of `--set`, such as `train.learning_rate`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
