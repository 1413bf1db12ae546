"""Simulate a few clips, train a tiny network on them, and compare it with its untrained self.

    python examples/train_tiny.py tiny

It shows the way from nothing to a weight file in a few minutes. It learns little: that takes more clips and epochs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import spiking_centernet as scn
from spiking_centernet.simulate.dataset import Clips, simulate
from spiking_centernet.training.config import Recipe
from spiking_centernet.training.trainer import train


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, train, score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--duration_s", type=float, default=3.0)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args(arguments)
    data = options.out / "roads"
    simulate(data, clips=Clips(train=options.clips, val=2, test=0), duration_s=options.duration_s, workers=1)
    recipe = Recipe(
        preset="nano", network={"encoder.widths": (8, 16, 32, 64), "head.width": 16}, epochs=options.epochs,
        batch_size=4, protocol="none", num_workers=0, ema_decay=0.9,
    )  # fmt: skip
    model = train(recipe, data, out=options.out / "run")
    before, after = (scn.evaluate(m, data, protocol="none").ap50 for m in (recipe.build().eval(), model))
    print(f"AP50 on the validation clips: {before:.4f} untrained, {after:.4f} trained")
    print(f"weights: {options.out / 'run' / 'best.safetensors'}")


if __name__ == "__main__":
    main()
