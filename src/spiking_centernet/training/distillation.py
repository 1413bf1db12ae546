"""Distillation: a frozen teacher, what it is shown, and how far the student is from it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model import HEADS, Detector, DetectorConfig
from spiking_centernet.model.context import Observe
from spiking_centernet.model.heads.base import Loss
from spiking_centernet.model.weights import load, sha256
from spiking_centernet.structures import Boxes, VoxelSpec


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What the student copies from its teacher, each a mean squared error with a weight of its own.

    The paper says "heatmap" in the text and sums over "all pixels of the output" in the equation (arXiv 2402.01287,
    section III): ``heatmap`` is the first, ``heads`` the second.

    Attributes:
        alpha: weight of the sum next to CenterNet's loss; 1 in the paper.
        heatmap: weight of the heatmap's logits.
        heads: weight of all outputs together: heatmap, size and offset, and every map of a task that the teacher has.
        features: weight of the last layer before the heads: the student's firing rates and the teacher's features,
            averaged over their steps and scaled to a root mean square of 1, for their units differ.
        temperature: null compares the heatmap's logits; a number compares ``sigmoid(logit / temperature)``, times the
            temperature squared so that the gradient keeps its size (Hinton et al., arXiv 1503.02531).
        where: what ``heatmap`` and ``heads`` are averaged over: "pixels" as in the paper, nearly all of them background
            in which size and offset are taught nothing; or "objects", every pixel weighted by the target's Gaussians
            and the sum divided by the number of centers.
    """

    alpha: float = 1.0
    heatmap: float = 1.0
    heads: float = 0.0
    features: float = 0.0
    temperature: float | None = None
    where: Literal["pixels", "objects"] = "pixels"

    def __post_init__(self):
        if not self.alpha > 0 or min(self.heatmap, self.heads, self.features) < 0:
            raise ConfigError(f"distillation: alpha must be positive and no weight negative, got {self}")
        if self.heatmap == self.heads == self.features == 0:
            raise ConfigError("distillation: one of heatmap, heads and features must have a weight")
        if self.temperature is not None and not self.temperature > 0:
            raise ConfigError(f"distillation: temperature must be positive or null, got {self.temperature}")
        if self.where not in (known := get_args(get_type_hints(Distillation)["where"])):
            raise ConfigError(f"unknown distillation.where {self.where!r}{did_you_mean(str(self.where), known)}")


def teacher_cube(
    cube: UInt8[Tensor, "T B C H W"], student: VoxelSpec, teacher: VoxelSpec
) -> UInt8[Tensor, "S B K H W"]:
    """Return the cube that the teacher would have been given at the same timestamps, made from the student's.

    Pictures are the same for both. A teacher of one 20 ms step sees the end of the window, one of a 100 ms frame sees
    all of it in coarser micro bins.
    Cells of time are joined by OR, or by a sum where events are counted: exactly what binning the events again gives.

    Args:
        cube: of the student.
        student: how the student's cubes are made.
        teacher: how the teacher's are.
    """
    if student.takes_frames:
        return cube
    steps, bins = cube.shape[0], cube.shape[2] // 2
    cells = cube.unflatten(2, (2, bins)).permute(0, 3, 1, 2, 4, 5).flatten(0, 1)  # [T * bins, B, 2, H, W]
    seen = cells[steps * bins - teacher.window_us * steps * bins // student.window_us :]
    wanted = teacher.num_steps * teacher.bins
    groups = seen.unflatten(0, (wanted, -1))  # [cells of the teacher, cells joined, B, 2, H, W]
    if student.mode == "binary":
        joined = groups.amax(1)
    else:
        joined = groups.sum(1, dtype=torch.int32).clamp_max(255).to(cube.dtype)
    return joined.unflatten(0, (teacher.num_steps, teacher.bins)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)


class LastFeatures:
    """Keeps the output of the last neuron layer before the heads; pass it as ``observe`` to ``Detector.forward``.

    Args:
        model: the detector that is observed.
        then: another observer that sees every layer too.
    """

    def __init__(self, model: Detector, then: Observe | None = None):
        self._wanted = [name for name in model.neuron_names if not name.startswith("heads.")][-1]
        self._then = then
        self.spikes: Tensor | None = None

    def __call__(self, name: str, spikes: Tensor) -> None:
        """Take the output [T * B, K, h, w] of a layer."""
        if name == self._wanted:
            self.spikes = spikes
        if self._then is not None:
            self._then(name, spikes)

    def mean(self, num_steps: int) -> Float[Tensor, "B K h w"]:
        """Return the mean over the steps, scaled to a root mean square of 1 in every sample."""
        assert self.spikes is not None
        rate = self.spikes.float().unflatten(0, (num_steps, -1)).mean(0)
        return rate / rate.square().mean((1, 2, 3), keepdim=True).add(1e-8).sqrt()


class Teacher:
    """A frozen detector next to the student; no part of the student's checkpoint.

    Attributes:
        sha256: of the teacher's weight file.
        settings: what is copied.
        model: the teacher.
    """

    def __init__(self, model: Detector, settings: Distillation, student: Detector, *, sha256: str = ""):
        """Take a teacher for a student.

        Raises:
            ConfigError: the two do not belong together.
        """
        check(model.config, student.config)
        if settings.features and _width(model) != _width(student):
            raise ConfigError(
                f"the teacher's last layer before the heads has {_width(model)} channels, the student's "
                f"{_width(student)}: features need equal ones; set distillation.features to 0 or train a counterpart"
            )
        self.sha256, self.settings = sha256, settings
        self.model = model.eval().requires_grad_(False)

    @staticmethod
    def load(path: str | os.PathLike[str], settings: Distillation | None, student: Detector) -> "Teacher":
        """Return the teacher of a weight file, run folder or bundled name, on the student's device.

        Settings of None are the paper's: the heatmap with alpha 1.

        Raises:
            WeightsError: nothing is found.
            ConfigError: teacher and student do not belong together.
        """
        model = load(path, device=next(student.parameters()).device)
        return Teacher(model, settings or Distillation(), student, sha256=sha256(path))

    def watch(self, student: Detector, then: Observe | None) -> LastFeatures | None:
        """Return what must observe the student's forward pass, None where its features are not compared."""
        return LastFeatures(student, then) if self.settings.features else None

    def add(
        self,
        loss: Loss,
        cube: Tensor,
        output: Any,
        student: Detector,
        seen: LastFeatures | None,
        boxes: Sequence[Boxes],
    ) -> Loss:
        """Return the loss with the distance to the teacher added.

        Args:
            loss: of the student.
            cube: the student's, uint8 [T, B, C, H, W] on the teacher's device.
            output: of the student for this cube.
            student: whose output it is.
            seen: what :meth:`watch` returned, after the forward pass.
            boxes: of every sample of the cube.
        """
        shown = teacher_cube(cube, student.config.voxels, self.model.config.voxels)
        watched = None if seen is None else LastFeatures(self.model)
        with torch.no_grad():
            taught, _ = self.model(shown, observe=watched, keep_state=False)
        if taught[0].shape != output[0].shape:
            raise ConfigError(
                f"the teacher answers with {list(taught[0].shape)}, the student with "
                f"{list(output[0].shape)}; take a teacher of the same output stride"
            )
        heatmap = student.head.targets(boxes, output).heatmap if self.settings.where == "objects" else None
        terms = self._outputs(taught, output, heatmap)
        if seen is not None and watched is not None:
            difference = seen.mean(student.num_steps(cube)) - watched.mean(self.model.num_steps(shown))
            terms.append(self.settings.features * difference.square().mean())
        total = torch.stack(terms).sum()
        return Loss(loss.total + self.settings.alpha * total, {**loss.parts, "distillation": total})

    def _outputs(self, taught: Any, output: Any, gaussians: Tensor | None) -> list[Tensor]:
        settings, terms = self.settings, []
        soften = _soften(settings.temperature)
        heatmap = soften(taught[0].float()) - soften(output[0].float())
        if settings.heatmap:
            terms.append(settings.heatmap * mean_square(heatmap, gaussians))
        if settings.heads:
            theirs, ours = taught._asdict(), output._asdict()
            others = (theirs[name].float() - ours[name].float() for name in list(ours)[1:] if name in theirs)
            terms.append(settings.heads * mean_square(torch.cat([heatmap, *others], dim=1), gaussians))
        return terms


def mean_square(
    difference: Float[Tensor, "B K h w"], gaussians: Float[Tensor, "B classes h w"] | None
) -> Float[Tensor, ""]:
    """Return the mean square of a difference of maps.

    Args:
        difference: teacher less student.
        gaussians: the target's heatmap, whose largest value over the classes weighs a pixel; the weighted sum is then
            divided by the number of centers, at least 1. None for the mean over all pixels.
    """
    if gaussians is None:
        return difference.square().mean()
    weight = gaussians.amax(1)
    return (difference.square().mean(1) * weight).sum() / (gaussians == 1).sum().clamp_min(1)


def _soften(temperature: float | None) -> Callable[[Tensor], Tensor]:
    if temperature is None:
        return lambda logits: logits
    # The square of a difference of these carries temperature squared.
    return lambda logits: temperature * torch.sigmoid(logits / temperature)


def _width(model: Detector) -> int:
    """Return the channels of the last layer before the heads."""
    return int(next(iter(model.heads.values())).block.conv.in_channels)  # pyright: ignore


def check(teacher: DetectorConfig, student: DetectorConfig) -> None:
    """Refuse a teacher that does not fit its student.

    Raises:
        ConfigError: they differ in what must be equal, or the teacher's window cannot be cut from the student's.
    """
    if teacher.classifies or student.classifies:
        raise ConfigError("distillation compares maps, and a network of the task classify has none; leave it out")
    if teacher.head.kind != student.head.kind or not HEADS[student.head.kind].is_dense:
        raise ConfigError(
            "distillation compares maps: it needs two heads of one kind that answer with maps, as centernet does, "
            f"got {teacher.head.kind} (teacher) and {student.head.kind}"
        )
    shared = set(teacher.tasks) & set(student.tasks)
    of_tasks = [
        (f"head.{name}", getattr(student.head, name), getattr(teacher.head, name), what)
        for task, name, what in (
            ("detect3d", "focal_px", "depth for the same focal length"), ("pose", "joints", "the same set of joints"),
            ("pose", "joint_units", "joints in the same units"),
            ("pose", "joint_sides", "left and right told apart in the same way"),
        )
        if task in shared
    ]  # fmt: skip
    for name, ours, theirs, what in (
        *of_tasks,
        ("classes", student.classes, teacher.classes, "the same classes in the same order"),
        ("stride", student.stride, teacher.stride, "the same output stride"),
        ("head.sizes", student.head.sizes, teacher.head.sizes, "the same kind of sizes"),
        ("voxels.mode", student.voxels.mode, teacher.voxels.mode, "the same mode of the voxels"),
    ):
        if ours != theirs:
            raise ConfigError(
                f"the teacher has {name} {_told(theirs)}, the student {_told(ours)}; they need {what}: train the "
                "student's ReLU counterpart as teacher"
            )
    own, its = student.voxels, teacher.voxels
    if own.takes_frames:
        names = ("colors", "frame_hw") if own.mode == "direct" else ("colors", "frame_hw", "num_steps", "window_us")
        for name in names:
            if getattr(own, name) != getattr(its, name):
                raise ConfigError(
                    f"the teacher has voxels.{name} {getattr(its, name)}, the student {getattr(own, name)}; they need "
                    "the same pictures"
                )
        return
    cells = own.num_steps * own.bins
    seen, rest = divmod(its.window_us * cells, own.window_us)
    if rest or seen > cells or seen % (its.num_steps * its.bins):
        raise ConfigError(
            f"the teacher sees {its.window_us} us in {its.num_steps} x {its.bins} bins, which cannot be "
            f"cut from the student's {own.window_us} us in {own.num_steps} x {own.bins}; let its bins be "
            "whole multiples of the student's"
        )


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
