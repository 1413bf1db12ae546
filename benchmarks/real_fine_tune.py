"""What a few hundred real, labeled crops do for weights that were trained on simulated events alone.

    python benchmarks/real_fine_tune.py --real data/real [--models nano small] [--epochs 8]

The training crops of N-CARS in ``real_suite_files.json`` (Prophesee, research use: these weights never ship) are split
by their numbers: the first half of the cars and of the backgrounds is laid in fours over empty frames, trained on, the
second half scores before and after as the real suite does. Writes ``results/real_fine_tune.json``.
"""

import argparse
from pathlib import Path

import numpy as np
import real_suite
from stamp import stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.boxes import iou_matrix
from spiking_centernet.data import Augmentation, write_boxes, write_dat
from spiking_centernet.structures import BOX_DTYPE
from spiking_centernet.training.recipes import recipe_for

WINDOW_US = 100_000
CROPS_A_FRAME = 4
TRIES = 20
FRAMES = {"train": 400, "val": 60}
VAL_SHARE = 0.2


def placed(crop: real_suite.Frame, taken: list[np.ndarray], rng: np.random.Generator) -> tuple | None:
    """Return a crop's events and box at a free place of the frame, None where none was found."""
    height, width = crop.size_hw
    left, top, right, bottom = crop.truth.xyxy[0]
    for _ in range(TRIES):
        x = int(rng.integers(0, max(1, width - int(right - left))))
        y = int(rng.integers(0, max(1, height - int(bottom - top))))
        box = np.array([x, y, x + right - left, y + bottom - top], np.float32)
        if not taken or iou_matrix(box[None], np.stack(taken)).max() == 0:
            events = crop.events.copy()
            events["x"] = events["x"] - int(left) + x
            events["y"] = events["y"] - int(top) + y
            return events, box
    return None


def write_split(folder: Path, crops: list[real_suite.Frame], frames: int, rng: np.random.Generator) -> None:
    """Write one recording in which every 100 ms shows other crops at other places."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, rows = [], []
    for frame in range(frames):
        taken: list[np.ndarray] = []
        for k in rng.permutation(len(crops))[:CROPS_A_FRAME]:
            found = placed(crops[k], taken, rng)
            if found is None:
                continue
            events, box = found
            taken.append(box)
            events["t"] = np.minimum(events["t"], WINDOW_US - 1) + frame * WINDOW_US
            parts.append(events)
            if crops[k].name == "car":
                rows.append(((frame + 1) * WINDOW_US, *box[:2], *(box[2:] - box[:2]), real_suite.CAR))
    events = np.concatenate(parts)
    boxes = np.zeros(len(rows), BOX_DTYPE)
    for name, column in zip(("ts", "x", "y", "w", "h", "class_id"), zip(*rows, strict=True), strict=True):
        boxes[name] = column
    boxes["track_id"], boxes["confidence"] = np.arange(len(rows)), 1
    write_dat(folder / "crops_td.dat", events[np.argsort(events["t"], kind="stable")], real_suite.TRAINED_HW)
    write_boxes(folder / "crops_bbox.npy", boxes)


def main() -> None:
    """Score, fine-tune and score again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with ncars")
    parser.add_argument("--models", nargs="+", default=["nano"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("build/real_fine_tune"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if why := real_suite.missing(options.real, "ncars/"):
        raise SystemExit(why)
    rng = np.random.default_rng(options.seed)
    halves: tuple[list[real_suite.Frame], list[real_suite.Frame]] = [], []
    every = real_suite.crops(options.real / "ncars")
    for name in ("car", "background"):
        named = [crop for crop in every if crop.name == name]
        halves[0].extend(named[: len(named) // 2])
        halves[1].extend(named[len(named) // 2 :])
    train, test = halves
    chosen = rng.permutation(len(train))
    cut = round(len(train) * VAL_SHARE)
    data = options.out / "data"
    for split, numbers in (("val", chosen[:cut]), ("train", chosen[cut:])):
        write_split(data / split, [train[k] for k in numbers], FRAMES[split], rng)
    rows = []
    for name in options.models:
        recipe = recipe_for("fine_tune", data, {
            "weights": name, "epochs": options.epochs, "val_every": options.epochs, "seed": options.seed,
            "augmentation": Augmentation(isolate=0.5, drop=0.2),
        })  # fmt: skip
        run = options.out / name
        tuned = scn.train(recipe, data, out=run, resume=run.is_dir())
        row = {
            "model": name, "before": real_suite.score_crops(scn.load(name), test, "auto"),
            "after": real_suite.score_crops(tuned, test, "auto"),
        }  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    head = stamp(command=this_command(), seed=options.seed)
    crops = {"train": len(train) - cut, "val": cut, "test": len(test)}
    write_result("real_fine_tune", {**head, "epochs": options.epochs, "frames": FRAMES, "crops": crops, "models": rows})


if __name__ == "__main__":
    main()
