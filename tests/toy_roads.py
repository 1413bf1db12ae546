"""A GEN1-style folder small enough to train on in a test: bright blobs that wander over 32 x 48 pixels.

Run this file to write the golden loss curve anew after training changed on purpose: ``python tests/toy_roads.py``.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from spiking_centernet.calibration import Calibration
from spiking_centernet.data import read_boxes, write_boxes, write_dat
from spiking_centernet.data.cameras import pitched_camera
from spiking_centernet.data.object_files import object_dtype, write_cameras, write_objects
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE
from spiking_centernet.training.config import Recipe
from spiking_centernet.training.trainer import train

SIZE_HW = (32, 48)
PERIOD_US = 100_000
CURVE = Path(__file__).parent / "golden" / "loss_curve.json"
NETWORK = {
    "encoder.widths": (8, 8, 16, 16),
    "encoder.convs_per_stage": 1,
    "head.width": 8,
    "voxels.num_steps": 3,
    "decoder.expansion": 0.5,
}


def recipe(**changes) -> Recipe:
    """Return 3 epochs of 4 steps on the toy folder, every step logged."""
    values = {
        "network": NETWORK, "epochs": 3, "batch_size": 4, "learning_rate": 5e-3, "precision": "float32",
        "protocol": "none", "log_every": 1, "num_workers": 0, "ema_decay": 0.9, "seed": 1,
    }  # fmt: skip
    return Recipe(**(values | changes))


def write_recording(stem: Path, seed: int, num_labels: int) -> None:
    """Write one recording: a blob of 12 x 10 pixels, events at its place, noise, one label every 100 ms."""
    rng = np.random.default_rng(seed)
    stop_us = num_labels * PERIOD_US
    t_us = np.sort(rng.integers(0, stop_us, 60 * num_labels * 8))
    left, top = 2 + 30 * t_us / stop_us, rng.uniform(2, 18)
    events = np.zeros(len(t_us), EVENT_DTYPE)
    events["t"], events["p"] = t_us, rng.integers(0, 2, len(t_us))
    noise = rng.random(len(t_us)) < 0.1
    events["x"] = np.where(noise, rng.integers(0, SIZE_HW[1], len(t_us)), left + rng.uniform(0, 12, len(t_us)))
    events["y"] = np.where(noise, rng.integers(0, SIZE_HW[0], len(t_us)), top + rng.uniform(0, 10, len(t_us)))
    write_dat(stem.with_name(stem.name + "_td.dat"), events, SIZE_HW)
    boxes = np.zeros(num_labels, BOX_DTYPE)
    boxes["ts"] = PERIOD_US * np.arange(1, num_labels + 1)
    boxes["x"], boxes["y"] = 2 + 30 * (boxes["ts"] - PERIOD_US / 2) / stop_us, top
    boxes["w"], boxes["h"], boxes["class_id"], boxes["confidence"] = 12, 10, seed % 2, 1
    write_boxes(stem.with_name(stem.name + "_bbox.npy"), boxes)


def write_folder(root: Path) -> Path:
    """Write 17 windows to train on, one more than fills its batches, and 6 to validate with."""
    for split, seeds, num_labels in (("train", (0, 1), (9, 8)), ("val", (2, 3), (3, 3))):
        (root / split).mkdir(parents=True)
        for seed, count in zip(seeds, num_labels, strict=True):
            write_recording(root / split / f"clip{seed}", seed, count)
    return root


def camera() -> Calibration:
    """Return a camera that looks down a little on the toy folder's sensor."""
    return pitched_camera(40.0, 5.0, SIZE_HW)


def write_objects_beside(root: Path) -> Path:
    """Write a 3D box and 13 joints for every box of the toy folder, and its camera: 6 m away, facing to the right."""
    view = camera()
    for path in sorted(root.glob("*/*_bbox.npy")):
        boxes = read_boxes(path)
        rows = np.zeros(len(boxes), object_dtype(13))
        for name in ("ts", "track_id", "class_id"):
            rows[name] = boxes[name]
        middle = np.stack([boxes["x"] + boxes["w"] / 2, boxes["y"] + boxes["h"] / 2], axis=1)
        rows["dimensions"] = 1.5, 1.6, 1.8
        rows["location"] = view.unproject(middle, np.full(len(boxes), 6.0)) + np.array([0, 0.75, 0])
        rows["visible"] = 1
        rows["joints"][..., 0] = boxes["x"][:, None] + np.linspace(0.5, 11.5, 13)
        rows["joints"][..., 1] = boxes["y"][:, None] + np.linspace(0.5, 9.5, 13)
        rows["joints"][..., 2] = 2
        stem = str(path).removesuffix("_bbox.npy")
        write_objects(f"{stem}_objects.npy", rows)
        write_cameras(f"{stem}_camera.npy", {int(t_us): view for t_us in boxes["ts"]})
    return root


def first_losses(data: Path, out: Path, count: int = 10) -> list[float]:
    """Return the losses of the first steps."""
    losses = []
    train(recipe(), data, out=out, on_row=lambda row: losses.append(row["loss"]) if "loss" in row else None)
    return losses[:count]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        losses = first_losses(write_folder(Path(folder) / "data"), Path(folder) / "run")
    CURVE.write_text(json.dumps(losses, indent=1) + "\n")
