"""Start a network from the weights of another: take over what fits, say what starts fresh, refuse another network."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_centernet.errors import ConfigError, WeightsError, did_you_mean
from spiking_centernet.model.config_dict import differences
from spiking_centernet.model.detector import Detector
from spiking_centernet.model.weights import load
from spiking_centernet.structures import find_class

logger = logging.getLogger(__name__)

FREE = {
    "classes", "tasks", "head.focal_px", "head.joints", "head.joint_units", "head.joint_sides",
    "head.pose_classes", "head.kind", "head.width", "head.sizes", "head.edges", "head.box_loss", "head.quality",
    "head.averaging", "head.placing", "head.readout_steps", "head.step_weights", "neuron.surrogate",
    "neuron.detach_reset", "recurrent.kind", "recurrent.kernel", "recurrent.half_life_steps",
}  # fmt: skip
"""Settings in which the two networks may differ: they belong to the head, the memory, training or deployment alone."""

FREE_OF_STEPS = {"voxels.num_steps", "voxels.window_us"}
"""Settings in which the two may differ, too, where a step is as long in both: more of them look further back."""

FREE_OF_COUNTERPARTS = {
    "neuron.kind", "neuron.tau", "neuron.threshold", "neuron.soft_reset", "neuron.decay_input", "neuron.levels",
}  # fmt: skip
"""Settings in which the two may differ, too, where the weights are the ANN counterpart's and the network spikes: the
convolutions and norms are a start to train on from, as in hybrid training (Rathi et al., arXiv 2005.01807)."""

FREE_OF_NUMBERS = {"neuron.kind", "neuron.levels", "neuron.soft_reset"}
"""Settings in which the two may differ, too, where the weights are PLIF's and the network is I-LIF's: up to one spike a
step they do the same but for the reset, and the leak is learned in both."""

FREE_OF_ENCODERS = {"voxels.num_steps", "voxels.window_us", "voxels.num_events", "voxels.least_us", "voxels.frame_hw"}
"""Settings in which the two may differ, too, where the encoder alone is taken over: they fix no tensor of it."""

PARTS = ("all", "encoder")
"""What can be taken over."""

REASONS = {
    "voxels": "the layers learned from other cubes",
    "encoder": "its layers have other shapes",
    "decoder": "its layers have other shapes",
    "decoder.num_blocks": "the output has another stride",
    "neuron": "the layers learned with other neurons",
    "head": "its layers have other shapes",
}
"""Why a difference in a setting, or else in a setting of its owner, is refused."""


@dataclass(frozen=True)
class Transfer:
    """What :func:`transfer` took over.

    Attributes:
        weights: where from.
        classes: class of the network -> class of the weights whose output channels it took over.
        fresh_classes: classes whose output channels start fresh.
        fresh: other layers that start fresh, by name, with the reason.
        num_taken: parameters taken over.
        num_parameters: parameters of the network.
    """

    weights: str
    classes: Mapping[str, str]
    fresh_classes: tuple[str, ...]
    fresh: Mapping[str, str]
    num_taken: int
    num_parameters: int

    def __str__(self) -> str:
        parts = [f"took {self.num_taken:,} of {self.num_parameters:,} parameters from {self.weights}"]
        kept = ", ".join(
            ours if ours == theirs else f"{ours} (there {theirs})" for ours, theirs in self.classes.items()
        )
        if kept:
            parts.append(f"kept the class {kept}" if len(self.classes) == 1 else f"kept the classes {kept}")
        if self.fresh_classes:
            parts.append(f"start fresh: {', '.join(self.fresh_classes)}")
        parts += [f"{layer} starts fresh: {reason}" for layer, reason in self.fresh.items()]
        return "; ".join(parts)


def transfer(model: Detector, weights: str | os.PathLike[str], *, parts: str = "all") -> Transfer:
    """Give a detector everything of other weights that fits, in place, and return what was taken over.

    Encoder and decoder must be the same; a spiking network may start from its ANN counterpart. Output channels of
    classes go by name, synonyms included ("person" is "pedestrian"); those of other classes, and layers of the head
    that mean something else, keep their initial values.

    Args:
        model: what to fill; it keeps its own score threshold and what belongs to training alone.
        weights: what :func:`spiking_centernet.load` takes.
        parts: "all", or "encoder": the encoder's layers alone, between networks of different tasks or decoders, also
            for windows of another length and number of steps.

    Raises:
        ConfigError: ``parts`` is unknown.
        WeightsError: the weights are missing or belong to another network; the settings that differ are named.
    """
    if parts not in PARTS:
        raise ConfigError(f"unknown parts {parts!r}{did_you_mean(parts, PARTS)}")
    other = load(weights)
    name = os.fspath(weights)
    _refuse_another_network(name, other, model, parts)
    if parts == "encoder":
        return _take_encoder(name, other, model)
    classes = _matched(model.config.classes, other.config.classes)
    theirs, ours = other.state_dict(), model.state_dict()
    taken: dict[str, Tensor] = {}
    fresh: dict[str, str] = {}
    for key, own in ours.items():
        reason = _refusal(key, model, other)
        if reason is None and key in theirs:
            taken[key] = _by_class(key, own, theirs[key], model, other, classes) if _is_output(key) else theirs[key]
            reason = None if taken[key].shape == own.shape else "it has another shape there"
        if reason is not None or key not in theirs:
            taken.pop(key, None)
            fresh[_layer(key, theirs)] = reason or "the weights do not have it"
    model.load_state_dict(ours | taken)
    parameters = dict(model.named_parameters())
    num_taken = sum(p.numel() - _num_fresh(key, p, model, classes) for key, p in parameters.items() if key in taken)
    result = Transfer(
        weights=name,
        classes={ours: other.config.classes[index] for ours, index in classes.items()},
        fresh_classes=tuple(name for name in model.config.classes if name not in classes),
        fresh=fresh,
        num_taken=num_taken,
        num_parameters=sum(parameter.numel() for parameter in parameters.values()),
    )
    logger.info("%s", result)
    return result


def _take_encoder(name: str, other: Detector, model: Detector) -> Transfer:
    taken = {key: value for key, value in other.state_dict().items() if key.startswith("encoder.")}
    model.load_state_dict(model.state_dict() | taken)
    parameters = dict(model.named_parameters())
    fresh = {key.partition(".")[0] for key in parameters if not key.startswith("encoder.")}
    result = Transfer(
        weights=name,
        classes={},
        fresh_classes=(),
        fresh=dict.fromkeys(sorted(fresh), "the encoder alone is taken over"),
        num_taken=sum(p.numel() for key, p in parameters.items() if key in taken),
        num_parameters=sum(p.numel() for p in parameters.values()),
    )
    details = "".join(
        f"; {path} is {ours!r} here, {theirs!r} there"
        for path, (theirs, ours) in differences(other.config, model.config).items()
        if path in FREE_OF_ENCODERS
    )
    logger.info("%s%s", result, details)
    return result


def _refuse_another_network(name: str, other: Detector, model: Detector, parts: str) -> None:
    differ = differences(other.config, model.config)
    differ = {path: values for path, values in differ.items() if not path.startswith("deployment.")}
    ours = ("voxels.", "encoder.", "neuron.")
    of_encoder = {p: v for p, v in differ.items() if p.startswith(ours) and p not in FREE_OF_ENCODERS}
    if parts == "encoder":
        differ = of_encoder
    as_long = other.config.voxels.step_us == model.config.voxels.step_us
    free = {*FREE, *(FREE_OF_STEPS if as_long else ())}
    if other.config.neuron.kind == "relu" and model.config.neuron.is_spiking:
        # A picture is the same at every step, so that the counterpart needs but one.
        free |= FREE_OF_COUNTERPARTS | ({"voxels.num_steps"} if model.config.voxels.mode == "direct" else set())
    if (other.config.neuron.kind, model.config.neuron.kind) == ("plif", "ilif"):
        free |= FREE_OF_NUMBERS
    for path in free:
        differ.pop(path, None)
    if differ:
        reasons = ", ".join(
            f"{path} is {theirs!r} there, {ours!r} here ({REASONS.get(path) or REASONS[path.partition('.')[0]]})"
            for path, (theirs, ours) in differ.items()
        )
        hint = "" if of_encoder else "; the encoder alone is taken over with weights_parts: encoder"
        raise WeightsError(
            f"{name}: cannot start from the weights of another network: {reasons}; leave out preset and network to "
            f"take the network of the weights, or leave out the weights{hint}"
        )


def _matched(ours: tuple[str, ...], theirs: tuple[str, ...]) -> dict[str, int]:
    """Return class here -> its number there; equal names first, then synonyms, each number once."""
    exact = {name: theirs.index(name) for name in ours if name in theirs}
    free = [name for name in theirs if name not in exact]
    for name in ours:
        index = None if name in exact else find_class(name, free)
        if index is not None:
            exact[name] = theirs.index(free.pop(index))
    return {name: exact[name] for name in ours if name in exact}


def _layer(key: str, theirs: Mapping[str, Tensor]) -> str:
    """Return what to call a tensor that starts fresh: its layer, or the whole branch where the weights have none.

    Of a layer that the weights do have it is the tensor alone.
    """
    branch, layer = ".".join(key.split(".")[:2]), key.rpartition(".")[0]
    if key.startswith("heads.") and not any(name.startswith(f"{branch}.") for name in theirs):
        return branch
    is_alone = key not in theirs and any(name.startswith(f"{layer}.") for name in theirs)
    return key if is_alone else layer


def _is_output(key: str) -> bool:
    """Return whether a tensor belongs to the last layer of a head's branch."""
    return key.startswith("heads.") and ".out." in key


def _refusal(key: str, model: Detector, other: Detector) -> str | None:
    """Return why a tensor of equal name is not taken over, None if it is."""
    sizes = model.config.head.sizes, other.config.head.sizes
    if key.startswith("heads.wh.out.") and sizes[0] != sizes[1]:
        return f"sizes are {sizes[0]}, {sizes[1]} there"
    ours, theirs = model.config.head, other.config.head
    if key.startswith("heads.") and ours.kind == theirs.kind and ours.width != theirs.width:
        return f"it is {ours.width} channels wide, {theirs.width} there"
    if key.startswith("heads.box3d.out.") and ours.focal_px != theirs.focal_px:
        return f"depth is for a focal length of {ours.focal_px:g} px, {theirs.focal_px:g} there"
    if key.startswith("heads.joints.out.") and ours.joints != theirs.joints:
        return f"it has {len(ours.joints)} joints, {len(theirs.joints)} there"
    if key.startswith("heads.joints.out.") and ours.joint_units != theirs.joint_units:
        return f"joints are in {ours.joint_units}, in {theirs.joint_units} there"
    if key.startswith("heads.joints.out.") and ours.joint_sides != theirs.joint_sides:
        return f"counterparts are {ours.joint_sides}, {theirs.joint_sides} there"
    return None


def _by_class(
    key: str, own: Tensor, their: Tensor, model: Detector, other: Detector, classes: Mapping[str, int]
) -> Tensor:
    """Return an output layer's tensor with the channels of shared classes, and those of no class, taken over."""
    branch = key.split(".")[1]
    our_rows, their_rows = model.head.class_rows(branch), other.head.class_rows(branch)
    if our_rows is None or their_rows is None or our_rows.shape[1] != their_rows.shape[1]:
        return their
    result = own.clone()
    shared = [torch.tensor([k for k in range(len(x)) if k not in set(rows.flat)], dtype=torch.int64)
              for x, rows in ((own, our_rows), (their, their_rows))]  # fmt: skip
    result[shared[0]] = their[shared[1]]
    for label, name in enumerate(model.config.classes):
        if name in classes:
            result[torch.from_numpy(our_rows[label])] = their[torch.from_numpy(their_rows[classes[name]])]
    return result


def _num_fresh(key: str, parameter: Tensor, model: Detector, classes: Mapping[str, int]) -> int:
    """Return how many numbers of a parameter belong to classes that start fresh."""
    rows = model.head.class_rows(key.split(".")[1]) if _is_output(key) else None
    if rows is None:
        return 0
    return (len(model.config.classes) - len(classes)) * rows.shape[1] * parameter[0].numel()
