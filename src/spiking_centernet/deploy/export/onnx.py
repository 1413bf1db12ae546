"""ONNX: one file, float32 or with int8 weights that leave the binary activations exact.

Weights in int8, one scale an output channel; activations need none: spikes are 0 or 1.
"""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spiking_centernet.deploy.export.contract import Contract, Run, StatefulNetwork, example_inputs
from spiking_centernet.errors import ExportError, need
from spiking_centernet.model import Detector
from spiking_centernet.utils.files import atomic_write

OPSET = 18
"""Oldest operator set that PyTorch's dynamo exporter writes; every current runtime reads it."""


def traced(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], input_names: Sequence[str], output_names: Sequence[str]
) -> Any:
    """Return a module as the ONNX model that PyTorch's exporter makes of it, without the exporter's notes.

    Args:
        module: tensors in, tensors out.
        inputs: of the shapes that the model will take.
        input_names: in order.
        output_names: in order.

    Raises:
        MissingPackageError: onnx or onnxscript is not installed.
    """
    purpose = "writing ONNX"
    need("onnx", purpose, "onnx")
    need("onnxscript", purpose, "onnx")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            module.eval(), inputs, dynamo=True, opset_version=OPSET, input_names=list(input_names),
            output_names=list(output_names), external_data=False, verbose=False,
        )  # fmt: skip
    model = program.model_proto
    _strip(model)
    return model


def onnx_model(fused: Detector, contract: Contract, *, int8: bool = False) -> Any:
    """Return the network as an ONNX model.

    Raises:
        MissingPackageError: onnx or onnxscript is not installed.
    """
    model = traced(StatefulNetwork(fused), example_inputs(contract), contract.input_names, contract.output_names)
    if int8:
        _quantize_weights(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = "spiking_centernet", contract.to_json()
    return model


def write_onnx(fused: Detector, contract: Contract, path: Path, *, int8: bool = False) -> None:
    """Write the network as one ONNX file, whole or not at all.

    Raises:
        MissingPackageError: onnx or onnxscript is not installed.
    """
    model = onnx_model(fused, contract, int8=int8)
    need("onnx", "writing ONNX", "onnx").checker.check_model(model)
    with atomic_write(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def onnx_session(path: Path, num_threads: int) -> Any:
    """Return ONNX Runtime's session of a file on the CPU.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    runtime = need("onnxruntime", "running ONNX", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_onnx(path: Path, contract: Contract) -> Run:
    """Return an ONNX file as ONNX Runtime computes it on the CPU.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    session = onnx_session(path, torch.get_num_threads())

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(contract.output_names, session.run(contract.output_names, dict(inputs)), strict=True))

    return run


def _quantize_weights(model: Any) -> None:
    """Store every convolution's weights as int8, and say that its input is a whole number of 0..255.

    Each weight becomes ``DequantizeLinear(int8, scale of its output channel)`` and each input passes through uint8 at
    scale 1, which changes nothing: spikes are 0 or 1, the cube counts up to 255. Runtimes with integer convolutions
    recognise the pattern.
    """
    onnx = need("onnx", "writing ONNX", "onnx")
    helper, arrays = onnx.helper, onnx.numpy_helper
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    added = [arrays.from_array(np.float32(1), "one"), arrays.from_array(np.uint8(0), "zero_u8")]
    nodes, integer_inputs, replaced = [], {}, set()
    for node in graph.node:
        if node.op_type == "Conv":
            x, name = node.input[0], node.input[1]
            if name not in weights:
                raise ExportError(
                    f"the weights of {node.name} are not stored in the graph; this torch exports otherwise"
                )
            if x not in integer_inputs:
                integer_inputs[x] = f"{x}_integer"
                nodes.append(helper.make_node("QuantizeLinear", [x, "one", "zero_u8"], [f"{x}_u8"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{x}_u8", "one", "zero_u8"], [f"{x}_integer"]))
            if name not in replaced:
                replaced.add(name)
                integers, scale = to_int8(arrays.to_array(weights[name]))
                zeros = np.zeros(len(scale), np.int8)
                for part, suffix in ((integers, "int8"), (scale, "scale"), (zeros, "zero")):
                    added.append(arrays.from_array(part, f"{name}_{suffix}"))
                parts = [f"{name}_int8", f"{name}_scale", f"{name}_zero"]
                nodes.append(helper.make_node("DequantizeLinear", parts, [f"{name}_float"], axis=0))
            node.input[0], node.input[1] = integer_inputs[x], f"{name}_float"
        nodes.append(node)
    kept = [tensor for tensor in graph.initializer if tensor.name not in replaced]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *added])


def _strip(model: Any) -> None:
    """Drop the exporter's notes: where each node came from in Python would outweigh a small network."""
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.value_info, model.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.value_info[:]


@contextlib.contextmanager
def _quiet(*names: str):
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def to_int8(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return integers and scales with ``weight ~ integers * scale``.

    ``scale = max |weight| / 127`` over each output channel and ``integers = round(weight / scale)``, so that no weight
    is off by more than half a scale.

    Args:
        weight: float32 [O, ...].

    Returns:
        int8 [O, ...] and float32 [O].
    """
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    integers = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return integers.astype(np.int8), scale


def quantized(fused: Detector) -> Detector:
    """Return a fused detector whose convolutions have the weights that int8 can hold, in float32."""
    rounded = copy.deepcopy(fused)
    for module in rounded.modules():
        if isinstance(module, nn.Conv2d):
            integers, scale = to_int8(module.weight.detach().cpu().numpy())
            weight = integers.astype(np.float32) * scale[:, None, None, None]
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(weight))
    return rounded
