"""Detect objects from event cameras with spiking neural networks.

The public names below are imported when they are first used, so that ``import spiking_centernet`` needs neither torch
nor numba. The packages (``spiking_centernet.data``, ``spiking_centernet.simulate``, ...) are found the same way.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spiking_centernet.data import Recording as Recording
    from spiking_centernet.data import open as open
    from spiking_centernet.data import voxelize as voxelize
    from spiking_centernet.deploy.engine import Engine as Engine
    from spiking_centernet.deploy.engine import compile as compile
    from spiking_centernet.evaluation.energy import count_ops as count_ops
    from spiking_centernet.evaluation.prediction import evaluate as evaluate
    from spiking_centernet.inference import Stream as Stream
    from spiking_centernet.inference import stream as stream
    from spiking_centernet.inference.predictor import detect as detect
    from spiking_centernet.inference.predictor import predict as predict
    from spiking_centernet.inference.result import Result as Result
    from spiking_centernet.model import Detector as Detector
    from spiking_centernet.model import DetectorConfig as DetectorConfig
    from spiking_centernet.model import build as build
    from spiking_centernet.model.transfer_learning import transfer as transfer
    from spiking_centernet.model.weights import load as load
    from spiking_centernet.model.weights import save as save
    from spiking_centernet.structures import Boxes as Boxes
    from spiking_centernet.structures import Detections as Detections
    from spiking_centernet.structures import VoxelSpec as VoxelSpec
    from spiking_centernet.training.config import Recipe as Recipe
    from spiking_centernet.training.trainer import train as train

    __version__: str

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent until the program configures logging

_HOMES = {
    "Boxes": "structures", "Detections": "structures", "Detector": "model", "DetectorConfig": "model",
    "Engine": "deploy.engine", "Recipe": "training.config", "Recording": "data", "Stream": "inference",
    "VoxelSpec": "structures", "build": "model", "compile": "deploy.engine", "count_ops": "evaluation.energy",
    "Result": "inference.result", "detect": "inference.predictor",
    "evaluate": "evaluation.prediction", "load": "model.weights", "open": "data", "predict": "inference.predictor",
    "save": "model.weights", "stream": "inference", "train": "training.trainer", "transfer": "model.transfer_learning",
    "voxelize": "data",
}  # fmt: skip
"""Public name -> the module that it is imported from."""

_PACKAGES = ("data", "deploy", "evaluation", "experiments", "inference", "model", "ops", "simulate", "training",
             "utils", "visualize")  # fmt: skip

__all__ = [
    "Boxes", "Detections", "Detector", "DetectorConfig", "Engine", "Recipe", "Recording", "Result", "Stream",
    "VoxelSpec", "__version__",
    "build", "compile", "count_ops", "detect", "evaluate", "load", "open", "predict", "save", "stream", "train",
    "transfer",
    "voxelize",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("spiking-centernet")
        except PackageNotFoundError:  # a source tree that was never installed
            value = "0+unknown"
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES})
