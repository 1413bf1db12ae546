"""Learns a third class from 30 labeled frames: fine-tuned from the bundled nano, and from scratch for as many steps.

    python benchmarks/own_classes.py

The class is "truck": the simulated roads have trucks, which usually count as cars. Here a third of the vehicles are
trucks and labeled as such. Every network is scored on the same test clips under the protocol "none", by class. Writes
``results/own_classes.json``.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from stamp import RESULTS, stamp, this_command

from spiking_centernet.data import FolderDataset, read_boxes, write_boxes
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.model import Detector
from spiking_centernet.model.weights import load
from spiking_centernet.simulate.dataset import Clips, simulate
from spiking_centernet.simulate.scene import scene as roads
from spiking_centernet.training.recipes import suggest_recipe
from spiking_centernet.training.trainer import train
from spiking_centernet.utils.provenance import write_json

CLASSES = ("car", "pedestrian", "truck")
TRUCKS = 1 << 20
"""Added to the track numbers of trucks, until their box files are written again with the third class."""
LEAST_TRUCK_M = 6.0
"""Shorter vehicles are cars: the simulator's trucks are 6.5 to 9 m long, its vans at most 5.9 m."""
TRUCK_SHARE = 0.3
FRAMES = 30

_add_car = roads.add_car


class Roads(roads.Scene):
    """A street with more trucks, whose boxes can be told from cars'."""

    def __init__(self, rng: np.random.Generator, *, size_hw: tuple[int, int], duration_s: float):
        def add_car(rng, pool, kind):
            return _add_car(rng, pool, "truck" if rng.random() < TRUCK_SHARE else kind)

        roads.add_car = add_car
        try:
            super().__init__(rng, size_hw=size_hw, duration_s=duration_s)
        finally:
            roads.add_car = _add_car

    def boxes(self, t_s: float, t_us: int) -> np.ndarray:
        found = super().boxes(t_s, t_us)
        shapes = self._movers[found["track_id"].astype(int) - 1, 1].astype(int)
        trucks = (found["class_id"] == 0) & (self._shapes[shapes, 2] > LEAST_TRUCK_M)
        found["track_id"][trucks] += TRUCKS
        return found


def make_data(out: Path, seed: int) -> Path:
    """Simulate the three splits and label the trucks, unless that was done before."""
    if (out / "classes.txt").is_file():
        return out
    frames_a_clip = 3  # labels every 250 ms, none at the end
    clips = Clips(train=FRAMES // frames_a_clip, val=8, test=24)
    simulate(out, seed=seed, clips=clips, duration_s=2.0, train_duration_s=1.0, make_scene=Roads, workers=1)
    for path in sorted(out.glob("*/*_bbox.npy")):
        boxes = read_boxes(path)
        trucks = boxes["track_id"] >= TRUCKS
        boxes["class_id"][trucks] = CLASSES.index("truck")
        boxes["track_id"][trucks] -= TRUCKS
        write_boxes(path, boxes, classes=CLASSES)
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return out


def score(model: Detector, data: Path) -> dict[str, float | None]:
    """Return AP50 on the test split, mean and by class, of the classes that the network has."""
    result = predict(model, dataset_for(model, data, "test")).score("none")
    return {"ap": result.ap, "ap50": result.ap50, **{f"ap50_{c.name}": c.ap50 for c in result.classes}}


def count_boxes(data: Path, split: str) -> dict[str, int]:
    labels = np.concatenate([r.boxes["class_id"] for r in FolderDataset(data, split, classes=CLASSES).recordings])
    return {name: int((labels == k).sum()) for k, name in enumerate(CLASSES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60, help="of both trainings; an epoch has 3 steps of 8 windows")
    parser.add_argument("--data", type=Path, help="keep the simulated recordings in this folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "own_classes.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(options.data or Path(folder) / "mine", options.seed)
        fields = {"epochs": options.epochs, "val_every": options.epochs // 5, "seed": options.seed}
        fields |= {"early_stopping": None, "precision": "float32", "num_workers": 0}
        recipe = suggest_recipe(data, **fields)
        scratch = replace(recipe, weights=None, preset="nano", encoder_learning_rate=None)
        rows = [{"start": "nano as bundled", "epochs": 0, **score(load("nano"), data)}]
        for name, chosen in (("from scratch", scratch), ("fine-tuned from nano", recipe)):
            model = train(chosen, data, out=Path(folder) / name)
            rows.append({"start": name, "epochs": options.epochs, **score(model, data)})
            print(rows[-1])
        document = {
            "frames": len(FolderDataset(data, "train", classes=CLASSES)), "classes": list(CLASSES),
            "boxes": {split: count_boxes(data, split) for split in ("train", "val", "test")}, "protocol": "none",
            "steps_an_epoch": 3, "rows": rows, "provenance": stamp(command=this_command(), seed=options.seed),
        }  # fmt: skip
    write_json(options.out, document)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
