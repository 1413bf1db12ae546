"""One door to every format: the file's suffix decides.

The short program written next to an exported file: it runs the file without this package.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from spiking_centernet.data import FolderDataset
from spiking_centernet.deploy.export.aoti import run_aoti, write_aoti
from spiking_centernet.deploy.export.contract import Contract, Run, contract_of, run_torch
from spiking_centernet.deploy.export.onnx import quantized, run_onnx, write_onnx
from spiking_centernet.deploy.export.openvino import run_openvino, write_openvino
from spiking_centernet.deploy.export.parity import Parity, bundled_windows, compare, score
from spiking_centernet.errors import ExportError, did_you_mean
from spiking_centernet.model import Detector
from spiking_centernet.model.config import AS_IT_IS
from spiking_centernet.model.heads.base import LOWEST_PEAK, MIDDLE_PX
from spiking_centernet.model.heads.centernet import LEAST_WEIGHT
from spiking_centernet.utils.files import atomic_write

Weights = Literal["float32", "int8"]
WEIGHTS = ("float32", "int8")
SUFFIXES = {".onnx": "ONNX", ".xml": "OpenVINO", ".pt2": "AOTInductor", ".nir": "NIR"}
"""Suffix -> format. ``.nir`` is written by :func:`write_nir`."""


@dataclass(frozen=True)
class ExportRun:
    """What :func:`export_detector` wrote.

    Attributes:
        path: the file.
        num_bytes: its size, for OpenVINO with the weights in the ``.bin`` next to it.
        contract: its inputs and outputs.
        snippet: a program next to it that runs it without this package.
    """

    path: Path
    num_bytes: int
    contract: Contract
    snippet: Path


def export_detector(
    model: Detector,
    path: str | os.PathLike[str],
    *,
    size_hw: tuple[int, int] = (240, 304),
    num_steps: int | None = None,
    weights: Weights = "float32",
) -> ExportRun:
    """Write a detector as ONNX (``.onnx``), for OpenVINO (``.xml``) or as an AOTInductor package (``.pt2``).

    The file computes :class:`Contract`: cube and membranes in, raw heads and membranes out.

    Args:
        model: the detector; it is fused here and left unchanged.
        path: the file to write.
        size_hw: height and width of the sensor in pixels; the default is GEN1's.
        num_steps: time steps of a call, a divisor of the network's; None takes a whole window.
        weights: "float32", or "int8" with one scale an output channel (spiking networks, ONNX and OpenVINO).

    Raises:
        ExportError: the suffix is unknown, or the format cannot hold the network.
        MissingPackageError: the format's package is not installed.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES or path.suffix == ".nir":
        raise ExportError(f"{path}: no runtime is known for {path.suffix!r}{did_you_mean(path.suffix, SUFFIXES)}")
    if weights not in WEIGHTS:
        raise ExportError(f"unknown weights {weights!r}{did_you_mean(weights, WEIGHTS)}")
    if weights == "int8" and not model.config.neuron.is_spiking:
        raise ExportError(
            "int8 weights go with spikes, which are whole numbers; this network has neuron='relu': export float32"
        )
    fused = model.fuse().cpu()
    contract = contract_of(fused, size_hw, num_steps)
    if path.suffix == ".onnx":
        write_onnx(fused, contract, path, int8=weights == "int8")
    elif path.suffix == ".xml":
        write_openvino(fused, contract, path, int8=weights == "int8")
    else:
        if weights == "int8":
            raise ExportError("AOTInductor packages hold float32 weights; export .onnx or .xml for int8")
        write_aoti(fused, contract, path)
    num_bytes = path.stat().st_size
    if path.suffix == ".xml":
        num_bytes += path.with_suffix(".bin").stat().st_size
    return ExportRun(path, num_bytes, contract, write_snippet(path, contract))


def run(path: str | os.PathLike[str], contract: Contract) -> Run:
    """Return an exported file as its own runtime computes it.

    Raises:
        ExportError: the suffix is unknown.
        MissingPackageError: the runtime is not installed.
    """
    runners = {".onnx": run_onnx, ".xml": run_openvino, ".pt2": run_aoti}
    path = Path(path)
    if path.suffix not in runners:
        raise ExportError(f"{path}: no runtime is known for {path.suffix!r}{did_you_mean(path.suffix, runners)}")
    return runners[path.suffix](path, contract)


@dataclass(frozen=True)
class Report:
    """The check of an exported file.

    Attributes:
        parity: against the network with the same weights, rounded where the file holds int8.
        rounding: of the rounded weights against the float ones, in the network itself; None for float32.
        ap: of the float network and of the file on a labeled split; None without one.
    """

    parity: Parity
    rounding: Parity | None
    ap: tuple[float, float] | None


def check(
    model: Detector,
    written: ExportRun,
    *,
    weights: Weights = "float32",
    cubes: Iterable[np.ndarray] | None = None,
    dataset: FolderDataset | None = None,
    protocol: str = "prophesee",
) -> Report:
    """Compare an exported file with the network it came from.

    Args:
        model: the detector that was exported.
        written: what :func:`export_detector` returned.
        weights: as exported.
        cubes: windows [T, C, H, W]; None takes those of the real recording bundled with the package.
        dataset: a labeled split to score both on.
        protocol: of the score.

    Raises:
        MissingPackageError: the runtime is not installed.
        ExportError: there is no window, or the data set has another size.
    """
    contract = written.contract
    fused = model.fuse().cpu()
    windows = list(bundled_windows(contract) if cubes is None else cubes)
    hard_reset = model.config.neuron.resets_to_zero
    original = run_torch(fused, contract)
    same = original if weights == "float32" else run_torch(quantized(fused), contract)
    theirs = run(written.path, contract)
    parity = compare(same, theirs, contract, windows, hard_reset=hard_reset)
    rounding = None if same is original else compare(original, same, contract, windows, hard_reset=hard_reset)
    ap = None
    if dataset is not None:
        before, after = (score(r, contract, dataset, protocol=protocol) for r in (original, theirs))
        ap = before, after
    return Report(parity, rounding, ap)


LOADERS = {
    ".onnx": (
        "onnxruntime",
        'session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])\n'
        "names = [x.name for x in session.get_inputs()]\n"
        "net = lambda *arrays: session.run(None, dict(zip(names, arrays)))",
    ),
    ".xml": (
        "openvino",
        "# float32 has to be asked for: bfloat16, the default on some CPUs, moves the membranes.\n"
        'compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})\n'
        "net = lambda *arrays: [np.array(x) for x in compiled(list(arrays)).values()]",
    ),
    ".pt2": (
        "torch",
        "package = torch._inductor.aoti_load_package(path)\n"
        "net = lambda *arrays: [x.numpy() for x in package(*(torch.from_numpy(a) for a in arrays))]",
    ),
}

TEMPLATE = '''"""Runs {name} without spiking_centernet: python {own_name} [cube.npy]. Needs numpy and {module}."""
import sys
from pathlib import Path

import numpy as np
import {module}

path = str(Path(__file__).with_name({name!r}))
{loader}
# [steps, 1, polarity * bins + bin, row, column], 1 where an event fell; {steps} steps of {step_ms:g} ms make a window.
cube = np.load(sys.argv[1]) if len(sys.argv) > 1 else np.zeros({window_shape}, np.float32)
membranes = [np.zeros(shape, np.float32) for shape in {membrane_shapes}]  # keep them for the next call
heads = []
for part in cube.astype(np.float32).reshape(-1, *{cube_shape}):
    out = net(part, *membranes)
    heads.append(out[:{num_maps}])
    membranes = out[{num_maps}:]
{maps} = (np.mean(head, axis=0)[0] for head in zip(*heads[-{shown_calls}:]))
score = 1 / (1 + np.exp(-heatmap))
around = np.pad(score, ((0, 0), (1, 1), (1, 1)))
height, width = score.shape[1:]
is_peak = score == np.max([around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)
box = np.concatenate([np.stack(np.meshgrid(np.arange(width), np.arange(height))) + offset, {size}])
{fit}for k, y, x in zip(*np.nonzero(is_peak & (score >= {threshold}))):
    center, half = np.split(box[:, y, x] * [1, 1, 0.5, 0.5], 2)
    print({classes}[k], round(float(score[k, y, x]), 3), *(np.r_[center - half, center + half] * {stride}).round(1))
'''


FIT = "score = score ** {rest:g} * (1 / (1 + np.exp(-quality))) ** {quality:g}\n"
"""The line of the program where a quality map is part of the score."""

AVERAGING = """heat = np.max(score, axis=0) ** {exponent:g}
heated = np.pad(np.concatenate([heat * box, heat[None]]), ((0, 0), (1, 1), (1, 1)))
total = np.sum([heated[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)
box = total[:4] / np.maximum(total[4], {least:g})
"""
"""The lines of the program where boxes are averaged, as ``heads.centernet.around_peaks``."""

SCORE_FIT = """corners = ({stride} * (box[:2] + k * box[2:]) for k in (-0.5, 0.5))
edges = (np.clip(corner, 0, np.reshape({frame_wh}, (2, 1, 1))) for corner in corners)
side = np.sqrt(np.prod(np.maximum(-np.subtract(*edges), 1), axis=0))
height_of_peak = np.clip(score, {lowest:g}, 1 - {lowest:g})
logit = np.log(height_of_peak / (1 - height_of_peak))
score = 1 / (1 + np.exp(-({fit[0]} + {fit[1]} * logit + {fit[2]} * np.log(side / {middle_px:g}))))
"""
"""The lines of the program where scores are fitted, as ``heads.base.fitted_scores``."""


def write_snippet(path: Path, contract: Contract) -> Path:
    """Write the program for an exported file and return its path, ``run_NAME_SUFFIX.py`` next to it."""
    module, loader = LOADERS[path.suffix]
    own = path.with_name(f"run_{path.stem}_{path.suffix[1:]}.py")
    shape = contract.cube_shape
    text = TEMPLATE.format(
        name=path.name, own_name=own.name, module=module, loader=loader, cube_shape=shape,
        window_shape=(contract.window_steps, *shape[1:]), membrane_shapes=list(contract.membrane_shapes),
        maps=", ".join(contract.head.branches), num_maps=len(contract.head.branches),
        threshold=contract.score_threshold, classes=list(contract.classes), stride=contract.stride,
        size="np.exp(wh)" if contract.sizes == "log" else "wh", fit=_fit_lines(contract),
        shown_calls=contract.shown_calls, steps=contract.window_steps,
        step_ms=contract.window_us / contract.window_steps / 1000,
    )  # fmt: skip
    with atomic_write(own) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return own


def _fit_lines(contract: Contract) -> str:
    """Return the lines of the program that average boxes and make scores of peaks; none where both stay."""
    lines = AVERAGING.format(exponent=contract.averaging, least=LEAST_WEIGHT) if contract.averaging else ""
    lines += FIT.format(rest=1 - contract.quality, quality=contract.quality) if contract.quality else ""
    if contract.score_fit != AS_IT_IS:
        lines += SCORE_FIT.format(
            stride=contract.stride, fit=contract.score_fit, frame_wh=contract.size_hw[::-1], lowest=LOWEST_PEAK,
            middle_px=MIDDLE_PX,
        )  # fmt: skip
    return lines
