"""The short program written beside an exported file: it runs the file without this package."""

from pathlib import Path

from spiking_centernet.export.contract import Contract
from spiking_centernet.files import atomic_write

LOADERS = {
    ".onnx": (
        "onnxruntime",
        'session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])\n'
        "names = [x.name for x in session.get_inputs()]\n"
        "net = lambda *arrays: session.run(None, dict(zip(names, arrays)))",
    ),
    ".xml": (
        "openvino",
        "# float32 has to be asked for: bfloat16, the default on some processors, moves the membranes.\n"
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
membranes = [np.zeros(shape, np.float32) for shape in {membrane_shapes}]  # at rest; keep them to go on
heads = []
for part in cube.astype(np.float32).reshape(-1, *{cube_shape}):
    out = net(part, *membranes)
    heads.append(out[:3])
    membranes = out[3:]
heatmap, wh, offset = (np.mean(head, axis=0)[0] for head in zip(*heads))
score = 1 / (1 + np.exp(-heatmap))
around = np.pad(score, ((0, 0), (1, 1), (1, 1)))
height, width = score.shape[1:]
peak = np.max([around[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)
for k, y, x in zip(*np.nonzero((score == peak) & (score >= {threshold}))):
    centre, half = np.array([x, y]) + offset[:, y, x], wh[:, y, x] / 2
    print({classes}[k], round(float(score[k, y, x]), 3), *(np.r_[centre - half, centre + half] * {stride}).round(1))
'''


def write_snippet(path: Path, contract: Contract) -> Path:
    """Write the program for an exported file and return its path, ``run_NAME_SUFFIX.py`` beside it."""
    module, loader = LOADERS[path.suffix]
    own = path.with_name(f"run_{path.stem}_{path.suffix[1:]}.py")
    shape = contract.cube_shape
    text = TEMPLATE.format(
        name=path.name, own_name=own.name, module=module, loader=loader, cube_shape=shape,
        window_shape=(contract.window_steps, *shape[1:]), membrane_shapes=list(contract.membrane_shapes),
        threshold=contract.score_threshold, classes=list(contract.classes), stride=contract.stride,
        steps=contract.window_steps, step_ms=contract.window_us / contract.window_steps / 1000,
    )  # fmt: skip
    with atomic_write(own) as temporary:
        temporary.write_text(text)
    return own
