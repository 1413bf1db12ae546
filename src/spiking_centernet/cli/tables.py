"""What recordings, scores and corruptions look like on a terminal."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiking_centernet.cli import output
from spiking_centernet.utils.text import counted

if TYPE_CHECKING:  # the command starts without torch
    from spiking_centernet.data.description import RecordingInfo
    from spiking_centernet.deploy.export.exporting import Report
    from spiking_centernet.deploy.export.nir_check import NirReport
    from spiking_centernet.evaluation.comparison import Compared
    from spiking_centernet.evaluation.report import EvaluationReport
    from spiking_centernet.evaluation.robustness import Robustness


def files(paths: Iterable[Path]) -> None:
    """Print which files were written."""
    for path in paths:
        output.show_text(f"wrote {path}")


def recording(found: "RecordingInfo") -> None:
    """Print what is in a recording."""
    height, width = found.size_hw
    rows = [
        ("format", found.kind),
        ("sensor", f"{width} x {height} (width x height)"),
        ("time", f"{found.start_us * 1e-6:.6f} to {found.stop_us * 1e-6:.6f} s"),
        ("duration", f"{(found.stop_us - found.start_us) * 1e-6:.6f} s"),
        ("events", f"{found.num_events:,}"),
        ("rate", "-" if found.rate_hz is None else f"{found.rate_hz / 1e6:.4f} Mev/s"),
        ("ON share", _share(found.on_share)),
        ("out-of-order events", f"{found.num_unsorted:,}"),
        ("dropped events", f"{found.num_dropped:,}"),
        ("segments of the clock", f"{found.num_segments:,}"),
        ("silent pixels", _share(found.silent_share)),
        ("hot pixels", f"{found.hot_pixels:,}, {_share(found.hot_event_share)} of the events"),
        ("box file", "no box file" if found.num_boxes is None else f"{found.num_boxes:,}"),
    ]
    output.show_table("", ("what", "found"), rows, words=2)


def scores(card: "EvaluationReport") -> None:
    """Print scores under every protocol, by class, and the firing rates."""
    recordings, frames = counted(len(card.dataset.recordings), "recording"), counted(len(card.dataset), "labeled frame")
    title = f"{card.split}: {recordings}, {frames}" + (", stateful" if card.mode == "stateful" else "")
    if "classify" in card.predictions.tasks:
        _classes(card, title)
        _rates(card)
        return
    rows = [
        (name, *map(_number, (s.ap, s.ap50, s.ap75, s.ap_small, s.ap_medium, s.ap_large, s.ar100)), s.num_truth)
        for name, s in card.scores.items()
    ]
    output.show_table(title, ("protocol", "AP", "AP50", "AP75", "small", "medium", "large", "AR100", "boxes"), rows)
    if (interval := card.ap_interval) is not None:
        output.show_text(
            f"AP under {next(iter(card.scores))} is {interval.low:.3f} to {interval.high:.3f} in 95 % of "
            f"{interval.num_resamples} resamples of the {recordings}"
        )
    rows = [
        (name, c.name, _number(c.ap), _number(c.ap50), c.num_truth, c.num_detections)
        for name, s in card.scores.items()
        for c in s.classes
    ]
    output.show_table("", ("protocol", "class", "AP", "AP50", "boxes", "detections"), rows, words=2)
    tasks: Any = next(iter(card.scores.values())).tasks
    if "detect3d" in tasks:
        _boxes3d(tasks["detect3d"])
    if "pose" in tasks:
        _pose(tasks["pose"])
    if card.box3d_errors:
        rows = [
            (e.name, e.num, *(_number(x, ".2f") for x in (e.range, e.yaw_deg, e.yaw_axis_deg, *e.dims_m, e.size_prior)))
            for e in card.box3d_errors
        ]
        output.show_table(
            "median errors of 3D boxes whose 2D boxes are right; size prior: depth by the height of true 2D boxes",
            ("class", "boxes", "range", "yaw deg", "axis deg", "h m", "w m", "l m", "size prior"), rows,
        )  # fmt: skip
    _rates(card)


def _boxes3d(found: Any) -> None:
    """Print average precision and errors of 3D boxes by class; the JSON has the same."""
    rows = [
        (c.name, *map(_number, (*c.ap, c.translation_m, c.scale, c.orientation_rad)), c.num_truth)
        for c in found.classes
    ]
    title = f"3D boxes: AP by distance on the ground, mean {_number(found.primary)}; errors of those within 2 m"
    header = ("class", "AP 0.5 m", "1 m", "2 m", "4 m", "place m", "size 1-IoU", "heading rad", "boxes")
    output.show_table(title, header, rows)


def _pose(found: Any) -> None:
    """Print the scores of people's joints; the JSON has the same."""
    scores = (found.ap, found.ap50, found.ap75, found.ar, found.swapped_ap, found.swapped_ap50, *found.pck.values())
    header = ("people", "OKS AP", "AP50", "AP75", "AR", "AP swapped", "AP50 swapped",
              *(f"PCK {share:g}" for share in found.pck), "error px")  # fmt: skip
    row = (f"{found.num_matched} of {found.num_people} found", *map(_number, scores), _number(found.mpjpe_px, ".1f"))
    output.show_table(f"pose, {found.joint_set} joints; swapped: left and right as fits better", header, [row])


def _classes(card: "EvaluationReport", title: str) -> None:
    """Print the scores of a classifier, and what each class was most often taken for; the JSON holds all counts."""
    found: Any = next(iter(card.scores.values())).tasks["classify"]
    rows = [(name.replace("_", " "), _number(value)) for name, value in found.rows().items()]
    output.show_table(title, ("what", "value"), [*rows, ("trials", found.num_trials), ("windows", found.num_windows)])
    table = []
    for k, name in enumerate(found.class_names):
        wrong = found.confusion[k].copy()
        wrong[k] = 0
        mostly = f"{found.class_names[int(wrong.argmax())]} ({wrong.max()})" if wrong.any() else "-"
        table.append((name, int(found.confusion[k, k]), int(found.confusion[k].sum()), mostly))
    output.show_table("trials by class", ("is", "right", "of", "most often taken for"), table)


def _rates(card: "EvaluationReport") -> None:
    rates = card.rates.per_layer()
    what = "firing rate" if card.spiking else "share of non-zero outputs (no spikes: an ANN counterpart)"
    span = f"layers {min(rates.values()):.2%} to {max(rates.values()):.2%}"
    output.show_text(f"{what}: {card.rates.overall():.2%} ({span})")
    if card.rates.silent():
        output.show_text(f"silent layers: {', '.join(card.rates.silent())}")


def confusion(card: "EvaluationReport") -> None:
    """Print what boxes were detected as, at the threshold that users see; nothing of a classifier."""
    if "classify" in card.predictions.tasks:
        return
    table = card.confusion.to_dict()
    rows = [(name, *row) for name, row in zip(table["rows"], table["counts"], strict=True)]
    protocol = next(iter(card.scores))
    title = f"boxes (rows) and what they were detected as, score at least {card.min_score:g}, protocol {protocol}"
    output.show_table(title, ("is", *table["columns"]), rows)


def exported(report: "Report | NirReport") -> None:
    """Print what the check of an exported file found."""
    found = dataclasses.asdict(report)
    if found.get("ap") is not None:
        found["ap"] = dict(zip(("of the network", "of the file"), found["ap"], strict=True))
    output.show_table("Check", ("what", "found"), output.flat_rows(found), words=2)


def comparison(compared: "Compared") -> None:
    """Print two detectors side by side, and whether they differ."""
    first, second = compared.sides
    rows = [(name, _figure(a), _figure(b), _signed(a - b)) for name, a, b in compared.rows()]
    score = compared.scores[0]
    title = (
        f"{counted(score.num_truth, 'box')} at {counted(score.num_instants, 'timestamp')}, protocol {score.protocol}"
    )
    output.show_table(title, ("", first.name, second.name, "difference"), rows)
    output.show_text(
        f"AP {compared.difference.describe()}, by drawing "
        f"{counted(compared.difference.num_recordings, 'recording')} again and "
        "again\none training run of each was scored: how much another seed changes is not in this interval"
    )


def _figure(value: float) -> str:
    return "-" if value != value else f"{value:.0f}" if value == int(value) and value > 1 else f"{value:.3f}"


def _signed(value: float) -> str:
    return "-" if value != value else f"{value:+.0f}" if value == int(value) and value else f"{value:+.3f}"


def corruptions(result: "Robustness") -> None:
    """Print AP and firing rate under every corruption."""
    rows = []
    for name in result.names():
        found = [f for f in result.faults if f.fault.name == name]
        rows.append((name, "AP", *(_number(f.score.ap) for f in found), _number(result.mean_retention(name), ".0%")))
        rows.append(("", "firing rate", *(f"{f.firing_rate:.1%}" for f in found), ""))
    severities = sorted({f.fault.severity for f in result.faults})
    title = f"{result.split} under corruptions, {result.clean.protocol}: clean AP {_number(result.clean.ap)}"
    output.show_table(title, ("corruption", "", *map(str, severities), "AP kept"), rows, words=2)
    worst = result.most_active()
    output.show_text(
        f"AP kept overall: {_number(result.mean_retention(), '.0%')}; most active under {worst.fault.name}, severity "
        f"{worst.fault.severity}: firing rate {worst.firing_rate:.1%}, {_number(worst.firing_ratio, '.2f')} x clean"
    )


def _number(value: float, form: str = ".3f") -> str:
    return "-" if value != value else format(value, form)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
