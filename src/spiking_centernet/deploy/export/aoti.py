"""AOTInductor: a .pt2 package compiled for this CPU, which needs torch and no Python to run."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spiking_centernet.deploy.export.contract import Contract, Run, StatefulNetwork, example_inputs
from spiking_centernet.errors import ExportError
from spiking_centernet.model import Detector
from spiking_centernet.utils.files import atomic_write


def write_aoti(fused: Detector, contract: Contract, path: Path) -> None:
    """Compile the network and write it as one package, whole or not at all.

    Raises:
        ExportError: there is no C++ compiler, or it fails.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

    program = torch.export.export(StatefulNetwork(fused).eval(), example_inputs(contract))
    try:
        with warnings.catch_warnings(), atomic_write(path) as temporary:
            warnings.simplefilter("ignore")
            aoti_compile_and_package(program, package_path=str(temporary))
    except (CppCompileError, InvalidCxxCompiler) as error:
        raise ExportError(f"{path}: compiling needs a C++ compiler such as g++ ({type(error).__name__})") from error


def run_aoti(path: Path, contract: Contract) -> Run:
    """Return a package as AOTInductor computes it."""
    from torch._inductor import aoti_load_package

    package: Any = aoti_load_package(str(path))

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = package(*(torch.from_numpy(inputs[name]) for name in contract.input_names))
        return dict(zip(contract.output_names, (x.numpy() for x in outputs), strict=True))

    return run
