"""OpenVINO: an .xml with its .bin, computed in float32."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spiking_centernet.deploy.export.contract import Contract, Run
from spiking_centernet.deploy.export.onnx import onnx_model
from spiking_centernet.errors import need
from spiking_centernet.model import Detector
from spiking_centernet.utils.files import atomic_write

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
"""Without it OpenVINO computes in bfloat16 wherever the CPU can, and the membranes move."""


def write_openvino(fused: Detector, contract: Contract, path: Path, *, int8: bool = False) -> None:
    """Write the network as OpenVINO's pair of files: ``path`` and the weights next to it in ``.bin``.

    Raises:
        MissingPackageError: openvino, onnx or onnxscript is not installed.
    """
    openvino = need("openvino", "writing OpenVINO's format", "openvino")
    model = openvino.Core().read_model(onnx_model(fused, contract, int8=int8).SerializeToString())
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        openvino.save_model(model, str(written), compress_to_fp16=False)
        # The weights first: whoever finds the .xml finds them too.
        for suffix in (".bin", path.suffix):
            with atomic_write(path.with_suffix(suffix)) as temporary:
                temporary.write_bytes(written.with_suffix(suffix).read_bytes())


def compile_openvino(path: Path, num_threads: int) -> Any:
    """Return a file, OpenVINO's or ONNX, as OpenVINO compiles it for the CPU in float32.

    Raises:
        MissingPackageError: openvino is not installed.
    """
    openvino = need("openvino", "running OpenVINO's format", "openvino")
    return openvino.Core().compile_model(str(path), "CPU", {**SETTINGS, "INFERENCE_NUM_THREADS": num_threads})


def run_openvino(path: Path, contract: Contract) -> Run:
    """Return an OpenVINO file as OpenVINO computes it on the CPU in float32.

    Raises:
        MissingPackageError: openvino is not installed.
    """
    compiled = compile_openvino(path, torch.get_num_threads())

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = compiled(dict(inputs))
        return {name: np.array(found[name]) for name in contract.output_names}

    return run
