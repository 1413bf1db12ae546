"""What a network is built from: its configuration, nested by owner, and the presets."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.joint_sets import JOINT_SETS, JOINTS_13
from spiking_centernet.structures import CLASS_NAMES, VoxelSpec, find_class

NeuronKind = Literal["plif", "lif", "if", "ilif", "relu"]
Surrogate = Literal["atan", "sigmoid", "rectangle"]
Skips = Literal["concat", "or", "none", "add"]
DecoderKind = Literal["merged", "inner", "transposed"]
HeadKind = Literal["centernet", "pyramid", "ssd"]
Sizes = Literal["linear", "log"]
Edges = Literal["clipped", "exact"]
BoxLoss = Literal["l1", "giou"]
StepWeights = Literal["equal", "learned"]
JointUnits = Literal["cells", "boxes"]
JointSides = Literal["named", "ordered"]
Placing = Literal["free", "ground"]
RecurrentKind = Literal["none", "gated"]

TASKS = ("detect", "detect3d", "pose", "classify")
"""What a network can learn: boxes, 3D boxes, joints of people; or one class per window."""

MAX_LEVELS = 255
"""Most spikes of a neuron in a time step: what a byte holds."""

ALONE = ("detect", "classify")
"""The tasks that may stand first; the others read their values at the objects that ``detect`` finds."""


@dataclass(frozen=True, kw_only=True)
class NeuronConfig:
    """The neurons of every layer.

    Attributes:
        kind: "plif", "lif", "if", "ilif" for whole numbers of spikes, or "relu" for the ANN counterpart.
        surrogate: derivative of a spike in the backward pass.
        tau: initial time constant in steps, above 1.
        threshold: firing threshold of the membrane.
        soft_reset: subtract the threshold instead of resetting to 0.
        decay_input: the leak also scales the input.
        detach_reset: no gradient flows through the reset.
        levels: most spikes of a neuron in a time step, of kind "ilif" alone; see ``neurons.ILIF``, which always
            subtracts. At most 255, so that a byte holds them and bfloat16 is exact.
    """

    kind: NeuronKind = "plif"
    surrogate: Surrogate = "atan"
    tau: float = 2.0
    threshold: float = 1.0
    soft_reset: bool = False
    decay_input: bool = True
    detach_reset: bool = True
    levels: int = 4

    def __post_init__(self):
        _check_choices(self, "neuron")
        if self.kind != "ilif" and self.levels != type(self).levels:
            raise ConfigError(
                f"neuron.levels={self.levels} is of neuron.kind='ilif', which counts its spikes; neuron.kind="
                f"{self.kind!r} has none: choose ilif or leave levels out"
            )
        if not 1 <= self.levels <= MAX_LEVELS:
            raise ConfigError(f"neuron.levels must be 1 to {MAX_LEVELS} spikes in a time step, got {self.levels}")

    @property
    def is_spiking(self) -> bool:
        """Whether the layers pass on spikes; those of the ANN counterpart pass on real values."""
        return self.kind != "relu"

    @property
    def max_spikes(self) -> int:
        """Most spikes of a neuron in a time step."""
        return self.levels if self.kind == "ilif" else 1

    @property
    def resets_to_zero(self) -> bool:
        """Whether a spike sets the membrane to 0, instead of subtracting the threshold."""
        return self.is_spiking and self.kind != "ilif" and not self.soft_reset


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The encoder.

    Attributes:
        widths: channels of the stages, finest first; stage ``i`` computes at stride ``4 * 2**i``.
        convs_per_stage: convolutions in every stage, 4 in ResNet-18.
        identity: whether it has ResNet's identity additions.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    convs_per_stage: int = 4
    identity: bool = False

    def __post_init__(self):
        _check_positive(self, "encoder", "convs_per_stage")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ConfigError(f"encoder.widths must be two or more positive channel counts, got {self.widths}")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The decoder.

    Attributes:
        num_blocks: each halves the stride: with four encoder stages, 2 give output stride 8, 3 give 4.
        kind: blocks "merged" into one convolution, with neurons "inner" to them, or "transposed" convolutions.
        skips: how the encoder's spikes are taken in.
        expansion: hidden over joined channels of a block, 0.15 in M2U-Net (Laibacher et al., arXiv 1811.07738).
    """

    num_blocks: int = 2
    kind: DecoderKind = "merged"
    skips: Skips = "concat"
    expansion: float = 0.15

    def __post_init__(self):
        _check_choices(self, "decoder")
        if not self.expansion > 0:
            raise ConfigError(f"decoder.expansion must be positive, got {self.expansion}")


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """A memory between decoder and head.

    Attributes:
        kind: "none" as in the paper, or "gated": see ``recurrent.GatedMemory``.
        kernel: side of its convolution, an odd number.
        half_life_steps: steps after which an untrained memory that nothing reaches is half gone.
    """

    kind: RecurrentKind = "none"
    kernel: int = 3
    half_life_steps: float = 100.0

    def __post_init__(self):
        _check_choices(self, "recurrent")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"recurrent.kernel must be an odd number, got {self.kernel}")
        if not self.half_life_steps > 0:
            raise ConfigError(f"recurrent.half_life_steps must be positive, got {self.half_life_steps}")


MAX_AVERAGING = 8.0
"""Largest ``head.averaging``: more is the peak's own box, and float32 could not tell faint heat from none."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The head.

    Attributes:
        kind: a name of ``heads.HEADS``: "centernet"; "pyramid", a CenterNet on each of the three finest levels, every
            object on one of them by its size; or "ssd" for anchors and non-maximum suppression.
        width: channels of the 3x3 convolution of every branch.
        sizes: what CenterNet's size map holds: "linear", widths and heights in cells as in the paper, at most what
            firing rates in [0, 1] add up to; or "log", their logarithms.
        edges: where targets end: "clipped" a cell before the right and bottom border, as in CenterNet's code, so that
            boxes that touch it are taught too small; or "exact", at the border.
        box_loss: "l1" at the center as in the paper, or "giou": generalized IoU and errors at the 3x3 cells around it.
        quality: exponent of a fourth map in the score: how well the box fits, taught as its IoU with the truth; the
            heatmap has what is left to 1. 0, as in the paper, has no such map; others need ``box_loss: giou``.
        averaging: exponent of the heat by which the boxes of the 3x3 cells around a peak are averaged, in detection
            alone; 2 is best where ``box_loss: giou`` has taught these cells the box (results/averaging.json). 0, as in
            the paper, takes the peak's box.
        readout_steps: how many of the last time steps the maps are averaged over; 0 for all, as in the paper.
        step_weights: how they are averaged: "equal" as in the paper, or "learned": every map has weights of its own.
        focal_px: focal length in pixels that depth is predicted for (task "detect3d"); every camera's own scales it.
        placing: in detection alone, where 3D boxes stand: "free", each at the depth that its own map says, as in
            CenterNet; or "ground", all boxes of a picture on one level ground, see ``heads/ground.py``.
        joints: names of the joints in their order (task "pose"): a set of ``joint_sets.JOINT_SETS``.
        joint_units: what the map of joints holds: "cells", offsets from the person's cell in output pixels, as
            CenterNet's; or "boxes", offsets from the box's center in its widths and heights.
        joint_sides: what the channels of two counterparts, a left and a right knee say, hold: "named", each its own, as
            in CenterNet; or "ordered", the first the one further left in the picture, and another channel, a vote on
            which side is which; the pairs of a person vote together.
        pose_classes: the classes that have joints.
    """

    kind: HeadKind = "centernet"
    width: int = 256
    sizes: Sizes = "linear"
    edges: Edges = "clipped"
    box_loss: BoxLoss = "l1"
    quality: float = 0.0
    averaging: float = 0.0
    readout_steps: int = 0
    step_weights: StepWeights = "equal"
    focal_px: float = 304.0
    placing: Placing = "free"
    joints: tuple[str, ...] = JOINTS_13.names
    joint_units: JointUnits = "cells"
    joint_sides: JointSides = "named"
    pose_classes: tuple[str, ...] = ("pedestrian",)

    def __post_init__(self):
        _check_choices(self, "head")
        _check_positive(self, "head", "width")
        if self.readout_steps < 0:
            raise ConfigError(f"head.readout_steps must be 0 for all steps, or positive, got {self.readout_steps}")
        if not 0 <= self.quality < 1:
            raise ConfigError(f"head.quality must be at least 0 and below 1, got {self.quality}")
        if self.quality and (self.kind != "centernet" or self.box_loss != "giou"):
            raise ConfigError("head.quality is learned with head.kind='centernet' and head.box_loss='giou'; set both")
        if not 0 <= self.averaging <= MAX_AVERAGING or (self.averaging and self.kind == "ssd"):
            raise ConfigError(
                f"head.averaging must be from 0 to {MAX_AVERAGING:g}, and 0 with head.kind='ssd', got {self.averaging}"
            )
        if not 0 < self.focal_px < math.inf:
            raise ConfigError(f"head.focal_px must be positive, got {self.focal_px}")
        if self.joints not in [joints.names for joints in JOINT_SETS.values()]:
            raise ConfigError(
                f"head.joints must be one of the known sets of {sorted(JOINT_SETS)} joints in its order, "
                f"got {self.joints}; the sets stand in joint_sets.py"
            )

    def pose_labels(self, classes: tuple[str, ...]) -> frozenset[int]:
        """Return the labels of the classes that have joints, found among ``classes`` by name or synonym.

        Raises:
            ConfigError: If none of ``pose_classes`` is a class.
        """
        found = {find_class(name, classes) for name in self.pose_classes}
        labels = frozenset(label for label in found if label is not None)
        if not labels:
            raise ConfigError(
                f"head.pose_classes={self.pose_classes} names none of the classes {classes}; "
                "name the classes whose joints are labeled"
            )
        return labels


AS_IT_IS = (0.0, 1.0, 0.0)
"""The ``deployment.score_fit`` that changes no score."""


@dataclass(frozen=True, kw_only=True)
class DeploymentConfig:
    """What changes no weight: how the trained detector is used.

    Attributes:
        score_threshold: detections below are not shown by default; chosen on validation data after training.
        trained_hw: height and width in pixels of the cubes that it was trained on, which ``scale="auto"`` goes by; the
            default is GEN1's sensor, which the simulator has as well.
        score_fit: how the height of a peak becomes a score, fitted on validation data after training; see
            ``heads.base.fitted_scores``. As it is, the height is the score.
    """

    score_threshold: float = 0.3
    trained_hw: tuple[int, ...] = (240, 304)
    score_fit: tuple[float, ...] = AS_IT_IS

    def __post_init__(self):
        if not math.isfinite(self.score_threshold):
            raise ConfigError(f"deployment.score_threshold must be finite, got {self.score_threshold}")
        if len(self.trained_hw) != 2 or min(self.trained_hw) < 1:
            raise ConfigError(f"deployment.trained_hw must be a height and a width in pixels, got {self.trained_hw}")
        if len(self.score_fit) != 3 or not all(map(math.isfinite, self.score_fit)) or self.score_fit[1] <= 0:
            raise ConfigError(
                f"deployment.score_fit must be three numbers, the second positive, so that scores rise with peaks, "
                f"got {self.score_fit}"
            )


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Everything that fixes a detector's shape; the defaults are the paper's network.

    Attributes:
        tasks: what it learns: "detect" first, then "detect3d" (3D boxes) and "pose" (joints) if wanted; or "classify"
            alone, one class per window.
        classes: what label 0, 1, ... is called; one heatmap channel each.
        voxels: what the network takes in.
        encoder: see :class:`EncoderConfig`.
        decoder: see :class:`DecoderConfig`.
        neuron: see :class:`NeuronConfig`.
        recurrent: see :class:`RecurrentConfig`.
        head: see :class:`HeadConfig`.
        deployment: see :class:`DeploymentConfig`.

    Raises:
        ConfigError: If a value is impossible.
    """

    tasks: tuple[str, ...] = ("detect",)
    classes: tuple[str, ...] = CLASS_NAMES
    voxels: VoxelSpec = field(default_factory=VoxelSpec)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    recurrent: RecurrentConfig = field(default_factory=RecurrentConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    deployment: DeploymentConfig = field(default_factory=DeploymentConfig)

    def __post_init__(self):
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"classes must be one or more different names, got {self.classes}")
        if self.voxels.scale != 1:
            raise ConfigError("a network has no scale of its own: give scale to what detects, or to a VoxelSpec there")
        self._check_tasks()
        if self.head.readout_steps > self.voxels.num_steps:
            raise ConfigError(
                f"head.readout_steps={self.head.readout_steps} must be at most voxels.num_steps={self.voxels.num_steps}"
            )
        if self.has_memory and not self.neuron.is_spiking:
            raise ConfigError("recurrent.kind='gated' is a memory of spikes; the ANN counterpart (relu) has none")
        self._check_integers()
        most = len(self.encoder.widths) - 1
        if not 0 <= self.decoder.num_blocks <= most:
            raise ConfigError(
                f"decoder.num_blocks must be 0..{most} with {most + 1} encoder stages, got {self.decoder.num_blocks}"
            )

    def _check_integers(self) -> None:
        """Refuse what would add up whole numbers of spikes or join them by OR: it has no binary execution."""
        if self.neuron.kind != "ilif":
            return
        adds = {
            "decoder.skips='add'": self.decoder.skips == "add",
            "encoder.identity": self.encoder.identity,
            "recurrent.kind='gated'": self.recurrent.kind == "gated",
        }
        for setting in (name for name, is_set in adds.items() if is_set):
            raise ConfigError(
                f"neuron.kind='ilif' passes on 0 to {self.neuron.levels} spikes, which {setting} would mix with others "
                "to more than these: no binary network computes that; leave one of the two out"
            )

    def _check_tasks(self) -> None:
        for task in self.tasks:
            if task not in TASKS:
                raise ConfigError(f"unknown task {task!r}{did_you_mean(task, TASKS)}")
        if not self.tasks or self.tasks[0] not in ALONE or len(set(self.tasks)) != len(self.tasks):
            raise ConfigError(f"tasks must be different ones, the first of them {' or '.join(ALONE)}, got {self.tasks}")
        if "classify" in self.tasks and len(self.tasks) > 1:
            raise ConfigError(f"the task classify stands alone: a window has one class or objects, got {self.tasks}")
        if len(self.tasks) > 1 and self.head.kind != "centernet":
            raise ConfigError(
                f"head.kind={self.head.kind!r} does detect alone, got tasks {self.tasks}; {', '.join(self.tasks[1:])} "
                "needs the peaks of head.kind='centernet'"
            )
        if "pose" in self.tasks:
            self.head.pose_labels(self.classes)

    @property
    def num_classes(self) -> int:
        """Heatmap channels."""
        return len(self.classes)

    @property
    def stride(self) -> int:
        """Pixels of the input a pixel of the output."""
        return 2 ** (len(self.encoder.widths) + 1 - self.decoder.num_blocks)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per pixel of every decoder level, the coarsest encoder stage first."""
        return tuple(self.stride * 2**i for i in range(self.decoder.num_blocks, -1, -1))

    @property
    def has_memory(self) -> bool:
        """Whether a memory remembers what was seen before the window, so that its state should travel."""
        return self.recurrent.kind != "none"

    @property
    def fits_windows(self) -> bool:
        """Whether a window may begin at its first event: not where its early steps are but what came before."""
        return not self.head.readout_steps

    @property
    def classifies(self) -> bool:
        """Whether it answers with one class per window instead of boxes."""
        return self.tasks == ("classify",)

    @property
    def variations(self) -> str:
        """What makes this another network than the paper's kind, for example "decoder.skips='or'"; else empty."""
        return self.variations_but()

    def variations_but(self, *known: str) -> str:
        """Return :attr:`variations` without the settings ``known``, dotted names."""
        usual = DetectorConfig()
        differ = [f"tasks={self.tasks}"] if self.classifies else []
        for path in ("voxels.mode", "decoder.skips", "decoder.kind", "encoder.identity", "recurrent.kind",
                     "head.kind", "head.readout_steps", "head.step_weights"):  # fmt: skip
            owner, name = path.split(".")
            value = getattr(getattr(self, owner), name)
            if path not in known and value != getattr(getattr(usual, owner), name):
                differ.append(f"{path}={value!r}")
        return ", ".join(differ)


def _check_choices(config: Any, owner: str) -> None:
    """Refuse a value that its field's ``Literal`` does not name."""
    hints = get_type_hints(type(config))
    for name in (f.name for f in fields(config) if get_origin(hints[f.name]) is Literal):
        value, known = getattr(config, name), get_args(hints[name])
        if value not in known:
            raise ConfigError(f"unknown {owner}.{name} {value!r}{did_you_mean(str(value), known)}")


def _check_positive(config: Any, owner: str, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{owner}.{name} must be at least 1, got {getattr(config, name)}")
