"""Inference on a CPU: a detector compiled for it."""

from spiking_centernet.deploy.engine.engine import Engine as Engine
from spiking_centernet.deploy.engine.engine import compile as compile
