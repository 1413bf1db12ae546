"""Commands that measure a detector on a data set: accuracy and cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiking_centernet.cli import output, tables
from spiking_centernet.cli.commands.models import load_detector, load_network
from spiking_centernet.cli.values import (
    Corruption,
    Device,
    EnginePrecision,
    ModeWord,
    NonNegativeFloat,
    PositiveInt,
    Protocol,
    ScaleWord,
    Sparse,
    read_scale,
)
from spiking_centernet.errors import ConfigError

if TYPE_CHECKING:
    from spiking_centernet.data import FolderDataset
    from spiking_centernet.evaluation.comparison import Side
    from spiking_centernet.evaluation.energy.report import Costs
    from spiking_centernet.model import Detector


def val(
    model: str,
    *,
    data: str,
    split: str = "val",
    protocol: list[Protocol] = [],  # noqa: B006
    save: Path | None = None,
    corrupt: list[Corruption] = [],  # noqa: B006
    scale: list[ScaleWord] = ["auto"],  # noqa: B006
    whole_windows: bool = False,
    mode: ModeWord = "auto",
    smooth: bool = False,
    batch_size: PositiveInt = 8,
    device: Device = "cpu",
    precision: EnginePrecision | None = None,
    sparse: Sparse = "auto",
    json: bool = False,
) -> None:
    """Score a detector on a data set under named protocols.

    Args:
        model: bundled name, weight file, run folder or hub id
        data: folder that holds the splits
        split: folder of the split
        protocol: one or several, or all; none given: prophesee, for pictures none
        save: folder for the score, the plots and a mosaic
        corrupt: score under sensor corruptions too: one or several, or all
        scale: resolution of the events over the sensor's: 0.5 is half; several or pyramid (1, 1/2, 1/4) are merged;
            auto goes by the sensor's size and the training's. Boxes are scored in the sensor's pixels
        whole_windows: do not shorten windows in whose beginning there is no event, as detect does
        mode: windowed: each labeled frame's window on its own, from zero-initialized state; stateful: clip by clip, the
            state carried from frame to frame, each step computed once; auto: stateful with a memory
        smooth: detect in the half second before each labeled frame, too, and filter boxes and scores over it
        batch_size: windows at a time, or clips
        device: what computes: cpu, cuda, cuda:1
        precision: compile for this CPU; null: do not
        sparse: with --precision: compute from active inputs
        json: print the scores as one JSON document

    Example:
        scn val nano --data roads --split test --protocol all --save results/nano
    """
    detector = load_detector(model, device=device, precision=precision, sparse=sparse)

    from spiking_centernet.evaluation import report, robustness
    from spiking_centernet.model.weights import sha256

    files: list[Path] = []
    card = report.score(
        detector,
        data,
        split=split,
        protocols=protocol,
        batch_size=batch_size,
        scale=read_scale(scale),
        fit=not whole_windows,
        mode=mode,
        smooth=smooth,
    )
    about = {"model": model, "data": data}
    robust = {}
    if not json:
        if card.scaling.scales != (1.0,):
            output.show_text(str(card.scaling))
        tables.scores(card)
        tables.confusion(card)
    if save is not None:
        notes = about | {"sha256": sha256(model), "precision": precision}
        files += report.save(card, detector, save, notes=notes).values()
    if corrupt:
        result = robustness.score_corruptions(detector, data, card, names=corrupt, batch_size=batch_size)
        robust = {"robustness": result.to_dict()}
        if not json:
            tables.corruptions(result)
        if save is not None:
            files += robustness.save(result, save, notes=about).values()
    if json:
        output.write_document({**about, **card.to_dict(), **robust, "files": files})
    else:
        tables.files(files)


def compare(
    first: str,
    second: str,
    *,
    data: str | None = None,
    split: str = "val",
    protocol: Protocol = "prophesee",
    out: Path | None = None,
    scale: list[ScaleWord] = ["auto"],  # noqa: B006
    mode: ModeWord = "auto",
    batch_size: PositiveInt = 8,
    device: Device = "cpu",
    json: bool = False,
) -> None:
    """Compare two detectors on the same recordings: scores, significance, pictures where they differ.

    Args:
        first: weights (bundled name, file, run folder, hub id), or a folder that val --save wrote
        second: the same of the other
        data: folder that holds the splits; weights need it, and so do the pictures
        split: folder of the split
        protocol: which boxes count
        out: folder for comparison.json and differences.png
        scale: resolution of the events over the sensor's, as val takes it
        mode: windowed or stateful, as val takes it; to compare the two, save each with val
        batch_size: windows at a time, or clips
        device: what computes: cpu, cuda, cuda:1
        json: print one JSON document

    Example:
        scn compare small nano --data roads --split test --out results/small_nano
    """
    from spiking_centernet.evaluation import comparison

    if protocol == "all":
        raise ConfigError("--protocol: compare under one protocol at a time")
    predicting = {"scale": read_scale(scale), "mode": mode, "batch_size": batch_size}
    sides, dataset = _sides(first, second, data, split, device, predicting)
    compared = comparison.compare_sides(*sides, protocol=protocol)
    files = [] if out is None else list(comparison.save_comparison(compared, out, dataset=dataset).values())
    if json:
        output.write_document({**compared.to_dict(), "files": files})
        return
    tables.comparison(compared)
    tables.files(files)


def _sides(
    first: str, second: str, data: str | None, split: str, device: str, predicting: dict[str, Any]
) -> tuple[list["Side"], "FolderDataset | None"]:
    """Return what two words stand for, and the split if its folder was given."""
    from spiking_centernet.evaluation.comparison import Side, side_of_folder
    from spiking_centernet.evaluation.prediction import dataset_for, predict

    sides, dataset = [], None
    for name in (first, second):
        if (side := side_of_folder(name)) is not None:
            sides.append(side)
            continue
        detector = load_network(name, device=device)
        if data is None:
            raise ConfigError(f"{name} are weights: give --data, the folder to score them on")
        dataset = dataset_for(detector, data, split)
        predictions = predict(detector, dataset, **predicting)
        sides.append(Side(name, predictions, detector.config.deployment.score_threshold))
    if dataset is None and data is not None:
        from spiking_centernet.data import FolderDataset

        dataset = FolderDataset(data, split, classes=sides[0].predictions.class_names)
    return sides, dataset


def energy(
    model: str,
    *,
    data: str,
    split: str = "test",
    report: Path | None = None,
    curve: Path | None = None,
    mode: ModeWord = "auto",
    measure_s: NonNegativeFloat = 60.0,
    batch_size: PositiveInt = 4,
    device: Device = "cpu",
    json: bool = False,
) -> None:
    """Count operations, firing rates and energy of a detector; measure joules where the machine can.

    Args:
        model: bundled name, weight file, run folder or hub id
        data: folder that holds the splits
        split: folder of the split
        report: folder for a page and the JSON
        curve: JSON of a firing rate study to show on the page
        measure_s: most seconds to measure joules for; 0: do not
        mode: windowed: the window of each labeled frame, from zero-initialized state; stateful: every recording whole,
            the state carried from answer to answer, as in a stream; auto: stateful with a memory
        batch_size: windows at a time
        device: what computes, and whose joules are measured: cpu, cuda, cuda:1
        json: print everything as one JSON document

    Example:
        scn energy nano --data roads --split test --report costs
    """
    from spiking_centernet.evaluation.energy import published, what_follows
    from spiking_centernet.evaluation.energy import report as energy_report
    from spiking_centernet.experiments import energy_page

    if curve is not None:
        energy_page.read_study(curve)  # refused before the counting
    detector = load_network(model, device=device)
    costs = energy_report.costs(
        detector, data, split=split, mode=mode, batch_size=batch_size, measure_s=measure_s,
    )  # fmt: skip
    if not json:
        for title, header, rows, words in (*energy_page.tables(costs), energy_page.published_table()):
            output.show_table(title, header, rows, words=words)
        output.show_text(f"{what_follows(published())}\n{costs.verdict}\njoules: {energy_page.joules_in_words(costs)}")
    files = [] if report is None else _write_energy_report(costs, detector, report, model, data, split, curve)
    if json:
        output.write_document({"model": model, "data": data, **costs.to_dict(), "verdict": costs.verdict,
                               "files": files})  # fmt: skip
    else:
        tables.files(files)


def _write_energy_report(
    costs: "Costs", detector: "Detector", out: Path, model: str, data: str, split: str, curve: Path | None
) -> list[Path]:
    from spiking_centernet.data import open as open_recording
    from spiking_centernet.evaluation.energy import report as energy_report
    from spiking_centernet.evaluation.prediction import dataset_for
    from spiking_centernet.experiments import energy_page
    from spiking_centernet.utils.provenance import collect_provenance

    dataset = dataset_for(detector, data, split)
    clip = dataset.recordings[0]
    recording = open_recording(clip.path, size_hw=dataset.size_hw)
    written = energy_report.save(costs, out, notes={"model": model, "data": data})
    page = energy_page.write_page(
        costs, out, model=model, stamp=collect_provenance(),
        clip=(clip.name, energy_report.clip_activity(detector, recording, mode=costs.mode)), curve=curve,
    )  # fmt: skip
    return [written, page]
