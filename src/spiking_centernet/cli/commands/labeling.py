"""The command that makes labels for a recording, and takes them back when they were corrected."""

from pathlib import Path
from typing import Literal

from spiking_centernet.cli import output, tables
from spiking_centernet.cli.commands.models import load_detector
from spiking_centernet.cli.values import (
    DEFAULT_MODEL,
    Milliseconds,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ScaleWord,
    Size,
    UnitFloat,
    microseconds,
    read_scale,
    read_size,
)
from spiking_centernet.utils.text import counted


def label(
    recording: Path,
    out: Path,
    *,
    model: str = DEFAULT_MODEL,
    motion: bool = False,
    name: str = "object",
    split: Literal["train", "val", "test"] | None = None,
    every_ms: Milliseconds = 100.0,
    start_s: NonNegativeFloat = 0.0,
    stop_s: PositiveFloat | None = None,
    min_score: UnitFloat | None = None,
    scale: list[ScaleWord] = ["auto"],  # noqa: B006
    min_side: PositiveInt = 12,
    track: bool = False,
    no_pictures: bool = False,
    size: Size | None = None,
    columns: str | None = None,
    unit: str | None = None,
    json: bool = False,
) -> None:
    """Label a recording by a detector or by motion, for correction by hand; take the corrected labels back.

    Writes OUT/SPLIT/NAME_td.dat and NAME_bbox.npy, which training reads, and OUT/coco/NAME_SPLIT: COCO JSON with a
    picture for every timestamp, which any COCO tool opens. Given the corrected JSON instead of a recording, it replaces
    the boxes of its recording in OUT: scn label corrected.json mine

    Args:
        recording: a recording, or COCO JSON of pictures that this command wrote
        out: folder to make or to add to
        model: bundled name, weight file, run folder or hub id
        motion: box what moves before a fixed camera instead; needs no model
        name: class of what moves
        split: of the folder; null: train, or where the corrected recording lies
        every_ms: milliseconds between labeled timestamps
        start_s: label after this many seconds
        stop_s: label up to this many seconds; null: to the end
        min_score: null: the threshold chosen in training
        scale: resolution of the events over the sensor's, as of scn detect
        min_side: shortest side in pixels of a moving object's box
        track: number the objects; keep only what belongs to a track
        no_pictures: write neither COCO JSON nor pictures
        size: of the sensor in pixels; null: as the file says
        columns: order of the columns of text and arrays, such as xypt; null: by their names, or as only one can be
        unit: of the times of text, arrays and HDF5: ns, us, ms or s; null: as only one can be
        json: print one JSON document

    Example:
        scn label drive_td.dat mine --motion --name car --stop_s 30
    """
    if recording.suffix.lower() == ".json":
        from spiking_centernet.data.convert.corrections import take_back

        path, labels = take_back(recording, out, split=split)
        files = [path, out / "classes.txt"]
    else:
        from spiking_centernet.data import open as open_recording
        from spiking_centernet.data.motion import MotionSettings
        from spiking_centernet.inference import labeling

        opened = open_recording(
            recording, size_hw=None if size is None else read_size(size), columns=columns, unit=unit
        )
        every_us = microseconds(every_ms)
        stop_us = None if stop_s is None else round(stop_s * 1e6)
        stops_us = labeling.label_stops_us(opened, every_us, round(start_s * 1e6), stop_us)
        if motion:
            labels = labeling.boxes_by_motion(
                opened,
                stops_us,
                every_us=every_us,
                name=name,
                settings=MotionSettings(min_side_px=min_side),
                track=track,
            )
        else:
            labels = labeling.boxes_by_model(
                load_detector(model), opened, stops_us, every_us=every_us, min_score=min_score, scale=read_scale(scale),
                track=track,
            )  # fmt: skip
        written = labeling.write_labels(opened, labels, out, split=split or "train", pictures=not no_pictures)
        files = [path for path in (written.events, written.boxes, written.classes, written.coco) if path is not None]
    if json:
        output.write_document({
            "boxes": len(labels.boxes), "timestamps": len(labels.timestamps_us),
            "timestamps_without_box": labels.num_empty, "classes": labels.classes, "files": files,
        })  # fmt: skip
        return
    output.show_text(
        f"{counted(len(labels.boxes), 'box')} of {', '.join(labels.classes)} at "
        f"{counted(len(labels.timestamps_us), 'timestamp')}, "
        f"{labels.num_empty} of them without a box (training reads timestamps with a box only)"
    )
    tables.files(files)
