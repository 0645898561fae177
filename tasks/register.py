"""Register: records the verdict in MLflow, and puts the model into service if the gate promotes it."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.errors import InputError
from models.evaluation.replies import answer
from models.evaluation.report import REPORT, Report
from models.evaluation.verdict import Verdict
from models.generation import generation_config
from models.registry import mlflow_model
from models.registry.logged_models import Scores
from models.registry.model_card import model_card
from models.registry.promotions import ChampionMoved
from models.registry.tags import CORPUS, MODEL_DIGEST, REASON, RECIPE, SOURCE, TEST_ACCURACY, TEST_BPB
from models.registry.version import Version
from models.registry.versions import Registry
from tasks.gate import decide, wait_for_mlflow
from tasks.prefect_api.recorded import recorded
from tasks.run_page.contents import (
    Outputs,
    dataset_of,
    machine_choices,
    record_training,
    score_metrics,
    write_verdict,
)
from tasks.run_page.description import description
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage_event import event

log = logging.getLogger(__name__)

VERSION_TAGS = (RECIPE, CORPUS, SOURCE)  # the MLflow run has more tags
MAX_VERDICTS = 5


@dataclass(frozen=True)
class Registration:
    """The MLflow run, and the version that was registered (None if the model was refused)."""

    run_id: str
    version: int | None
    champion: int | None  # the version that is the champion afterwards
    verdict: Verdict  # the gate's verdict, or a later verdict if the champion changed in the meantime


def check_answers(folder: Path) -> None:
    """Check that the model in `folder`, which is about to be registered, replies to a greeting.

    Raises:
        RuntimeError: the reply is empty; such a model must not go into service.
    """
    text, *_ = answer(folder, [["Hello."]])[0]
    if not text.strip():
        raise RuntimeError("the model's reply to a greeting is empty, so the model is not registered")


def build_folder(out: Path, model: Path, report: Report, run: RunContext) -> None:
    """Build the folder to register: the trained model, its generation settings, its card, and MLmodel."""
    shutil.copytree(model, out)
    path = out / generation_config.FILE
    chosen = json.loads(path.read_text()) | generation_config.to_transformers(run.generation)
    path.write_text(json.dumps(chosen, indent=2) + "\n")
    replies = [(sample.context[-1], sample.reply) for sample in report.samples[:4]]
    card = model_card(run.tags[CORPUS], report.metrics, replies, run.params, machine_choices(model.parent))
    (out / "README.md").write_text(card)
    if why := mlflow_model.reason_against(out):
        log.info("register: the version will not be an MLflow model: %s", why)
    else:
        mlflow_model.write(out, out)


def version_tags(run: RunContext, outputs: Outputs, report: Report, verdict: Verdict) -> dict[str, str]:
    """The tags of a version: what users look for in a list of versions, and the digest for the gate."""
    return {
        **{key: run.tags[key] for key in VERSION_TAGS},
        TEST_BPB: f"{report.metrics['test_bpb']:.4f}",
        TEST_ACCURACY: f"{report.metrics['test_accuracy']:.4f}",
        REASON: verdict.reason,
        MODEL_DIGEST: outputs.train.digest,
    }


def store_version(run: RunContext, run_id: str, outputs: Outputs, verdict: Verdict) -> Version:
    """Load the model, check its reply, and register it. A retry returns the version already registered.

    Raises:
        RuntimeError: the model's reply to a greeting is empty.
        TrackingUnavailable: MLflow does not answer.
    """
    report = Report.read(outputs.evaluate.path / REPORT)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        build_folder(folder, outputs.train.path / "model", report, run)
        check_answers(folder)
        version = run.registry.register(
            folder,
            run_id,
            fingerprint=outputs.train.fingerprint,
            tags=version_tags(run, outputs, report, verdict),
            description=description(run, run_id, outputs, verdict, version=None),
            scores=Scores(score_metrics(report), *dataset_of(outputs.export, run.tags[CORPUS], "test")),
        )
    log.info("register: version %d is stored", version.number)
    return version


def settle(
    registry: Registry,
    train: Artifact,
    verdict: Verdict,
    store: Callable[[Verdict], Version],
    judge_again: Callable[[], Verdict],
    flow_run_id: str | None,
) -> tuple[Verdict, int | None]:
    """Carry out the verdict. If the champion has changed since the verdict, the model is judged again first.

    Returns:
        The last verdict, and the version that it put into service (None if the model was refused).

    Raises:
        InputError: the champion changed MAX_VERDICTS times.
        TrackingUnavailable: MLflow does not answer.
    """
    for _ in range(MAX_VERDICTS):
        if not verdict.promote:
            return verdict, None
        try:
            if serves := _serves_already(registry, train, verdict):
                return verdict, serves
            registry.check_champion(verdict.champion)
            version = store(verdict)
            registry.promote(
                version, verdict.reason, judged_against=verdict.champion, flow_run_id=flow_run_id
            )
        except ChampionMoved as moved:
            log.warning("register: %s", moved)
            verdict = judge_again()
        else:
            log.info("register: version %d is the champion now", version.number)
            return verdict, version.number
    raise InputError(
        f"the champion changed {MAX_VERDICTS} times while this model was being judged; "
        "run the same command again (the trained model is kept)"
    )


def _serves_already(registry: Registry, train: Artifact, verdict: Verdict) -> int | None:
    """This model's version if an earlier attempt promoted it but did not receive the response, else None."""
    champion = registry.champion()
    if champion is None or champion.number == verdict.champion or champion.digest != train.digest:
        return None
    registry.reconcile()
    return champion.number


@recorded("register")
def register(
    run: RunContext,
    verdict: Verdict,
    *,
    train: Artifact,
    evaluate: Artifact,
    parse: Artifact,
    clean: Artifact,
    export: Artifact,
) -> Registration:
    """
    Raises:
        TrackingUnavailable: MLflow does not answer; the next run resumes with the registration.
    """
    outputs = Outputs(train=train, evaluate=evaluate, parse=parse, clean=clean, export=export)

    def attempt() -> Registration:
        log.info("register: writing the run to MLflow", extra=event("register", "running"))
        registry = run.registry
        run_id = registry.open_run(train.fingerprint, name=run.name, params=run.params, tags=run.tags)
        record_training(run, run_id, outputs)
        last, version = settle(
            registry,
            train,
            verdict,
            lambda verdict: store_version(run, run_id, outputs, verdict),
            lambda: decide(run, train, evaluate, clean),
            run.flow_run_id,
        )
        registry.note(run_id, description(run, run_id, outputs, last, version=version))
        write_verdict(registry, run_id, last, run.flow_run_id)
        registry.close_run(run_id, "FINISHED")
        output = f"version {version}" if version else "verdict recorded"
        log.info(
            "register: the verdict is recorded in MLflow", extra=event("register", "done", output=output)
        )
        return Registration(run_id, version, version or last.champion, last)

    return wait_for_mlflow(attempt)
