"""Write a detector for other simulators and chips as NIR, and say what stands between it and each family of chips.

    python examples/export_nir.py nano_nir.nir

Without ``--model`` an untrained network of the shape of recipes/nano_nir.yaml is written.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

import spiking_centernet as scn
from spiking_centernet.deploy.export import check_nir, write_nir


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, read back, compare every spike."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=304)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    model = (
        scn.build("nano", encoder={"widths": (16, 32, 64)}, decoder={"num_blocks": 1})
        if options.model is None
        else scn.load(options.model)
    )
    size_hw = options.height, options.width
    write_nir(model.eval(), options.out, size_hw)
    report = check_nir(model, options.out, size_hw)
    print(f"spikes that differ on {report.num_windows} real windows: {report.spikes_differing:.4%}")
    for family, blocks in report.blockers.items():
        print(f"{family}: {'; '.join(blocks) or 'nothing found'}")


if __name__ == "__main__":
    main()
