"""Film the README's first picture: the simulated test clip in which the shown boxes fit best.

python docs/make_hero.py --data data/roads
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import spiking_centernet as scn
from spiking_centernet.data import boxes_at, label_timestamps, read_boxes
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.utils.provenance import collect_provenance, write_json

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = "none"
LEAST_BOXES = 12
"""Of either class: a clip without pedestrians, or with three boxes, says little."""
EVERY_US = 50_000
SHOWN_US = 2_500_000


def score(path: Path, model: scn.Detector | scn.Engine) -> tuple[float, int]:
    """Return AP of the detections that a film shows at its labeled frames, and the boxes of the rarer class."""
    boxes = read_boxes(path.with_name(path.name.replace("_td.dat", "_bbox.npy")))
    timestamps = [t_us for t_us in label_timestamps(boxes).tolist() if 500_000 <= t_us <= 500_000 + SHOWN_US]
    truth = {(path.stem, t_us): boxes_at(boxes, t_us) for t_us in timestamps}
    recording = scn.open(path)
    # Only what is shown counts: at the threshold, at these frames.
    found = {(path.stem, r.t_us): r for r in model.predict(recording, every_us=EVERY_US, stream=True)}
    shown = {key: found[key] for key in truth if key in found}
    num_boxes = np.bincount(np.concatenate([b.labels for b in truth.values()] or [np.zeros(0, int)]), minlength=2)
    if not shown or num_boxes.min() < LEAST_BOXES:
        return float("nan"), int(num_boxes.min())
    result = Predictions(truth, shown, recording.size_hw, model.config.classes).score(PROTOCOL)
    return result.ap, int(num_boxes.min())


def main() -> None:
    """Choose the clip and write ``docs/images/drive.webp`` and ``results/hero.json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the split test of simulated roads")
    parser.add_argument("--model", default="small")
    options = parser.parse_args()
    # Before the picture, a file of the repository, is written.
    provenance = collect_provenance(command=shlex.join(["python", "docs/make_hero.py", *sys.argv[1:]]))
    model = scn.compile(scn.load(options.model))
    scores = {path: score(path, model) for path in sorted((options.data / "test").glob("*_td.dat"))}
    best = max(scores, key=lambda path: np.nan_to_num(scores[path][0], nan=-1))
    results = model.predict(best, every_us=EVERY_US, track=True, stream=True)
    frames = [Image.fromarray(r.plot(enlarge=2)) for r in results if 500_000 <= r.t_us <= 500_000 + SHOWN_US]
    out = ROOT / "docs" / "images" / "drive.webp"
    first, *others = frames
    first.save(out, save_all=True, append_images=others, duration=EVERY_US // 1000, loop=0, quality=60, method=6)
    write_json(
        ROOT / "results" / "hero.json",
        {
            "clip": best.stem, "model": options.model, "protocol": PROTOCOL, "ap_shown": scores[best][0],
            "frames": len(frames), "ap_by_clip": {p.stem: None if np.isnan(s) else s for p, (s, _) in scores.items()},
            "provenance": provenance,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
