"""A detector on a folder of recordings: predictions for every labeled frame, and their score."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from spiking_centernet.data import FolderDataset, Guarded, collate_guarded, raising
from spiking_centernet.data.frames import Letterbox, Placed
from spiking_centernet.data.object_files import num_joints_of
from spiking_centernet.errors import ConfigError, DatasetError, EvaluationError
from spiking_centernet.evaluation.center_distance import evaluate_boxes3d
from spiking_centernet.evaluation.classification import score_classes
from spiking_centernet.evaluation.clips import predict_clips
from spiking_centernet.evaluation.metrics import FrameKey, Protocol, Score, TaskScore, evaluate_boxes, get_protocol
from spiking_centernet.evaluation.moments import FramesAndBefore, smoothed
from spiking_centernet.evaluation.pose_scores import evaluate_pose
from spiking_centernet.model import AnyDetector, DetectorConfig
from spiking_centernet.model.context import Observe
from spiking_centernet.model.scaling import Scale, choose_scaling, detections_of, merge
from spiking_centernet.model.smoothing import check_smoothing
from spiking_centernet.model.stepping import Mode, choose_mode
from spiking_centernet.structures import Batch, Boxes, Detections, Sample
from spiking_centernet.utils.progress import track


@dataclass(frozen=True)
class Predictions:
    """Ground truth and detections of labeled frames, by recording and timestamp in microseconds.

    Attributes:
        truth: the boxes of every labeled frame.
        detections: the detections of every labeled frame.
        size_hw: height and width of the sensor in pixels; (0, 0) without frames. Of pictures of several sizes the
            largest height and width; boxes are in every picture's own pixels.
        class_names: what label 0, 1, ... is called.
        tasks: what was predicted; each is scored.
        pose_labels: of the classes that have joints.
    """

    truth: Mapping[FrameKey, Boxes]
    detections: Mapping[FrameKey, Detections]
    size_hw: tuple[int, int]
    class_names: tuple[str, ...]
    tasks: tuple[str, ...] = ("detect",)
    pose_labels: frozenset[int] = frozenset()

    @cached_property
    def task_scores(self) -> dict[str, TaskScore]:
        """The scores of the tasks besides "detect", by name."""
        scores: dict[str, TaskScore] = {}
        if "detect3d" in self.tasks:
            scores["detect3d"] = evaluate_boxes3d(self.truth, self.detections, class_names=self.class_names)
        if "pose" in self.tasks:
            scores["pose"] = evaluate_pose(self.truth, self.detections, label=self.pose_labels)
        if "classify" in self.tasks:
            scores["classify"] = score_classes(self.truth, self.detections, self.class_names)
        return scores

    def score(self, protocol: str | Protocol = "prophesee", *, tolerance_us: int = 0) -> Score:
        """Return the score under a protocol; see ``evaluate_boxes``.

        Raises:
            ConfigError, EvaluationError: as ``evaluate_boxes``.
        """
        score = evaluate_boxes(
            self.truth, self.detections, size_hw=self.size_hw, protocol=protocol, class_names=self.class_names,
            tolerance_us=tolerance_us,
        )  # fmt: skip
        return replace(score, tasks=self.task_scores) if self.task_scores else score

    def merge(self, others: Iterable["Predictions"]) -> "Predictions":
        """Return these and the others' frames in the order of recordings and timestamps.

        Raises:
            EvaluationError: If a frame occurs twice, or sensors or classes differ.
        """
        parts = [self, *others]
        sizes = {part.size_hw for part in parts if part.size_hw != (0, 0)} or {(0, 0)}
        if not any(t_us for part in parts for _, t_us in part.truth):  # pictures, which may have several sizes
            sizes = {(max(height for height, _ in sizes), max(width for _, width in sizes))}
        if len(sizes) > 1 or any(part.class_names != self.class_names for part in parts):
            raise EvaluationError(
                f"predictions of one sensor and the same classes can be merged, got sizes (height, width) "
                f"{sorted(sizes)} and classes {sorted({part.class_names for part in parts})}; score them one by one"
            )
        truth = {frame: boxes for part in parts for frame, boxes in part.truth.items()}
        detections = {frame: boxes for part in parts for frame, boxes in part.detections.items()}
        if len(truth) != sum(len(part.truth) for part in parts):
            raise EvaluationError("a labeled frame lies in two of the predictions to merge; give each frame once")
        return replace(
            self,
            truth={frame: truth[frame] for frame in sorted(truth)},
            detections={frame: detections[frame] for frame in sorted(detections)},
            size_hw=sizes.pop(),
        )


def dataset_for(
    model: AnyDetector,
    root: str | os.PathLike[str],
    split: str,
    *,
    names: Collection[str] | None = None,
    fit: bool = True,
) -> FolderDataset:
    """Return the split as detection sees it: windows and classes of training, windows fitted to their events.

    Args:
        model: the detector.
        root: folder that holds the splits.
        split: name of the split.
        names: of the recordings to take; None takes all.
        fit: whether windows are fitted to their events, see ``VoxelSpec``.

    Raises:
        DatasetError: the folder does not hold what it should.
    """
    spec = replace(model.config.voxels, fit=fit and model.config.fits_windows)
    return FolderDataset(root, split, spec, classes=model.config.classes, names=names)


def require_task_labels(dataset: FolderDataset, config: DetectorConfig) -> None:
    """Refuse a data set without what the tasks of a network are learned from and scored against, or made for others.

    Args:
        dataset: the labeled frames.
        config: of the network.

    Raises:
        DatasetError: No recording has objects, cameras or joints, or they are another set of joints.
        ConfigError: The network detects and the data have one class per recording, or the other way round.
    """
    if dataset.layout.classifies != config.classifies:
        if config.classifies:
            raise ConfigError(
                f"{dataset.folder}: holds boxes ({dataset.layout.name}), which a network of the task classify cannot "
                "learn; set network.tasks to [detect], or take a layout of whole recordings (ncars, dvs-gesture)"
            )
        raise ConfigError(
            f"{dataset.folder}: has one class a recording ({dataset.layout.name}), not boxes, and the network does "
            f"{', '.join(config.tasks)}; train by recipes/tasks/ncars.yaml or dvs_gesture.yaml, or set "
            "network.tasks: [classify] and decoder.num_blocks: 0"
        )
    if config.classifies:
        return
    objects = [recording.objects for recording in dataset.recordings if recording.objects is not None]
    where = dataset.folder
    remedy = (
        "simulate with --labels objects, lay *_objects.npy and *_camera.npy next to them, or give pictures with COCO's "
        "keypoints or KITTI's labels"
    )
    if set(config.tasks) - {"detect"} and not objects:
        raise DatasetError(f"{where}: no box file has objects next to it; the tasks {config.tasks} need them: {remedy}")
    if "detect3d" in config.tasks and all(one.cameras is None for one in objects):
        raise DatasetError(f"{where}: no recording has a camera next to it; 3D boxes need them: {remedy}")
    if "pose" in config.tasks:
        counts = {num_joints_of(one.rows.dtype) for one in objects} - {0}
        if counts != {len(config.head.joints)}:
            raise DatasetError(
                f"{where}: labels have {' and '.join(map(str, sorted(counts))) or 'no'} joints, the network "
                f"{len(config.head.joints)}; sets are never mapped by guess: set head.joints to those of the data"
            )


def protocol_for(dataset: FolderDataset, name: str | None = None) -> str:
    """Return the protocol that a data set is scored under: as asked for, else "prophesee".

    Of pictures and of recordings with one class each it is "none".

    Raises:
        ConfigError: the protocol leaves out the first labels of a recording, and pictures stand at time 0.
    """
    pictures = dataset.layout.has_pictures
    if name is None or dataset.layout.classifies:
        return "none" if pictures or dataset.layout.classifies else "prophesee"
    if pictures and get_protocol(name).skip_us is not None:
        raise ConfigError(
            f"protocol {name} leaves out labels at the beginning of a recording, and every picture of {dataset.folder} "
            "stands at time 0; score pictures under protocol none or cordone"
        )
    return name


def predict(
    model: AnyDetector,
    dataset: FolderDataset | Subset[Sample],
    *,
    batch_size: int = 8,
    min_score: float = 0.0,
    num_workers: int = 0,
    precision: str = "float32",
    observe: Observe | None = None,
    scale: Scale = 1.0,
    mode: Mode = "auto",
    smooth: bool = False,
) -> Predictions:
    """Detect in every labeled frame of a data set; boxes in the sensor's pixels.

    Args:
        model: the detector; it is fused here and left unchanged.
        dataset: what to detect in.
        batch_size: windows at a time; clips in mode "stateful".
        min_score: detections below are dropped.
        num_workers: processes that load single windows.
        precision: "float32" or "bfloat16" arithmetic in the convolutions.
        observe: sees the output of every neuron layer, see ``Detector.forward``.
        scale: at which the events are binned, see ``model.scaling.choose_scaling``: a number from 1/64 to 1, several
            whose detections are merged, "auto" or "pyramid".
        mode: "windowed" detects in the window of each frame from a zero-initialized state, "stateful" carries the state
            from frame to frame of a clip, see ``clips.passes_of``; "auto" is stateful for a network with a memory.
        smooth: detect in the half second before each frame, too, and filter boxes and scores over it, see
            ``model.smoothing``.

    Raises:
        ConfigError: If the batch size, the scale or the mode is impossible, or there is no time to smooth over.
        EvaluationError: If recordings of events come from sensors of different sizes.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    device = model.device
    if smooth:
        check_smoothing(model.config)
        if choose_mode(mode, model) == "stateful":
            raise ConfigError('smooth scores windows of their own; take mode="windowed", or leave smooth out')
    fused = model.fuse()
    if choose_mode(mode, model) == "stateful":
        (part, _, sensor_hw), *others = _scaled(dataset, scale, model.config)
        if others:
            raise ConfigError(f'a state carried along sees one scale, got {scale!r}; give one, or take mode="windowed"')
        whole, indices = _frames_of(part)
        truth, detections, size_hw = predict_clips(
            fused, whole, indices, sensor_hw=sensor_hw, batch_size=batch_size, min_score=min_score,
            precision=precision, observe=observe,
        )  # fmt: skip
        return _predictions(model.config, truth, detections, size_hw)
    looked_at = [
        (FramesAndBefore(*_frames_of(part)) if smooth else part, ratio, size_hw)
        for part, ratio, size_hw in _scaled(dataset, scale, model.config)
    ]
    parts = [
        _predict_at(
            fused, part, ratio, size_hw, device=device, batch_size=batch_size, min_score=min_score,
            num_workers=num_workers, precision=precision, observe=observe,
        )
        for part, ratio, size_hw in looked_at
    ]  # fmt: skip
    first, *others = parts
    if others:
        found = {frame: merge([part.detections[frame] for part in parts]) for frame in first.detections}
        first = replace(first, detections=found)
    if smooth:
        moments = looked_at[0][0]
        assert isinstance(moments, FramesAndBefore)
        found = smoothed(first.detections, moments.chains, first.size_hw)
        first = replace(first, truth={frame: first.truth[frame] for frame in found}, detections=found)
    return first


def _frames_of(dataset: FolderDataset | Subset[Sample]) -> tuple[FolderDataset, Sequence[int]]:
    if isinstance(dataset, FolderDataset):
        return dataset, range(len(dataset))
    assert isinstance(dataset.dataset, FolderDataset)
    return dataset.dataset, dataset.indices


def _scaled(
    dataset: FolderDataset | Subset[Sample], scale: Scale, config: DetectorConfig
) -> list[tuple[FolderDataset | Subset[Sample], Fraction, tuple[int, int] | None]]:
    """Return the data set at every scale, the scale, and the sensor's size where the cubes do not have it."""
    if scale in (1, (1.0,)) or config.voxels.takes_frames:
        return [(dataset, Fraction(1), None)]
    folder = dataset.dataset if isinstance(dataset, Subset) else dataset
    assert isinstance(folder, FolderDataset)
    cube = dataset[0].cube
    size_hw = (cube.shape[-2], cube.shape[-1])
    scaled = []
    for spec in choose_scaling(scale, size_hw, config).specs(folder.spec):
        one = copy(folder)
        one.spec = spec
        part = Subset(one, dataset.indices) if isinstance(dataset, Subset) else one
        scaled.append((part, spec.ratio, None if spec.ratio == 1 else size_hw))
    return scaled


def _predict_at(
    fused: AnyDetector,
    dataset: Dataset[Sample],
    ratio: Fraction,
    sensor_hw: tuple[int, int] | None,
    *,
    device: torch.device,
    batch_size: int,
    min_score: float,
    num_workers: int,
    precision: str,
    observe: Observe | None,
) -> Predictions:
    """Detect at one scale; ``sensor_hw`` is the sensor's size, None that of the cubes."""
    loader = DataLoader(Guarded(dataset), batch_size, collate_fn=collate_guarded, num_workers=num_workers)
    batches: Iterable[Batch] = raising(loader)
    truth: dict[FrameKey, Boxes] = {}
    found: dict[FrameKey, Detections] = {}
    size_hw: tuple[int, int] | None = None
    largest_hw = (0, 0)
    for batch in track(batches, "detecting", len(loader)):
        before, size_hw = size_hw, (batch.cube.shape[-2], batch.cube.shape[-1])
        if before not in (None, size_hw):
            raise EvaluationError(
                f"{batch.recordings[0]} has {size_hw[1]} x {size_hw[0]} pixels, recordings before it had "
                f"{before[1]} x {before[0]}; score one kind of sensor at a time"
            )
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            output, _ = fused(batch.cube.to(device), observe=observe)
        results = detections_of(
            fused.head, output, batch.t_us, cube_hw=size_hw, size_hw=sensor_hw or size_hw, ratio=ratio,
            min_score=min_score, calibrations=batch.calibrations,
        )  # fmt: skip
        for name, boxes, result, source_hw in zip(
            batch.recordings, batch.boxes, results, batch.source_hws, strict=True
        ):
            if source_hw is not None:
                lies = Letterbox(source_hw, size_hw)
                boxes, result = lies.to_source(boxes), lies.to_source(result)
                largest_hw = max(largest_hw[0], source_hw[0]), max(largest_hw[1], source_hw[1])
            truth[name, result.t_us], found[name, result.t_us] = boxes, result
    size_hw = sensor_hw or size_hw or (0, 0)
    size_hw = size_hw if largest_hw == (0, 0) else largest_hw
    return _predictions(fused.config, truth, found, size_hw)


def _predictions(
    config: DetectorConfig,
    truth: Mapping[FrameKey, Boxes],
    found: Mapping[FrameKey, Detections],
    size_hw: tuple[int, int],
) -> Predictions:
    pose_labels = config.head.pose_labels(config.classes) if "pose" in config.tasks else frozenset()
    return Predictions(truth, found, size_hw, config.classes, config.tasks, pose_labels)


def likeliest(predictions: Predictions) -> Predictions:
    """Return a classifier's predictions with the likeliest class of every window alone."""
    best = {frame: found.best(1) for frame, found in predictions.detections.items()}
    return replace(predictions, detections=best)


def in_cube(found: Placed, sample: Sample) -> Placed:
    """Return boxes or detections in pixels of the sensor or picture as such of the sample's cube, to be drawn on it."""
    if sample.source_hw is None:
        return found
    return Letterbox(sample.source_hw, (sample.cube.shape[-2], sample.cube.shape[-1])).to_frame(found)


def evaluate(
    model: AnyDetector,
    root: str | os.PathLike[str],
    *,
    split: str = "val",
    protocol: str | Protocol | None = None,
    batch_size: int = 8,
    scale: Scale = "auto",
    mode: Mode = "auto",
    smooth: bool = False,
) -> Score:
    """Return the score of a detector on a split of a GEN1-style folder under a named protocol.

    Args:
        model: the detector.
        root: folder that holds the splits.
        split: name of the split.
        protocol: of the scoring; None takes "prophesee"; see :func:`protocol_for`.
        batch_size: windows at a time; clips in mode "stateful".
        scale: as :func:`predict`; boxes are scored in the sensor's pixels.
        mode: as :func:`predict`.
        smooth: as :func:`predict`.

    Raises:
        DatasetError: the folder does not hold what it should.
        ConfigError: unknown protocol, or impossible scale.
    """
    dataset = dataset_for(model, root, split)
    require_task_labels(dataset, model.config)
    if protocol is None or isinstance(protocol, str):
        protocol = protocol_for(dataset, protocol)
    return predict(model, dataset, batch_size=batch_size, scale=scale, mode=mode, smooth=smooth).score(protocol)
