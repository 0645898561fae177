import json
from dataclasses import replace

from models.training.state import TrainingState

EARLIER = {
    "step": 7,
    "place": 3,
    "looks": 2,
    "told_step": 5,
    "replied_tokens": 900,
    "stale_looks": 1,
    "journal": {"metrics": 10, "log": 20},
}


def test_the_state_of_an_earlier_versions_checkpoint_is_read() -> None:
    state = TrainingState.from_json(EARLIER)
    assert (state.step, state.batch_index, state.num_validations) == (7, 3, 2)
    assert (state.last_epoch_log_step, state.last_reply_sample_tokens) == (5, 900)
    assert (state.validations_since_best, state.log_sizes) == (1, {"metrics": 10, "log": 20})


def test_a_state_that_is_written_and_read_is_the_same() -> None:
    state = replace(TrainingState.from_json(EARLIER), best_bpb=1.5, validation={"loss": 2.0})
    written = json.loads(json.dumps(state.to_json()))
    assert EARLIER.items() <= written.items()
    assert TrainingState.from_json(written) == state
