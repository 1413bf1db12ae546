"""The tour: simulate a drive, detect, score, detect in a real recording, and write it all on one page."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data import Recording, boxes_at, label_timestamps, read_boxes
from spiking_centernet.data import open as open_recording
from spiking_centernet.data.formats.dat_writer import write_dat
from spiking_centernet.errors import ConfigError, WeightsError
from spiking_centernet.evaluation import report
from spiking_centernet.evaluation.box_matches import match_frames
from spiking_centernet.evaluation.prediction import Predictions
from spiking_centernet.evaluation.report import GAP, EvaluationReport
from spiking_centernet.inference.recordings import detections_at, events_before, write_detections
from spiking_centernet.model import Detector
from spiking_centernet.model.weights import bundled, load
from spiking_centernet.simulate.dataset import Clips, simulate
from spiking_centernet.simulate.statistics import summarize
from spiking_centernet.utils.provenance import collect_provenance, write_json
from spiking_centernet.visualize import html
from spiking_centernet.visualize.draw import draw_boxes, events_image, mosaic, save_png

LOG = logging.getLogger(__name__)

PROTOCOL = "prophesee"
MATCH_IOU = 0.5
BOXES = "small-one-step"
"""The bundled weights of the tour: the best from a car."""

THREE_TASKS = "small-one-step-3d-pose"
"""The bundled weights that show 3D boxes and pose where the tour's own do boxes alone."""

TASKS_SHOWN_US = 2_000_000
"""How much of the drive is looked at again with them: a part, because that look takes as long as the first."""

REAL_EVERY_US = 5_000
"""The real clip lasts 0.17 s: a detection every 5 ms makes frames enough to play it slowly."""
REAL_SHOWN_US = 30_000


@dataclass(frozen=True)
class RealCheck:
    """Detections at the default threshold against the hand-drawn boxes: boxes, how many were found, false ones."""

    num_truth: int
    num_found: int
    num_false: int
    tracks_found: int
    num_tracks: int


@dataclass
class DemoRun:
    """What the tour left behind.

    Attributes:
        page: the HTML page.
        files: everything it shows, by name.
        seconds: how long each part took.
        card: the score on the simulated clips.
        real: the check on the real recording.
    """

    page: Path
    files: dict[str, Path] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    card: EvaluationReport = field(init=False)
    real: RealCheck = field(init=False)


def run_demo(
    out: str | os.PathLike[str] = "demo",
    *,
    model: str | os.PathLike[str] = BOXES,
    seed: int = 2026,
    clips: int = 4,
    duration_s: float = 6.0,
    workers: int | None = None,
) -> DemoRun:
    """Simulate unseen clips, detect and score in them, detect in a real recording, write ``index.html``.

    Args:
        out: folder for everything.
        model: bundled name, path or hub id of the weights.
        seed: of the simulated clips; they are of the split "test", whose chance no training clip shares.
        clips: how many clips to simulate.
        duration_s: length of each in seconds.
        workers: processes that simulate; None takes one per CPU.

    Raises:
        WeightsError: the weights are missing or damaged.
        ConfigError, DatasetError: a setting is impossible, or ``out`` holds other data.
    """
    out = Path(out)
    if clips < 1:
        raise ConfigError(f"clips must be at least 1, got {clips}")
    if model == BOXES and BOXES not in bundled() and not Path(BOXES).exists():
        raise WeightsError(f"the weights {BOXES!r} are not in this installation; train some and give them with --model")
    run = DemoRun(out / "index.html")

    @contextmanager
    def part(name: str) -> Iterator[None]:
        LOG.info("%s ...", name)
        began = time.perf_counter()
        yield
        run.seconds[name] = round(time.perf_counter() - began, 2)

    with part("load the detector"):
        detector = load(model)
    with part("simulate a drive"):
        data = out / "data"
        simulate(
            data, seed=seed, clips=Clips(train=0, val=0, test=clips), duration_s=duration_s, workers=workers,
            labels=("objects",),
        )  # fmt: skip
    with part("detect and score"):
        run.card = report.score(detector, data, split="test", protocols=(PROTOCOL, "none"))
        run.files |= report.save(run.card, detector, out / "score")
    with part("look at the drive"):
        fullest = max(run.card.dataset.recordings, key=lambda recording: len(recording.boxes))
        looked = write_detections(
            detector, open_recording(fullest.path), out / "drive", save=("html", "json", "npy", "png"),
            truth=fullest.boxes,
        )  # fmt: skip
        run.files |= {f"drive_{kind}": path for kind, path in looked.paths.items()}
    if detector.config.tasks == ("detect",) and THREE_TASKS in bundled():
        with part("3D boxes and pose in the drive"):
            part_of_it, its_boxes = _busiest(open_recording(fullest.path), fullest.boxes, out / "tasks", TASKS_SHOWN_US)
            looked = write_detections(load(THREE_TASKS), part_of_it, out / "tasks", save=("html",), truth=its_boxes)
            run.files["tasks_html"] = looked.paths["html"]
    with part("detect in a real recording"):
        recording = open_recording("sample-real")
        looked = write_detections(
            detector, recording, out / "real", save=("html", "json", "npy", "png"), every_us=REAL_EVERY_US,
            shown_us=REAL_SHOWN_US, truth=read_boxes(_labels_of(recording)),
        )  # fmt: skip
        run.files |= {f"real_{kind}": path for kind, path in looked.paths.items()}
        run.real = _check_real(detector, recording, out / "real" / "mosaic.png")
        run.files["real_mosaic"] = out / "real" / "mosaic.png"
    with part("write the page"):
        summary = summarize(data)["test"]
        stamp = collect_provenance(seed=seed)
        _write_page(run, detector, str(model), summary, stamp)
    run.files["result"] = write_json(
        out / "demo.json",
        {
            "model": str(model), **run.card.to_dict(), "real_clip": vars(run.real), "data": summary,
            "seconds": run.seconds, "provenance": stamp,
        },
    )  # fmt: skip
    return run


def _busiest(recording: Recording, boxes: np.ndarray, folder: Path, length_us: int) -> tuple[Recording, np.ndarray]:
    """Write the part of a recording that has the most boxes, starting at 0, and return it and its boxes."""
    starts_us = range(0, max(1, recording.stop_us - length_us + 1), length_us // 4)
    times_us = boxes["ts"].astype(np.int64)
    start_us = max(starts_us, key=lambda start: np.count_nonzero((times_us > start) & (times_us <= start + length_us)))
    events = recording.read(start_us, start_us + length_us)
    events["t"] -= start_us
    shown = boxes[(times_us > start_us) & (times_us <= start_us + length_us)]
    shown["ts"] -= start_us
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / recording.path.name
    write_dat(path, events, recording.size_hw)
    return open_recording(path), shown


def _labels_of(recording: Recording) -> Path:
    return recording.path.with_name(recording.path.name.replace("_td.dat", "_bbox.npy"))


def _check_real(model: Detector, recording: Recording, picture: Path) -> RealCheck:
    """Detect exactly at the labeled frames, compare with the boxes drawn by hand, and picture both."""
    boxes = read_boxes(_labels_of(recording))
    pictures, tracks, matches = [], set(), []
    for found in detections_at(model, recording, label_timestamps(boxes)):
        truth, key = boxes_at(boxes, found.t_us), ("real", found.t_us)
        predictions = Predictions({key: truth}, {key: found}, recording.size_hw, model.config.classes)
        match = match_frames(predictions, min_score=0.0, protocol="none", min_iou=MATCH_IOU)[key]
        matches.append(match)
        tracks |= set(match.truth.track_ids[match.is_found].tolist())
        image = events_image(events_before(recording, found.t_us, REAL_SHOWN_US), recording.size_hw)
        caption = f"{found.t_us * 1e-6:.3f} s"
        pictures.append(draw_boxes(image, found, truth, class_names=model.config.classes, scale=2, caption=caption))
    save_png(mosaic(pictures, 4, ground=GAP), picture)
    num_found, num_false = sum(m.num_found for m in matches), sum(m.num_false for m in matches)
    return RealCheck(len(boxes), num_found, num_false, len(tracks), len(np.unique(boxes["track_id"])))


def _number(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.3f}"


def _write_page(run: DemoRun, model: Detector, name: str, summary: dict[str, Any], stamp: dict[str, Any]) -> None:
    def link(key: str) -> str:
        return run.files[key].relative_to(run.page.parent).as_posix()

    best, real, threshold = run.card.scores[PROTOCOL], run.real, model.config.deployment.score_threshold
    page = html.Page(
        "Spiking CenterNet: a drive",
        "Cars and pedestrians found in the events of an event camera by a spiking neural network. "
        "Solid boxes are detections with class and score, dashed boxes are the truth.",
    )
    page.note(
        "The drive and its boxes are simulated: these scores say how well the network does in its own simulator's "
        f"unseen clips, {summary['clips']} of them, {summary['seconds']:.0f} s in all. They are no scores on real "
        "data. The second recording is real."
    )
    kind = "firing rate" if run.card.spiking else "non-zero outputs"
    page.tiles({
        f"AP50, simulated, protocol {PROTOCOL}": _number(best.ap50),
        f"AP, simulated, protocol {PROTOCOL}": _number(best.ap),
        f"{kind} of all neurons": f"{run.card.rates.overall():.1%}",
        "hand-drawn boxes found in the real clip": f"{real.num_found} of {real.num_truth}",
        "false boxes in the real clip": str(real.num_false),
        f"parameters of {Path(name).stem}": f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M",
    })  # fmt: skip
    page.section(
        "A simulated drive",
        html.view(link("drive_html"), "A frame every 50 ms; dashed boxes are the truth."),
        html.image(link("mosaic"), "Labeled frames spread over all clips, the last 20 to 40 ms of events."),
    )  # fmt: skip
    if "tasks_html" in run.files:
        page.section(
            "3D boxes and pose",
            html.view(
                link("tasks_html"), f"A part of this clip with {THREE_TASKS}: a cuboid for every box, joints of people."
            ),
        )
    page.section(
        "Scores on the simulated clips",
        html.table(
            [[p, *map(_number, (s.ap, s.ap50, s.ap75, s.ap_small, s.ap_medium, s.ap_large)), s.num_truth]
             for p, s in run.card.scores.items()],
            ("protocol", "AP", "AP50", "AP75", "small", "medium", "large", "boxes"),
        ),
        html.table(
            [[c.name, _number(c.ap), _number(c.ap50), c.num_truth, c.num_detections] for c in best.classes],
            (f"class, {PROTOCOL}", "AP", "AP50", "boxes", "detections"),
        ),
        *[
            html.table([[name, _number(value)] for name, value in score.rows().items()], (task, "value"))
            for task, score in best.tasks.items()
        ],
        html.image(link(f"pr_{PROTOCOL}"), "Precision over recall at IoU 0.5.", kind="plain"),
    )  # fmt: skip
    page.section(
        "A real recording",
        html.paragraph(
            f"A street seen by a DAVIS346. Of {real.num_truth} boxes of {real.num_tracks} driving cars, drawn by hand "
            f"on the camera's gray frames, {real.num_found} were found at IoU {MATCH_IOU:g} ({real.tracks_found} of "
            f"{real.num_tracks} cars), with {real.num_false} other boxes, at score {threshold:g}. Too few to measure "
            "accuracy: a check that what was learned in simulation carries over at all."
        ),
        html.view(link("real_html"), "A frame every 5 ms; dashed boxes are drawn by hand."),
        html.image(link("real_mosaic"), "The labeled frames, the last 30 ms of events."),
        html.paragraph("Recording: MIT license, (c) 2020 International Centre for Neuromorphic Systems."),
    )  # fmt: skip
    page.section(f"{kind[0].upper()}{kind[1:]} by layer", html.bars(run.card.rates.per_layer()))
    rate = summary["event_rate_mev_s"]
    page.section(
        "The simulated data",
        html.table(
            [
                ["clips", summary["clips"]],
                ["seconds", f"{summary['seconds']:.1f}"],
                ["events", f"{summary['events']:,}"],
                ["rate, Mev/s", f"{rate['mean']:.2f} ({rate['min']:.2f} to {rate['max']:.2f})"],
                ["ON share", "none" if summary["on_share"] is None else f"{summary['on_share']:.1%}"],
                ["boxes", f"{summary['boxes']} on {summary['tracks']} objects"],
                *([f"boxes, {key}", value] for key, value in summary["boxes_per_class"].items()),
                *([f"boxes, {key}", value] for key, value in summary["boxes_per_size"].items()),
            ],
            ("what", "value"),
        ),
    )
    page.section(
        "How this page was made",
        html.table([[part, f"{seconds:.1f} s"] for part, seconds in run.seconds.items()], ("part", "time")),
        html.provenance_list({"weights": name, **stamp}),
    )
    page.write(run.page)
