"""Score weights on real, labeled recordings: a yardstick, never training data.

    python benchmarks/real_suite.py --real DIR [--models small nano ...] [--scale auto] [--out PICTURES]

Nothing here is used to train, to choose a threshold, an epoch or a scale. The recordings' licenses do not allow them
into this repository: ``real_suite_files.json`` names for every file where it comes from and its SHA-256, in the folders
expected below DIR. What is not there is left out and said; three recordings lie in ``tests/recordings`` and always
run. Writes ``results/real_suite.json``, a row a model, and with ``--out`` a picture of every labeled frame (ground
truth dashed).

What is measured, at the model's own threshold:

- ``pedro``: persons matched at IoU 0.5 and boxes that match none, in samples of 40 ms filmed while walking;
- ``ncars``: crops pasted into the middle of an empty frame of the training sensor's size; share of cars with a car box
  (touching the crop; with IoU 0.5), with a pedestrian box; share of backgrounds with any box; area under the ROC curve
  of the best car score;
- ``negatives``: boxes per labeled frame where there is neither car nor whole pedestrian. For the bust, a pedestrian
  box over at least half of the frame frames the whole person and is not counted;
- ``icns``: 14 boxes of two cars, drawn by hand;
- ``gen31``: a person close to a fixed camera, of whom no head is seen. The box is where events have become more than
  before (see ``moving_box``), because nothing else moves;
- ``static``: recordings of static noise, where every box is false.
"""

import argparse
import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from stamp import ROOT, stamp, this_command, write_result

import spiking_centernet as scn
from spiking_centernet.boxes import iou_matrix
from spiking_centernet.cli.values import read_scale
from spiking_centernet.data import Window, boxes_at, label_timestamps, read_boxes
from spiking_centernet.errors import EventFileError
from spiking_centernet.evaluation.box_matches import match_frames
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.inference import detect_windows
from spiking_centernet.model.scaling import Scale
from spiking_centernet.structures import CLASS_NAMES, EVENT_DTYPE, Boxes, Detections
from spiking_centernet.utils.progress import track
from spiking_centernet.visualize.draw import draw_boxes, events_image, save_png

FILES = Path(__file__).with_name("real_suite_files.json")
RECORDINGS = ROOT / "tests" / "recordings"
MODELS = ("small", "small-wide", "nano", "nano-wide", "nano-robust", "nano-sparse")
CAR, PEDESTRIAN = 0, 1
TRAINED_HW = (240, 304)
MATCH_IOU = 0.5
LEAST_SCORE = 0.01
"""Scores below are not looked at; the ROC curve needs those under the threshold."""
PEDRO_HW = (260, 346)
WHOLE_PERSON = 0.5
GEN31_QUIET_US, GEN31_FIRST_US, GEN31_LAST_US = 500_000, 800_000, 1_900_000
"""The end of a window in which nobody moves, and of the first and the last in which somebody does."""
CELL_PX = 16


@dataclass(frozen=True)
class Frame:
    """A labeled frame: the events of the window that ends at ``t_us``, and what is to be found in it."""

    name: str
    events: np.ndarray
    size_hw: tuple[int, int]
    t_us: int
    truth: Boxes


@dataclass
class Counts:
    """Boxes of labeled frames: how many there are, how many were matched at IoU 0.5, and boxes that match none."""

    frames: int = 0
    truth: int = 0
    matched: int = 0
    false: int = 0
    best_score: float = 0.0
    names: list[str] = field(default_factory=list)

    def row(self) -> dict:
        """Return what goes into the result file."""
        return {
            "frames": self.frames, "truth": self.truth, "matched": self.matched, "false": self.false,
            "false_per_frame": round(self.false / max(1, self.frames), 3), "best_score": round(self.best_score, 3),
        }  # fmt: skip


def missing(real: Path | None, name: str) -> str | None:
    """Return why a part cannot run, None if its files are there and whole."""
    if real is None:
        return "no folder given with --real"
    known = {k: v for k, v in json.loads(FILES.read_text(encoding="utf-8"))["sha256"].items() if k.startswith(name)}
    for path, digest in known.items():
        if not (real / path).is_file():
            return f"{path} is not there; {FILES.name} says where it comes from"
        if hashlib.sha256((real / path).read_bytes()).hexdigest() != digest:
            return f"{path} is not the file of {FILES.name}"
    return None


def detect(model, frames: list[Frame], name: str, scale: Scale) -> Iterator[tuple[Frame, Detections]]:
    """Yield frames of one size, each with all detections from ``LEAST_SCORE`` up."""
    windows = (Window(frame.t_us - model.config.voxels.window_us, frame.t_us, frame.events) for frame in frames)
    found = detect_windows(model, windows, size_hw=frames[0].size_hw, min_score=LEAST_SCORE, scale=scale)
    yield from zip(frames, track(found, name, len(frames)), strict=True)


def count(model, frames: list[Frame], out: Path | None, scale: Scale, *, spared=lambda box, frame: False) -> Counts:
    """Match detections at the model's threshold with the ground truth of every frame, best score first."""
    total, threshold = Counts(), model.config.deployment.score_threshold
    for frame, every in detect(model, frames, frames[0].name, scale):
        key = frame.name, frame.t_us
        predictions = Predictions({key: frame.truth}, {key: every}, frame.size_hw, CLASS_NAMES)
        match = match_frames(predictions, min_score=threshold, protocol="none", min_iou=MATCH_IOU)[key]
        total.frames += 1
        total.truth += len(frame.truth)
        total.best_score = max(total.best_score, float(every.scores.max(initial=0)))
        total.matched += match.num_found
        total.false += sum(not spared(box, frame) for box in match.shown.xyxy[match.is_false])
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            image = events_image(frame.events, frame.size_hw)
            save_png(draw_boxes(image, match.shown, frame.truth, class_names=CLASS_NAMES), out / f"{frame.name}.png")
    return total


def pedro(folder: Path) -> list[Frame]:
    """Return PEDRo's samples; columns t (us), x, y, p, boxes as shares of the picture."""
    frames = []
    for path in sorted(folder.glob("*.npy")):
        columns = np.load(path)
        events = np.zeros(len(columns), EVENT_DTYPE)
        for k, name in enumerate("txyp"):
            events[name] = columns[:, k] - (columns[0, 0] if name == "t" else 0)
        stop_us = int(events["t"][-1]) + 1
        rows = np.loadtxt(path.with_suffix(".txt"), ndmin=2)
        height, width = PEDRO_HW
        center, size = rows[:, 1:3] * (width, height), rows[:, 3:5] * (width, height)
        xyxy = np.concatenate([center - size / 2, center + size / 2], 1).astype(np.float32)
        truth = Boxes(xyxy, np.full(len(rows), PEDESTRIAN, np.int64))
        frames.append(Frame(path.stem, events, PEDRO_HW, stop_us, truth))
    return frames


def crops(folder: Path) -> list[Frame]:
    """Return N-CARS crops in the middle of an empty frame; the ground truth is the crop, a car or nothing."""
    frames = []
    for path in sorted(folder.rglob("*_td.dat")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the header does not say a size: the crop's is that of its events
            recording = scn.open(path)
        height, width = recording.size_hw
        events = recording.read()
        left, top = (TRAINED_HW[1] - width) // 2, (TRAINED_HW[0] - height) // 2
        events["x"] += left
        events["y"] += top
        box = np.array([[left, top, left + width, top + height]], np.float32)
        name = CLASS_NAMES[CAR] if path.parent.name == "cars" else "background"
        frames.append(Frame(name, events, TRAINED_HW, recording.stop_us, Boxes(box, np.zeros(1, np.int64))))
    return frames


def score_crops(model, frames: list[Frame], scale: Scale) -> dict:
    """Return shares of crops with a box, and how well the best car score tells cars from backgrounds."""
    threshold, rows = model.config.deployment.score_threshold, []
    for frame, every in detect(model, frames, "ncars", scale):
        found = every.above(threshold)
        overlap = iou_matrix(found.xyxy, frame.truth.xyxy)[:, 0]
        car, pedestrian = found.labels == CAR, found.labels == PEDESTRIAN
        score = float(every.scores[every.labels == CAR].max(initial=0))
        rows.append(
            (frame.name == "car", (car & (overlap > 0)).any(), (car & (overlap >= 0.5)).any(), pedestrian.any(),
             len(found) > 0, score)
        )  # fmt: skip
    is_car, touching, fitting, pedestrian, anything, scores = (np.array(column) for column in zip(*rows, strict=True))
    positive, negative = scores[is_car], scores[~is_car]
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return {
        "cars": int(is_car.sum()), "backgrounds": int((~is_car).sum()),
        "car_box_on_cars": round(float(touching[is_car].mean()), 3),
        "car_box_iou50_on_cars": round(float(fitting[is_car].mean()), 3),
        "pedestrian_box_on_cars": round(float(pedestrian[is_car].mean()), 3),
        "any_box_on_backgrounds": round(float(anything[~is_car].mean()), 3),
        "auc": round(float(wins), 3),
    }  # fmt: skip


def every(path: Path, length_us: int, step_us: int = 50_000) -> Iterator[Frame]:
    """Yield the windows of a recording without ground truth that end every ``step_us``, only those wholly inside."""
    recording = scn.open(path)
    for stop_us in range(length_us, recording.stop_us + 1, step_us):
        events = recording.read(stop_us - length_us, stop_us)
        yield Frame(f"{path.stem}_{stop_us // 1000:05d}", events, recording.size_hw, stop_us, Boxes.empty())


def labeled(path: Path, length_us: int) -> list[Frame]:
    """Return the labeled frames of a recording with a box file next to it."""
    recording = scn.open(path)
    boxes = read_boxes(path.with_name(path.name.replace("_td.dat", "_bbox.npy")))
    frames = []
    for t_us in label_timestamps(boxes).tolist():
        events = recording.read(max(0, t_us - length_us), t_us)
        frames.append(Frame(f"icns_{t_us // 1000:05d}", events, recording.size_hw, t_us, boxes_at(boxes, t_us)))
    return frames


def moving_box(events: np.ndarray, quiet: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Return the box of what moves before a fixed camera, float32 [1, 4].

    Args:
        events: those of the window.
        quiet: those of an equally long window before, in which nothing moves.
        size_hw: height and width of the sensor in pixels.

    Its columns are those of every cell of 16 x 16 pixels with 30 events more than twice as many as in the quiet window.
    It is as high as the picture: the person in it is seen from the waist to the feet at all times.
    """
    rows, columns = size_hw[0] // CELL_PX, size_hw[1] // CELL_PX
    cells = []
    for part in (events, quiet):
        cell = (part["y"] // CELL_PX).astype(int) * columns + part["x"] // CELL_PX
        cells.append(np.bincount(cell, minlength=rows * columns).reshape(rows, columns))
    _, x = np.nonzero(cells[0] > 2 * cells[1] + 30)
    return np.array([[x.min() * CELL_PX, 0, (x.max() + 1) * CELL_PX, size_hw[0]]], np.float32)


def gen31(length_us: int) -> list[Frame]:
    """Return a person close to a fixed camera, every 100 ms, boxed by where the events have become more."""
    frames = list(every(RECORDINGS / "gen31_person_2s" / "gen31_person_2s_td.dat", length_us, 100_000))
    quiet = next(frame.events for frame in frames if frame.t_us == GEN31_QUIET_US)
    return [
        replace(frame, truth=Boxes(moving_box(frame.events, quiet, frame.size_hw), np.full(1, PEDESTRIAN, np.int64)))
        for frame in frames
        if GEN31_FIRST_US <= frame.t_us <= GEN31_LAST_US
    ]


def whole_person(box: np.ndarray, frame: Frame) -> bool:
    """Return whether a box covers so much of the bust's picture that it frames the whole person."""
    return (box[2] - box[0]) * (box[3] - box[1]) >= WHOLE_PERSON * frame.size_hw[0] * frame.size_hw[1]


def score(name: str, real: Path | None, out: Path | None, scale: Scale) -> dict:
    """Return a model's row."""
    model = scn.load(name)
    length_us = model.config.voxels.window_us
    row: dict = {"model": name, "threshold": model.config.deployment.score_threshold}

    def pictures(part: str) -> Path | None:
        return None if out is None else out / name / part

    def put(part: str, why: str | None, compute) -> None:
        try:
            row[part] = {"skipped": why} if why else compute()
        except (ModuleNotFoundError, EventFileError) as error:
            row[part] = {"skipped": str(error)}
        print(f"{name:12} {part:16} {row[part]}", flush=True)

    put("pedro", missing(real, "pedro/"), lambda: count(model, pedro(real / "pedro"), pictures("pedro"), scale).row())
    put("ncars", missing(real, "ncars/"), lambda: score_crops(model, crops(real / "ncars"), scale))
    for file in ("bust.aedat4", "seq_0003_e.mat"):
        put(
            Path(file).stem, missing(real, f"negatives/{file}"),
            lambda file=file: count(
                model, list(every(real / "negatives" / file, length_us)), pictures(Path(file).stem), scale,
                spared=whole_person if file.startswith("bust") else lambda box, frame: False,
            ).row(),
        )  # fmt: skip
    icns = RECORDINGS / "icns_roadside_cars" / "icns_roadside_cars_td.dat"
    put("icns", None, lambda: count(model, labeled(icns, length_us), pictures("icns"), scale).row())
    put("gen31", None, lambda: count(model, gen31(length_us), pictures("gen31"), scale).row())
    for noise in ("imx636_static_noise", "dvxplorer_static_noise"):
        path = RECORDINGS / noise / f"{noise}_td.dat"
        put(noise, None, lambda path=path: count(model, list(every(path, length_us, 100_000)), None, scale).row())
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder with pedro, ncars and negatives")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="bundled names, weight files or run folders")
    parser.add_argument("--out", type=Path, help="folder for pictures of every labeled frame")
    parser.add_argument("--scale", nargs="+", default=["auto"], help="as of scn detect")
    parser.add_argument("--name", default="real_suite", help="of the result file")
    options = parser.parse_args()
    scale = read_scale(options.scale)
    rows = [score(name, options.real, options.out, scale) for name in options.models]
    head = stamp(command=this_command(), seed=None)
    write_result(options.name, {**head, "match_iou": MATCH_IOU, "scale": scale, "models": rows})


if __name__ == "__main__":
    main()
