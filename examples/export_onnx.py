"""Write a detector as ONNX, check that it computes the same, and run it step by step with its state.

python examples/export_onnx.py nano.onnx
"""

import argparse
from collections.abc import Sequence

import numpy as np

import spiking_centernet as scn
from spiking_centernet.deploy.export import check, export_detector, run


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, check, run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=304)
    options = parser.parse_args(arguments)
    model = scn.load(options.model)
    written = export_detector(model, options.out, size_hw=(options.height, options.width), num_steps=1)
    parity = check(model, written).parity
    print(f"{written.path}: {written.num_bytes / 1e6:.1f} MB")
    print(f"spikes that differ on {parity.num_windows} real windows: {parity.spikes_differing:.4%}")
    network, membranes = run(written.path, written.contract), written.contract.at_rest()
    for step in range(3):
        cube = np.zeros(written.contract.cube_shape, np.float32)
        outputs = network({"cube": cube, **membranes})
        membranes = {name: outputs[f"new_{name}"] for name in membranes}
        print(f"step {step}: highest logit {outputs['heatmap'].max():.2f}")


if __name__ == "__main__":
    main()
