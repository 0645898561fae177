"""The attempts of a training: at the full learning rate, and after a divergence at half of it."""

import logging
import threading

from models.errors import InputError
from models.training import preflight
from models.training.loop import Diverged, Training
from models.training.run_folder import Run

log = logging.getLogger(__name__)

FALLBACK_SCALE = 0.5  # of the learning rate, for the second attempt


def fit_with_fallback(run: Run, stop: threading.Event) -> tuple[Training, str | None]:
    """Train; after a divergence once more, from the last checkpoint and at half the learning rate.

    Returns the training and the setting that ended it; none: it was asked to stop.

    Raises:
        InputError: the run cannot be used, or the training has diverged at the lower rate, too.
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
                raise InputError(f"{error}; at the full rate it went no better: {remedy}") from None
            log.warning("%s; goes back to the last checkpoint, at %g of the rate", error, FALLBACK_SCALE)
        del training  # the next one needs its memory
    raise AssertionError("the lower learning rate is the last attempt")
