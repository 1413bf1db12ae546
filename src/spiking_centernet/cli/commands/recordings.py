"""Commands around recordings: simulate, describe, convert."""

from fractions import Fraction
from pathlib import Path
from typing import Literal

from spiking_centernet.cli import output, tables
from spiking_centernet.cli.values import (
    CameraProfile,
    FurtherLabels,
    LabelFormat,
    Milliseconds,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Size,
    World,
    read_size,
)


def simulate(
    out: Path,
    *,
    seed: NonNegativeInt = 0,
    train: NonNegativeInt = 60,
    val: NonNegativeInt = 12,
    test: NonNegativeInt = 12,
    duration_s: PositiveFloat = 8.0,
    train_duration_s: PositiveFloat | None = None,
    size: Size = "304x240",
    workers: PositiveInt | None = None,
    executor: Literal["local", "ray", "slurm"] = "local",
    threshold_scale: PositiveFloat = 1.0,
    light: Literal["any", "day", "night"] = "any",
    rain_mm_h: NonNegativeFloat = 0.0,
    flicker_hz: NonNegativeFloat = 0.0,
    world: World = "roads",
    profile: CameraProfile = "any",
    labels: list[FurtherLabels] = [],  # noqa: B006
    frames_per_window: PositiveInt = 1,
    color: bool = False,
    json: bool = False,
) -> None:
    """Simulate a labeled data set in GEN1's layout.

    Args:
        out: folder to make or to continue
        seed: decides everything
        train: training clips
        val: validation clips
        test: test clips
        duration_s: length of each clip in seconds
        train_duration_s: length of each training clip; null: as the others
        size: of the sensor in pixels
        workers: processes; null: one per core
        executor: local processes, or a cluster
        threshold_scale: factor on the sensor's contrast thresholds
        light: all scenes, or only those by day or by night
        rain_mm_h: rain in millimeters an hour
        flicker_hz: frequency at which all light flickers
        world: roads; stops: a fixed camera before which traffic stands still now and then; wide: any place,
            hand-held to fixed, any camera; close: wide from nearby, people and cars fill the frame
        profile: event camera of the wide and the close world
        labels: beside the boxes, one or both; objects: 3D boxes, joints and the camera; frames: pictures
        frames_per_window: with --labels frames: pictures in the 100 ms before a label, its own included
        color: with --labels frames: colored pictures
        json: print the summary as one JSON document

    Example:
        scn simulate roads --seed 0 --train 60 --val 12 --test 12
    """
    from spiking_centernet.simulate.conditions import Condition
    from spiking_centernet.simulate.dataset import Clips
    from spiking_centernet.simulate.dataset import simulate as simulate_dataset
    from spiking_centernet.simulate.statistics import summarize
    from spiking_centernet.utils.executors import Executor

    simulate_dataset(
        out, seed=seed, duration_s=duration_s, train_duration_s=train_duration_s, workers=workers,
        size_hw=read_size(size), clips=Clips(train=train, val=val, test=test),
        world=world, profile=profile, labels=labels,
        frames_per_window=frames_per_window, color=color,
        condition=Condition(
            threshold_scale=threshold_scale, light=light, rain_mm_h=rain_mm_h, flicker_hz=flicker_hz,
        ),
        executor=None if executor == "local" else Executor(kind=executor, workers=workers),
    )  # fmt: skip
    splits = summarize(out)
    if json:
        output.write_document({"out": out, "splits": splits})
        return
    rows = [
        (split, s["clips"], f"{s['seconds']:.0f}", f"{s['events']:,}", f"{s['event_rate_mev_s']['mean']:.2f}",
         s["boxes"], *s["boxes_per_class"].values())
        for split, s in splits.items()
    ]  # fmt: skip
    output.show_table(str(out), ("split", "clips", "s", "events", "Mev/s", "boxes", "cars", "pedestrians"), rows)


def info(
    recordings: list[Path],
    *,
    size: Size | None = None,
    columns: str | None = None,
    unit: str | None = None,
    json: bool = False,
) -> None:
    """Describe recordings of any known format.

    Args:
        recordings: event files
        size: of the sensor in pixels; null: as the file says
        columns: order of the columns of text and arrays, such as xypt; null: by their names, or as only one can be
        unit: of the times of text, arrays and HDF5: ns, us, ms or s; null: as only one can be
        json: print one JSON document

    Example:
        scn info drive_td.dat
    """
    from spiking_centernet.data.description import describe

    size_hw = None if size is None else read_size(size)
    descriptions = []
    for path in recordings:
        description = describe(path, size_hw=size_hw, columns=columns, unit=unit)
        descriptions.append(description)
        if not json:
            output.show_text(str(description.path))
            tables.recording(description)
    if json:
        output.write_document({"recordings": descriptions})


def convert(
    source: Path,
    target: Path,
    *,
    to: LabelFormat | None = None,
    classes: list[str] | None = None,
    every_ms: Milliseconds | None = None,
    fps: PositiveFloat | None = None,
    size: Size | None = None,
    columns: str | None = None,
    unit: str | None = None,
    json: bool = False,
) -> None:
    """Convert labels (Prophesee, COCO with keypoints, YOLO, MOT, KITTI), or a recording to DAT.

    Args:
        source: box file, COCO JSON, folder of YOLO or KITTI labels, MOT text, or a recording; with --to kitti or ncars
            the folder of a split, which needs objects and cameras, or whose cars are cut out
        target: what to write; its suffix decides the format, without one it is a folder for YOLO
        to: the format, whatever the suffix
        classes: names, where the source has numbers only
        every_ms: milliseconds between pictures without timestamps
        fps: pictures a second instead, for example 30 or 29.97
        size: of the sensor in pixels
        columns: order of the columns of a recording as text or array, such as xypt
        unit: of the times of such a recording: ns, us, ms or s
        json: print one JSON document

    Example:
        scn convert drive_bbox.npy drive.json --size 304x240
    """
    from spiking_centernet.data.convert import convert_file

    conversion = convert_file(
        source, target, to=to, size_hw=None if size is None else read_size(size), columns=columns, unit=unit,
        classes=classes,
        every_us=None if every_ms is None else Fraction(str(every_ms)) * 1000, fps=fps,
    )  # fmt: skip
    if json:
        output.write_document({"source": source, "target": conversion.path, "source_holds": conversion.found,
                               "lost": conversion.lost})  # fmt: skip
        return
    output.show_text(f"read {conversion.found}\nwrote {conversion.path}")
    for what in conversion.lost or ("nothing",):
        output.show_text(f"lost: {what}")
