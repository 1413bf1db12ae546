"""Recipes: everything that fixes a training run except the data; read from YAML, every name and kind checked."""

import argparse
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from spiking_centernet.data import Augmentation
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.evaluation.metrics import get_protocol
from spiking_centernet.model import PRESETS, Detector, DetectorConfig, Memory, build, weights
from spiking_centernet.model.config_dict import numbers_from_text, with_changes
from spiking_centernet.model.transfer_learning import PARTS
from spiking_centernet.training.distillation import Distillation
from spiking_centernet.training.spike_penalty import SpikePenalty

MAX_SEED = 1 << 63
"""What PyTorch's generator takes."""

MAX_NUMBER = 10**300
"""No setting is larger: a float holds no more."""

FREEZABLE = {
    "encoder": ("encoder",), "encoder+decoder": ("encoder", "decoder"), "detector": ("encoder", "decoder", "detect"),
}  # fmt: skip
"""Value of ``freeze`` -> the parts of the network that keep their weights; "detect": the branches that find boxes."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that fixes a training run except the data; a YAML file holds these fields.

    Attributes:
        preset: the network: "nano", "small" or "paper"; null takes that of the weights to start from, or nano.
        network: settings of ``DetectorConfig`` to change, for example ``{neuron.kind: relu}``.
        weights: what to start from instead of random weights: a bundled name, weight file, run folder or hub id.
            Everything that fits is taken over; output channels of classes go by name.
        weights_parts: "all" of them that fits, or "encoder": for a network of another task or decoder.
        freeze: what keeps the weights it starts from: "encoder", "encoder+decoder", or "detector": all that finds
            boxes, so that a memory, ``network.recurrent``, or the maps of further tasks are trained alone; null for
            nothing.
        encoder_learning_rate: factor on the learning rate of the encoder; null for 1.
        answers: how many answers of a window are learned, the last at its end, each ``head.readout_steps`` after the
            one before: a network with memory learns what to say all along a sequence. A label up to half a time step
            away is that of the answer.
        chunks: windows of a recording that a sample holds, one after the other: the state is carried from each to the
            next, the gradient ends between them (truncated backpropagation through time), and their losses are
            averaged. A network with memory learns to go on for longer than one window.
        epochs: passes over the training split.
        windows_per_epoch: windows that a pass takes at most, other ones each time; null for all.
        batch_size: windows a step.
        learning_rate: peak learning rate of AdamW.
        final_learning_rate: learning rate at the end of the cosine.
        warmup: share of the steps in which the learning rate rises linearly from 0.
        weight_decay: of the convolutions' weights; norms, biases and time constants have none.
        clip_norm: the gradient is scaled down to this norm.
        ema_decay: of the running average of the weights, which is what is evaluated and saved; 0 switches it off.
        precision: "bfloat16", "float32", or "auto": bfloat16 where the CPU computes it natively.
        augmentation: how training samples vary; null for none.
        penalty: what spikes cost, for example ``{target: 0.05, of: operations}``; null for nothing.
        seed: of initial weights, order of samples and augmentation.
        protocol: under which the validation split is scored.
        fit_scores: turn the heights of peaks into scores that say how likely a box is right, whatever its size, fitted
            on the validation split; see ``evaluation.score_fit``.
        val_every: epochs between validations.
        early_stopping: stop after this many validations without a better score, see ``select_by``; null for never.
        log_every: steps between rows of ``metrics.csv``.
        logger: where the rows go besides: "tensorboard" in the run folder, "wandb" or "mlflow".
        checkpoint_every: steps between checkpoints; 0 for one an epoch.
        spikes: "uint8" keeps the spikes of the forward pass as bytes, "float" as they were computed.
        checkpoint_stages: keep only the stages' inputs and compute the rest again in the backward pass.
        num_workers: processes that load, 0 for a thread; None chooses.
        num_threads: threads that compute; None leaves it to PyTorch.
        teacher: weight file, run folder or bundled name of a frozen teacher; null for none.
        distillation: what the student copies from its teacher; null for the paper's way.
        task_weights: weight of the loss of single tasks of ``network.tasks``, for example ``{pose: 0.5}``; null for 1.
        select_by: the task whose primary score chooses the best weights; null takes the last of ``network.tasks``.
    """

    preset: str | None = None
    network: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    weights_parts: Literal["all", "encoder"] = "all"
    freeze: Literal["encoder", "encoder+decoder", "detector"] | None = None
    encoder_learning_rate: float | None = None
    answers: int = 1
    chunks: int = 1
    epochs: int = 30
    windows_per_epoch: int | None = None
    batch_size: int = 8
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-5
    warmup: float = 0.03
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "auto"
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    penalty: SpikePenalty | None = None
    seed: int = 0
    protocol: str = "prophesee"
    fit_scores: bool = False
    val_every: int = 1
    early_stopping: int | None = None
    log_every: int = 20
    logger: Literal["tensorboard", "wandb", "mlflow"] = "tensorboard"
    checkpoint_every: int = 0
    spikes: str = "float"
    checkpoint_stages: bool = False
    num_workers: int | None = None
    num_threads: int | None = None
    teacher: str | None = None
    distillation: Distillation | None = None
    task_weights: dict[str, float] | None = None
    select_by: str | None = None

    def __post_init__(self):
        if self.preset is not None and self.preset not in PRESETS:
            raise ConfigError(f"unknown preset {self.preset!r}{did_you_mean(self.preset, PRESETS)}")
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise ConfigError(f"precision must be auto, bfloat16 or float32, got {self.precision!r}")
        for name in ("answers", "chunks", "epochs", "batch_size", "val_every", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.windows_per_epoch is not None and self.windows_per_epoch < self.batch_size:
            raise ConfigError(
                f"windows_per_epoch must be null or at least batch_size ({self.batch_size}), "
                f"got {self.windows_per_epoch}"
            )
        if not 0 <= self.seed < MAX_SEED:
            raise ConfigError(f"seed must be at least 0 and below {MAX_SEED}, got {self.seed}")
        for name, least in (("num_workers", 0), ("num_threads", 1), ("checkpoint_every", 0), ("early_stopping", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        for name in ("learning_rate", "final_learning_rate", "weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not self.clip_norm > 0:
            raise ConfigError("clip_norm must be positive: scaled down to 0 a gradient teaches nothing")
        if not self.learning_rate > 0 or not 0 <= self.warmup < 1 or not 0 <= self.ema_decay < 1:
            raise ConfigError("learning_rate must be positive, warmup and ema_decay in [0, 1)")
        get_protocol(self.protocol)
        Memory(self.spikes, self.checkpoint_stages).checked()
        if self.spikes == "uint8" and self.penalty is not None and self.penalty.of == "operations":
            raise ConfigError("a penalty on operations sees no input that is kept as bytes; take spikes: float")
        loggers = get_args(get_type_hints(type(self))["logger"])
        if self.logger not in loggers:
            raise ConfigError(f"unknown logger {self.logger!r}{did_you_mean(str(self.logger), loggers)}")
        if self.weights_parts not in PARTS:
            raise ConfigError(f"unknown weights_parts {self.weights_parts!r}{did_you_mean(self.weights_parts, PARTS)}")
        if self.weights_parts == "encoder" and self.freeze not in (None, "encoder"):
            raise ConfigError(
                f"freeze: {self.freeze} would keep a random decoder, for weights_parts: encoder takes none"
            )
        if self.freeze not in (None, *FREEZABLE):
            raise ConfigError(f"unknown freeze {self.freeze!r}{did_you_mean(str(self.freeze), FREEZABLE)}")
        if self.freeze is not None and self.weights is None:
            raise ConfigError(f"freeze: {self.freeze} would keep random weights; name the weights to start from")
        factor = self.encoder_learning_rate
        if factor is not None and not 0 < factor < math.inf:
            raise ConfigError(
                f"encoder_learning_rate must be a positive factor, got {factor}; freeze: encoder stops it"
            )
        if self.teacher is not None and (self.answers > 1 or self.chunks > 1):
            raise ConfigError("a teacher shows one answer of one window; take answers: 1 and chunks: 1, or no teacher")
        if self.teacher is None and self.distillation is not None:
            raise ConfigError("distillation needs a teacher: name its weight file or run folder as teacher")
        for task, weight in (self.task_weights or {}).items():
            if not 0 <= weight < math.inf:
                raise ConfigError(f"task_weights.{task} must be finite and not negative, got {weight}")

    def build(self) -> Detector:
        """Return the network to train: its weights are fixed by the seed, or are those to start from."""
        torch.manual_seed(self.seed)
        return build(self.preset, weights=self.weights, weights_parts=self.weights_parts, **self.network)


NESTED: dict[str, type] = {"augmentation": Augmentation, "penalty": SpikePenalty, "distillation": Distillation}
"""Fields of a recipe that hold settings of their own."""


MAX_VALUES = 10_000
"""Fifty times the largest study here."""


def read_yaml(path: str | Path, what: str = "recipe", *, deepest: int = 3) -> dict[str, Any]:
    """Return the mapping of a YAML file.

    Args:
        path: the file.
        what: what to call it in an error.
        deepest: how deep its values may be nested.

    Raises:
        ConfigError: the file is missing or no YAML mapping, nested too deep, or holds numbers that are not finite.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); give a {what} file") from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError, AttributeError, KeyError) as error:
        # The parser passes on what Python says to infinite numbers, impossible dates and deep nests.
        raise ConfigError(f"{str(path)[:200]!r}: is no YAML ({' '.join(str(error).split())[:300]})") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must map names of {what} fields to values, got {type(values).__name__}")
    _refuse_wild(path, values, what, deepest)
    return values


def _refuse_wild(path: str | Path, values: dict[str, Any], what: str, deepest: int) -> None:
    """Refuse numbers that are not finite, and values deeper or more than any field has: YAML aliases repeat others."""
    waiting = [(str(name), value, 0) for name, value in values.items()]
    count = 0
    while waiting:
        name, value, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or (isinstance(value, dict | list | set) and len(value) > MAX_VALUES):
            raise ConfigError(
                f"{path}: {name[:100]} and the others hold more than {MAX_VALUES} values, as no {what} does"
            )
        if depth > deepest:
            raise ConfigError(f"{path}: {name} is nested deeper than any field of a {what}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{path}: {name} must be a finite number, got {value}")
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise ConfigError(f"{path}: {name} must lie between -1e300 and 1e300")
        if isinstance(value, dict | list | tuple | set):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}", item, depth + 1) for key, item in inner]


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Return the fields of a recipe file.

    Raises:
        ConfigError: the file is missing or no YAML mapping, or a field is unknown or of the wrong kind.
    """
    return parse_recipe(read_yaml(path), str(path))


def parse_recipe(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the fields of a recipe, each of the kind it should be.

    Args:
        values: the fields, as from YAML.
        where: what to name in an error.

    Raises:
        ConfigError: a field is unknown or of the wrong kind.
    """
    for kind, found, what in (
        (Recipe, values, "recipe field"),
        *((kind, values.get(name), f"{name} setting") for name, kind in NESTED.items()),
    ):
        known = [field.name for field in dataclasses.fields(kind)]
        hints = get_type_hints(kind)
        for name, value in found.items() if isinstance(found, dict) else ():
            if name not in known:
                raise ConfigError(f"{where}: unknown {what} {name!r}{did_you_mean(str(name), known)}")
            if value is None and NoneType not in get_args(hints[name]):
                raise ConfigError(f"{where}: {what} {name!r} is empty; give a value or leave it out")
    values = dict(values)
    try:
        if isinstance(values.get("network"), Mapping):
            values["network"] = numbers_from_text(values["network"])
        # YAML takes 2e-3 for text; this takes it for the number that the field wants.
        checked = _checker().parse_object(values, defaults=False)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except argparse.ArgumentError as error:
        raise ConfigError(f"{where}: {error}") from error
    return {name: _as_given(checked[name], value) for name, value in values.items()}


def _as_given(checked: Any, given: Any) -> Any:
    """Return what was given of a checked value: after parsing arguments, jsonargparse fills in defaults everywhere."""
    if isinstance(checked, Namespace) and isinstance(given, Mapping):
        return Namespace(**{name: _as_given(checked[name], value) for name, value in given.items()})
    return checked


@cache
def _checker() -> ArgumentParser:
    checker = ArgumentParser(exit_on_error=False, default_env=False)
    checker.add_class_arguments(Recipe)
    return checker


def make_recipe(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of fields of the right kind.

    Raises:
        ConfigError: a value is impossible, also one of the network.
    """
    made = dict(values)
    for name, kind in NESTED.items():
        if made.get(name) is not None:
            made[name] = kind(**vars(made[name]))
    if "network" in made:
        made["network"] = numbers_from_text(made["network"])
    recipe = Recipe(**made)
    # Built here so that a wrong network setting is refused before any work.
    network = config_of(recipe)
    if recipe.answers > 1 and not 0 < recipe.answers * network.head.readout_steps <= network.voxels.num_steps:
        raise ConfigError(
            f"answers: {recipe.answers} answers of head.readout_steps={network.head.readout_steps} steps do not divide "
            f"a window of voxels.num_steps={network.voxels.num_steps}; set network.head.readout_steps, or ask for fewer"
        )
    if recipe.chunks > 1:
        _check_chunks(recipe, network)
    tasks = network.tasks
    for where, names in (("task_weights", list(recipe.task_weights or {})), ("select_by", [recipe.select_by])):
        for name in names:
            if name is not None and name not in tasks:
                raise ConfigError(
                    f"{where}: the network has no task {name!r}{did_you_mean(name, tasks)}; name it in network.tasks"
                )
    return recipe


def _check_chunks(recipe: Recipe, network: DetectorConfig) -> None:
    """Refuse windows that do not follow each other, or answers that do not."""
    voxels, each = network.voxels, network.head.readout_steps
    if voxels.takes_frames or voxels.num_events or network.classifies:
        raise ConfigError(
            f"chunks: {recipe.chunks} needs a detector in windows of events that are all as long: set "
            "voxels.mode to binary or count and voxels.num_events to 0"
        )
    if recipe.answers > 1 and recipe.answers * each != voxels.num_steps:
        raise ConfigError(
            f"chunks: {recipe.chunks} needs answers all along a window, but {recipe.answers} of {each} steps fill "
            f"{recipe.answers * each} of its {voxels.num_steps}; set answers to 1 or {voxels.num_steps / each:g}"
        )


def config_of(recipe: Recipe) -> DetectorConfig:
    """Return the configuration of a recipe's network.

    Raises:
        ConfigError: a network setting is unknown, of the wrong kind or impossible.
    """
    if recipe.preset is None and recipe.weights is not None:
        return with_changes(weights.config_of(recipe.weights), recipe.network)
    return with_changes(PRESETS[recipe.preset or "nano"], recipe.network)
