"""Commands that detect: in a recording, live, and in the tour."""

import contextlib
import functools
import logging
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spiking_centernet.cli import output, tables
from spiking_centernet.cli.commands.models import load_detector, open_source, split_inputs
from spiking_centernet.cli.values import (
    Device,
    EnginePrecision,
    Milliseconds,
    ModeWord,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SaveFormat,
    ScaleWord,
    Size,
    Sparse,
    Speed,
    UnitFloat,
    microseconds,
    read_scale,
    read_size,
)
from spiking_centernet.errors import ConfigError
from spiking_centernet.utils.progress import Progress
from spiking_centernet.utils.text import counted

LOG = logging.getLogger(__name__)

if TYPE_CHECKING:  # the command starts without torch
    from spiking_centernet.calibration import Calibration
    from spiking_centernet.model import AnyDetector, DetectorConfig
    from spiking_centernet.structures import VoxelSpec


def demo(
    *,
    out: Path = Path("demo"),
    model: str = "small-one-step",
    seed: NonNegativeInt = 2026,
    clips: PositiveInt = 4,
    duration_s: PositiveFloat = 6.0,
    workers: PositiveInt | None = None,
    json: bool = False,
) -> None:
    """Simulate a drive, detect, score, detect in a real recording, write a page.

    Args:
        out: folder for everything
        model: bundled name, weight file, run folder or hub id
        seed: of the simulated clips
        clips: how many clips to simulate
        duration_s: length of each clip in seconds
        workers: processes that simulate; null: one per core
        json: print the results as one JSON document

    Example:
        scn demo --out demo
    """
    from spiking_centernet.experiments.demo import run_demo

    run = run_demo(out, model=model, seed=seed, clips=clips, duration_s=duration_s, workers=workers)
    if json:
        output.write_document({"page": run.page, "files": run.files, "seconds": run.seconds, **run.card.to_dict(),
                               "real_recording": run.real})  # fmt: skip
        return
    times = [*run.seconds.items(), ("together", f"{sum(run.seconds.values()):.1f}")]
    output.show_table("Time", ("part", "seconds"), times)
    output.show_table("Files", ("what", "where"), list(run.files.items()), words=2)
    tables.scores(run.card)
    real = run.real
    output.show_text(
        f"real recording: {real.num_found} of {counted(real.num_truth, 'hand-drawn box')} found, "
        f"{counted(real.num_false, 'other box')}\n"
        f"open {run.page}"
    )


def detect(
    inputs: list[str],
    *,
    model: str | None = None,
    save: list[SaveFormat] = ["mp4", "json", "npy"],  # noqa: B006
    out: Path = Path("."),
    every_ms: Milliseconds = 50.0,
    min_score: UnitFloat | None = None,
    scale: list[ScaleWord] = ["auto"],  # noqa: B006
    window_events: NonNegativeInt = 0,
    least_ms: Milliseconds = 10.0,
    most_ms: Milliseconds | None = None,
    whole_windows: bool = False,
    speed: Speed = 1.0,
    shown_ms: Milliseconds = 40.0,
    track: bool = False,
    smooth: bool = False,
    focal_px: PositiveFloat | None = None,
    pitch_deg: float = 0.0,
    camera_height_m: PositiveFloat | None = None,
    size: Size | None = None,
    columns: str | None = None,
    unit: str | None = None,
    device: Device = "cpu",
    precision: EnginePrecision | None = None,
    sparse: Sparse = "auto",
    json: bool = False,
) -> None:
    """Detect in recordings; write video, JSON, box file.

    Args:
        inputs: a model (bundled name, weight file, run folder, hub id; small-wide-one-step if none is named) and
            recordings, folders or patterns of any sensor size; "sample" comes with the package. A network of pictures
            takes pictures and folders of them, of which mp4 is the annotated picture
        model: the model, if it is not among the inputs
        save: what to write; csv holds tracks, html is a page to look through
        out: folder for the files
        every_ms: milliseconds between detections
        min_score: null: the threshold chosen in training
        scale: resolution of the events over the sensor's: 0.5 is half; several or pyramid (1, 1/2, 1/4) are merged and
            cost the sum of their squares; auto goes by the sensor
        window_events: each window reaches back until it holds this many events; 0 for the network's fixed length
        least_ms: with --window_events: the shortest window
        most_ms: with --window_events: the longest window; null: the network's
        whole_windows: do not shorten windows in whose beginning there is no event, as at the start of a recording
        speed: of the video over real time; 0.1 is slower
        shown_ms: milliseconds of events in a frame
        track: number the objects; keep only what belongs to a track
        smooth: filter boxes and scores over time along every object, so that boxes shake less
        focal_px: the camera's focal length in pixels, for 3D boxes; null: NAME_camera.npy next to the recording, or
            KITTI's calib next to the picture
        pitch_deg: with --focal_px: degrees that the camera looks down
        camera_height_m: with --focal_px: meters of the camera above the level ground on which 3D boxes stand
        size: of the sensor in pixels; null: as the file says
        columns: order of the columns of text and arrays, such as xypt; null: by their names, or as only one can be
        unit: of the times of text, arrays and HDF5: ns, us, ms or s; null: as only one can be
        device: what computes: cpu, cuda, cuda:1
        precision: compile for this CPU; null: do not
        sparse: with --precision: compute from active inputs
        json: print one JSON document

    Example:
        scn detect nano drive_td.dat --save mp4 json --every_ms 20 --speed 0.5
    """
    from spiking_centernet.data import open as open_recording
    from spiking_centernet.inference.inputs import folders_for, recording_paths
    from spiking_centernet.inference.recordings import write_detections

    name, sources = split_inputs(inputs, model)
    detector = load_detector(name, device=device, precision=precision, sparse=sparse)
    _check_placing(detector.config, camera_height_m)
    if detector.config.voxels.takes_frames:
        documents = _detect_in_pictures(
            detector, sources, out, save=list(save), min_score=min_score, quiet=json,
            camera=functools.partial(_camera, focal_px, pitch_deg, camera_height_m),
        )  # fmt: skip
        if json:
            output.write_document(documents[0] if len(documents) == 1 else {"pictures": documents})
        return
    paths = [path for source in sources for path in recording_paths(source)]
    config = detector.config
    threshold = config.deployment.score_threshold if min_score is None else min_score
    documents = []
    for path, folder in zip(paths, folders_for(paths, out), strict=True):
        recording = open_recording(path, size_hw=None if size is None else read_size(size), columns=columns, unit=unit)
        run = write_detections(
            detector, recording, folder, camera=_camera(focal_px, pitch_deg, camera_height_m, recording.size_hw),
            save=save, track=track, smooth=smooth, scale=read_scale(scale),
            voxels=_windows(config.voxels, window_events, least_ms, most_ms, whole_windows),
            every_us=microseconds(every_ms), min_score=min_score, speed=speed, shown_us=microseconds(shown_ms),
        )  # fmt: skip
        num_boxes = sum(len(found) for found in run.detections)
        ids = {number for found in run.detections for number in found.track_ids.tolist() if number >= 0}
        documents.append({
            "recording": path, "boxes": num_boxes, "timestamps": len(run.detections),
            "tracks": len(ids) if track else None, "scale": list(run.scaling.scales), **run.coverage.to_dict(),
            "files": run.paths,
        })  # fmt: skip
        if not json:
            where = f"{path}: " if len(paths) > 1 else ""
            tracks = f", {counted(len(ids), 'track')}" if track else ""
            if run.scaling.scales != (1.0,):
                output.show_text(f"{where}{run.scaling}")
            if config.classifies:
                named = Counter(config.classes[found.labels[0]] for found in run.detections if len(found))
                counts = ", ".join(f"{name} at {count}" for name, count in named.most_common()) or "no class"
                output.show_text(f"{where}{counts} of {counted(len(run.detections), 'timestamp')}")
                tables.files(run.paths.values())
                continue
            at = counted(len(run.detections), "timestamp")
            output.show_text(f"{where}{counted(num_boxes, 'box')} at {at}{tracks}")
            for text in run.coverage.messages(
                num_boxes=num_boxes, min_score=threshold, num_scales=len(run.scaling.scales)
            ):
                output.show_text(f"{where}{text}")
            tables.files(run.paths.values())
    if json:
        output.write_document(documents[0] if len(paths) == 1 else {"recordings": documents})


def _detect_in_pictures(
    detector: "AnyDetector",
    sources: list[str],
    out: Path,
    *,
    save: list[str],
    min_score: float | None,
    quiet: bool,
    camera: Callable[[tuple[int, int]], "Calibration | None"],
) -> list[dict[str, Any]]:
    """Detect in pictures and write what was found; return a document per picture."""
    from spiking_centernet.data.frames import FrameSource, image_paths
    from spiking_centernet.inference.inputs import folders_for
    from spiking_centernet.inference.pictures import saved_kinds
    from spiking_centernet.inference.predictor import predict as detect_in

    kinds = saved_kinds(save)
    if detector.config.voxels.mode == "difference":
        sources_of = [Path(source) for source in sources]
    else:
        sources_of = [path for source in sources for path in image_paths(source)]
    documents = []
    for path, folder in zip(sources_of, folders_for(sources_of, out), strict=True):
        view = camera(FrameSource(path).size_hw)
        results = detect_in(path, detector, min_score=min_score, stream=True, camera=view)
        for result in results:
            at = f"_{result.t_us}us" if result.t_us else ""
            stem = folder / f"{path.stem}{at}_detections"
            files = [result.save(stem.with_name(stem.name + ("_bbox" if k == "npy" else "") + f".{k}")) for k in kinds]
            documents.append({"picture": path, "boxes": len(result), "t_us": result.t_us, "files": files})
            if not quiet:
                output.show_text(f"{path}{at}: {counted(len(result), 'box')}")
                tables.files(files)
    return documents


@functools.wraps(detect)
def predict(*arguments: Any, **options: Any) -> None:
    """Do what detect does, under the name that other detectors have for it."""
    detect(*arguments, **options)


predict.__doc__ = (
    (detect.__doc__ or "").replace("Detect in", "The same as detect: detect in", 1).replace("scn detect", "scn predict")
)


def _check_placing(config: "DetectorConfig", height_m: float | None) -> None:
    """Refuse the height of a camera that would change nothing."""
    if height_m is not None and ("detect3d" not in config.tasks or config.head.placing == "free"):
        why = "place 3D boxes without it (head.placing: free)" if "detect3d" in config.tasks else "give no 3D boxes"
        raise ConfigError(
            f"--camera_height_m: these weights {why}; leave it out, or take weights with head.placing: ground, such as "
            "small-one-step-3d-pose"
        )


def _camera(
    focal_px: float | None, pitch_deg: float, height_m: float | None, size_hw: tuple[int, int]
) -> "Calibration | None":
    """Return the camera that the options describe, None where they describe none."""
    if focal_px is None:
        for option, is_given in (("--pitch_deg", pitch_deg), ("--camera_height_m", height_m)):
            if is_given:
                raise ConfigError(f"{option} needs the focal length; give --focal_px, too")
        return None
    from spiking_centernet.data.cameras import pitched_camera

    return pitched_camera(focal_px, pitch_deg, size_hw, height_m=height_m)


def _windows(
    spec: "VoxelSpec", num_events: int, least_ms: float, most_ms: float | None, whole: bool
) -> "VoxelSpec | None":
    """Return how windows are cut: counting events, or whole; None as the network wants them."""
    if not num_events:
        if most_ms is not None:
            raise ConfigError("--most_ms bounds windows that count events; give --window_events, too")
        return replace(spec, fit=False) if whole else None
    most_us = spec.window_us if most_ms is None else microseconds(most_ms)
    return replace(spec, num_events=num_events, least_us=microseconds(least_ms), window_us=most_us, fit=not whole)


def stream(
    model: str,
    source: str,
    *,
    mode: ModeWord = "auto",
    speed: Speed = 1.0,
    every_ms: Milliseconds | None = None,
    policy: Literal["wait", "drop", "merge"] = "drop",
    max_waiting: PositiveInt = 4,
    min_score: UnitFloat | None = None,
    readout_steps: PositiveInt | None = None,
    scale: ScaleWord = "auto",
    window_events: NonNegativeInt = 0,
    least_ms: Milliseconds = 10.0,
    most_ms: Milliseconds | None = None,
    whole_windows: bool = False,
    smooth: bool = False,
    focal_px: PositiveFloat | None = None,
    pitch_deg: float = 0.0,
    camera_height_m: PositiveFloat | None = None,
    size: Size | None = None,
    columns: str | None = None,
    unit: str | None = None,
    timestamps: bool = False,
    save: Path | None = None,
) -> None:
    """Detect live in a replay, a socket or a camera; write JSON lines.

    Args:
        model: bundled name, weight file, run folder or hub id
        source: a recording to replay, udp:HOST:PORT, or camera
        mode: windowed: each result from zero-initialized state; stateful: step by step; auto: stateful with a memory
        speed: of the replay over real time
        every_ms: milliseconds between results; null: 50, or every step when stateful
        policy: when events come faster than results
        max_waiting: windows that may wait
        min_score: null: the threshold chosen in training
        readout_steps: steps that a stateful result averages
        scale: resolution of the events over the sensor's: 0.5 is half; auto goes by the sensor
        window_events: each window reaches back until it holds this many events; 0 for the network's fixed length
        least_ms: with --window_events: the shortest window
        most_ms: with --window_events: the longest window; null: the network's
        whole_windows: do not shorten windows in whose beginning there is no event, as at the start of a recording
        smooth: filter boxes and scores over time along every object, so that boxes shake less
        focal_px: the camera's focal length in pixels, for 3D boxes; null: NAME_camera.npy next to a recording
        pitch_deg: with --focal_px: degrees that the camera looks down
        camera_height_m: with --focal_px: meters of the camera above the level ground on which 3D boxes stand
        size: of the sensor in pixels; udp needs it
        columns: order of the columns of text and arrays, such as xypt; null: by their names, or as only one can be
        unit: of the times of text, arrays and HDF5: ns, us, ms or s; null: as only one can be
        timestamps: the datagrams carry times
        save: file for the JSON lines; null: standard output

    Example:
        scn stream nano drive_td.dat --mode stateful --speed 1 --save found.jsonl
    """
    from spiking_centernet.data.cameras import camera_beside
    from spiking_centernet.inference import Summary, as_line
    from spiking_centernet.inference import stream as stream_detections
    from spiking_centernet.model.scaling import choose_scaling

    detector = load_detector(model)
    _check_placing(detector.config, camera_height_m)
    size_hw = None if size is None else read_size(size)
    with contextlib.ExitStack() as stack:
        events = stack.enter_context(
            open_source(source, speed=speed, size_hw=size_hw, columns=columns, unit=unit, timestamps=timestamps)
        )
        scaling = choose_scaling("auto" if scale == "auto" else read_scale([scale]), events.size_hw, detector.config)
        if scaling.scales != (1.0,):
            sys.stderr.write(f"{scaling}\n")
        camera = _camera(focal_px, pitch_deg, camera_height_m, events.size_hw)
        answers = stream_detections(
            detector, events, scale=scaling.scales, mode=mode,
            voxels=_windows(detector.config.voxels, window_events, least_ms, most_ms, whole_windows),
            every_us=None if every_ms is None else microseconds(every_ms),
            min_score=min_score, readout_steps=readout_steps, policy=policy, max_waiting=max_waiting,
            camera=camera_beside(source) if camera is None else camera, smooth=smooth,
        )  # fmt: skip
        summary = Summary()
        if save is not None:
            save.parent.mkdir(parents=True, exist_ok=True)
        out = sys.stdout if save is None else stack.enter_context(save.open("w", encoding="utf-8"))
        # On a terminal the results themselves show how far it is.
        bar = None if out.isatty() else stack.enter_context(Progress("waiting for events"))
        with contextlib.suppress(KeyboardInterrupt):
            for answer in summary.watch(answers):
                # Line by line, so that a reader of the pipe gets each result at once.
                line = as_line(answer, detector.config.classes, classifies=detector.config.classifies)
                print(line, file=out, flush=True)
                if bar is not None:
                    bar.advance(
                        what=f"{answer.t_us * 1e-6:.2f} s  boxes {len(answer)}  latency {answer.latency_ms:.1f} ms  "
                        f"lag {answer.lag_ms:.0f} ms  skipped {summary.num_skipped}"
                    )
    text = ", ".join((
        counted(summary.num_answers, "answer"), counted(summary.num_boxes, "box"),
        f"{counted(summary.num_skipped, 'window')} skipped",
    ))  # fmt: skip
    if summary.num_answers:
        text += (
            f", {counted(summary.num_late, 'late event')}; latency {summary.latency_ms(50):.1f} ms (95%: "
            f"{summary.latency_ms(95):.1f} ms), lag at most {summary.worst_lag_ms:.0f} ms"
        )
    LOG.info("%s", text)
