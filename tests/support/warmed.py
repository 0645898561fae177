"""Imports the trainer and builds a network once, so that all forks of killings.py share this set-up."""

import gc
import tempfile
from pathlib import Path

import pyarrow.dataset  # noqa: F401
import torch

from models.network import networks
from models.network.config import NetworkConfig
from models.training import trainer  # noqa: F401

torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    networks.save(networks.build(NetworkConfig(n_layer=1, n_head=1, width=8), 8, 8), Path(folder))
gc.freeze()  # a garbage collection in a fork would otherwise copy all of these objects
