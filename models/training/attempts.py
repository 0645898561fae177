"""The attempts of a training run: one at the full learning rate and, if it diverges, one at half the rate."""

import logging
import threading

from models.errors import InputError
from models.training import preflight
from models.training.loop import Diverged, Training
from models.training.run_folder import Run

log = logging.getLogger(__name__)

FALLBACK_SCALE = 0.5  # the second attempt's learning rate, relative to the configured rate


def fit_with_fallback(run: Run, stop: threading.Event) -> tuple[Training, str | None]:
    """Train the model; if training diverges, continue from the last checkpoint at half the learning rate.

    Returns the Training object and the name of the setting whose limit ended training. The name is None if
    training was asked to stop.

    Raises:
        InputError: the run folder cannot be used, or training has diverged at both learning rates.
        Defect: a preflight check has failed.
    """
    for rate_scale in (1.0, FALLBACK_SCALE):
        training = Training(run, stop, rate_scale=rate_scale)
        if not training.state.step and training.group.is_main:
            step = training.step
            preflight.check(training.model, training.examples, run, step.precision, step.path)
        try:
            return training, training.fit()
        except Diverged as error:
            if training.state.rate_scale < 1:
                remedy = f"lower train.learning_rate (now {run.train.learning_rate:g})"
                raise InputError(f"{error}; training also diverged at the full rate: {remedy}") from None
            log.warning(
                "%s; training goes back to the last checkpoint and continues at %g times the learning rate",
                error,
                FALLBACK_SCALE,
            )
        del training  # frees its memory, which the next attempt needs
    raise AssertionError("the lower learning rate is the last attempt")
