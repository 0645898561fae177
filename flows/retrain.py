"""Retrain: a raw corpus in, a registered chat model out, or the reason why not.

    download > parse > clean > vocabulary > export > train > evaluate > gate > register

Here:      repartee run --recipe small
Deployed:  deployments/prefect.yaml, entrypoint flows/retrain.py:retrain

This file says what runs, in which order, on which inputs. How is said in tasks/.
"""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.chain import retrain_chain, training
from flows.config import RetrainConfig
from flows.ending import conclude, unchanged
from flows.lineage import open_lineage, run_name
from flows.outcome import Outcome
from flows.recipes import RECIPES
from tasks.clean import clean
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.gate import gate
from tasks.parse import parse
from tasks.plan import plan
from tasks.register import register
from tasks.train import train
from tasks.vocabulary import vocabulary


@flow(name="retrain", flow_run_name=run_name, log_prints=False)
def retrain(config: RetrainConfig = RECIPES["small"]) -> State[Outcome]:
    """Ends as Promoted, ChampionKept or Unchanged; the summary artifact gives the figures."""
    run = open_lineage(config)
    steps = plan(retrain_chain(config), config.gate, run.home, run.registry)
    if steps.nothing_to_do:
        return unchanged(run, steps)

    raw = download(config.download, run.home)
    turns = parse(raw, config.parse, run.home)
    cleaned = clean(turns, config.clean, run.home)
    ids = vocabulary(cleaned, config.vocabulary, run.home)
    examples = export(cleaned, ids, config.markup, run.home)

    trained = train(ids, examples, training(config), run.home, run.registry, run.params, run.tags)
    report = evaluate(trained, cleaned, examples, config.evaluate, run.home)
    verdict = gate(report, cleaned, config.gate, run.home, run.registry)
    registered = register(trained, report, verdict, examples, run.registry, run.params, run.tags)
    return conclude(run, [raw, turns, cleaned, ids, examples, trained, report], verdict, registered)
