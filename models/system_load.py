"""System load: the memory and the CPU time of the training process, and the load of its GPU.

Like the training metrics, these figures are written as lines of metrics.jsonl and forwarded to MLflow.
"""

import logging
import time

import psutil
import torch

from models.metrics_log import SYSTEM, MetricsLog

log = logging.getLogger(__name__)

SECONDS_BETWEEN = 10.0
BYTES_A_GB = 1e9


class Sampler:
    """Writes the load of this process and its device to a metrics log, at most once per `seconds_between`."""

    def __init__(self, device: torch.device, *, seconds_between: float = SECONDS_BETWEEN) -> None:
        self.device, self.seconds_between = device, seconds_between
        self.process = psutil.Process()
        self.process.cpu_percent()  # psutil measures from one call to the next; the first call returns 0
        self.next_s = time.monotonic()

    def write(self, metrics_log: MetricsLog, step: int) -> None:
        """Write one line about this step, unless the previous sample is too recent."""
        if metrics_log.writes and time.monotonic() >= self.next_s:
            self.next_s = time.monotonic() + self.seconds_between
            metrics_log.write(SYSTEM, step=step, **self.sample())

    def sample(self) -> dict[str, float]:
        """The resident memory in GB, the CPU use in percent of one core, and the load of a CUDA GPU.

        The CPU use is the average since the previous sample.
        """
        figures = {
            "memory_gb": self.process.memory_info().rss / BYTES_A_GB,
            "cpu_percent": self.process.cpu_percent(),
        }
        return figures | _gpu_load(self.device) if self.device.type == "cuda" else figures


def _gpu_load(device: torch.device) -> dict[str, float]:
    """The GPU memory in GB that the process has reserved, and if known, the GPU's utilisation in percent."""
    figures = {"gpu_memory_gb": torch.cuda.memory_reserved(device) / BYTES_A_GB}
    try:
        figures["gpu_percent"] = float(torch.cuda.utilization(device))
    except Exception as error:  # the package nvidia-ml-py is not installed, or the driver gives no answer
        log.debug("the GPU's utilisation is unknown: %s", error)
    return figures
