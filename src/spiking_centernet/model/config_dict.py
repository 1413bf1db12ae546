"""Configurations as plain values: settings changed by dotted name, JSON in weight files, checked field by field."""

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model.config import DetectorConfig

LARGEST = {
    "voxels.bins": 128, "voxels.num_steps": 1000, "voxels.window_us": 60_000_000, "voxels.frame_hw": 8192,
    "encoder.widths": 8192, "encoder.convs_per_stage": 100, "head.width": 8192, "decoder.expansion": 100.0,
}  # fmt: skip
"""Far above any use: beyond, building the network would take all time or memory before its weights are compared."""
MAX_ENTRIES = 1000

FORMAT_1_NAMES = {
    "window_us": "voxels.window_us", "num_steps": "voxels.num_steps", "in_channels": "voxels.bins",
    "input_mode": "voxels.mode", "widths": "encoder.widths", "convs_per_stage": "encoder.convs_per_stage",
    "identity": "encoder.identity", "decoder_blocks": "decoder.num_blocks", "decoder": "decoder.kind",
    "skips": "decoder.skips", "expansion": "decoder.expansion", "neuron": "neuron.kind",
    "surrogate": "neuron.surrogate", "tau": "neuron.tau", "threshold": "neuron.threshold",
    "soft_reset": "neuron.soft_reset", "decay_input": "neuron.decay_input", "detach_reset": "neuron.detach_reset",
    "head": "head.kind", "head_width": "head.width", "score_threshold": "deployment.score_threshold",
    "classes": "classes",
}  # fmt: skip
"""The flat names of weight files of format 1, and what they are called now."""


def config_to_dict(config: DetectorConfig) -> dict[str, Any]:
    """Return a configuration as plain JSON values, nested by owner."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in _setting_fields(value)}
        return list(value) if isinstance(value, tuple) else value

    return plain(config)


def _setting_fields(owner: Any) -> list[dataclasses.Field]:
    """Return the fields that are settings of a network; the scale of a voxel cube is the sensor's affair."""
    return [field for field in dataclasses.fields(owner) if field.metadata.get("setting", True)]


def config_from_dict(values: Mapping[str, Any]) -> DetectorConfig:
    """Return the configuration of plain JSON values; what they leave out is the paper's.

    Raises:
        ConfigError: If a setting is unknown, of the wrong kind or impossible.
    """
    return with_changes(DetectorConfig(), values)


def with_changes(config: DetectorConfig, changes: Mapping[str, Any]) -> DetectorConfig:
    """Return a configuration with single settings changed.

    Args:
        config: what to start from.
        changes: nested, ``{"neuron": {"kind": "relu"}}``, by dotted name, ``{"neuron.kind": "relu"}``, or both.

    Raises:
        ConfigError: If a setting is unknown, of the wrong kind or impossible.
    """
    owned: dict[str, dict[str, Any]] = {}
    for path, value in flat(changes).items():
        _check(path, value, _settings()[path])
        owner, _, name = path.rpartition(".")
        # YAML and JSON know no tuples.
        owned.setdefault(owner, {})[name] = tuple(value) if isinstance(value, list) else value
    top = owned.pop("", {})
    nested = {owner: dataclasses.replace(getattr(config, owner), **values) for owner, values in owned.items()}
    return dataclasses.replace(config, **top, **nested)


def numbers_from_text(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes by dotted name with the numbers that YAML (``2e-3``) or a command line leaves as text.

    Raises:
        ConfigError: If a setting is unknown, or a group of settings is no mapping.
    """

    def number(value: Any, kind: Any) -> Any:
        if isinstance(value, str) and kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
        return value

    return {path: number(value, _settings()[path]) for path, value in flat(changes).items()}


def flat(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes by dotted name alone; of two that name the same setting the later one counts.

    Raises:
        ConfigError: If a setting is unknown, or a group of settings is no mapping.
    """
    if not isinstance(changes, Mapping):
        raise ConfigError(f"a network's configuration must be a mapping of settings, got {changes!r}")
    return dict(_flat(changes))


def differences(config: DetectorConfig, other: DetectorConfig) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two configurations differ, by dotted name, with both values."""
    ours, theirs = flat(config_to_dict(config)), flat(config_to_dict(other))
    return {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]}


def nested_from_format_1(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested configuration of one that lies flat, as weight files of format 1 and their run folders have it.

    Raises:
        ConfigError: If a setting is unknown, or ``in_channels`` is no even number.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"a network's configuration must be a mapping of settings, got {values!r}")
    nested: dict[str, Any] = {}
    for name, value in values.items():
        if name not in FORMAT_1_NAMES:
            raise ConfigError(f"unknown network setting {name!r}{did_you_mean(str(name), FORMAT_1_NAMES)}")
        if name == "in_channels":
            if type(value) is not int or value % 2:
                raise ConfigError(f"in_channels must be an even number, two polarities share them, got {value!r}")
            value //= 2
        owner, _, setting = FORMAT_1_NAMES[name].rpartition(".")
        (nested.setdefault(owner, {}) if owner else nested)[setting] = value
    return nested


def is_format_1(values: Mapping[str, Any]) -> bool:
    """Return whether a whole configuration lies flat."""
    return "widths" in values


@cache
def _settings() -> dict[str, Any]:
    """Return the type of every setting by dotted name."""

    def walk(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
        hints = get_type_hints(kind)
        for name in (field.name for field in _setting_fields(kind)):
            if dataclasses.is_dataclass(hints[name]):
                yield from walk(hints[name], f"{prefix}{name}.")
            else:
                yield prefix + name, hints[name]

    return dict(walk(DetectorConfig, ""))


def _flat(changes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in changes.items():
        path = f"{prefix}{name}"
        inner = [setting for setting in _settings() if setting.startswith(f"{path}.")]
        if path in _settings():
            yield path, value
        elif not inner:
            raise ConfigError(f"unknown network setting {path!r}{_suggestion(path)}")
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _flat({f.name: getattr(value, f.name) for f in _setting_fields(value)}, f"{path}.")
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        else:
            hint = f"did you mean {FORMAT_1_NAMES[path]!r}? " if path in FORMAT_1_NAMES else ""
            raise ConfigError(
                f"network setting {path} must map settings to values, got {value!r}; {hint}known: {', '.join(inner)}"
            )


def _suggestion(path: str) -> str:
    """Return what may be meant by an unknown name: a setting, its last part alone, or what it was called before."""
    known = {setting.rpartition(".")[2]: setting for setting in _settings()} | FORMAT_1_NAMES
    known |= {setting: setting for setting in _settings()}
    close = difflib.get_close_matches(path, known, n=1)
    hint = f"did you mean {known[close[0]]!r}? " if close else ""
    return f"; {hint}known: {', '.join(_settings())}"


MAX_NUMBER = 1e9
"""No setting is larger; squares and products stay finite in float32."""


def _check(path: str, value: Any, hint: Any) -> None:
    kind = get_origin(hint) or hint
    if kind is Literal:
        kind = str
    if not _fits(value, kind):
        raise ConfigError(f"network setting {path} must be {kind.__name__}, got {value!r}")
    if kind is tuple:
        item = get_args(hint)[0]
        if len(value) > MAX_ENTRIES:
            raise ConfigError(f"network setting {path} must hold at most {MAX_ENTRIES} values, got {len(value)}")
        if not all(_fits(entry, item) for entry in value):
            raise ConfigError(f"network setting {path} must hold {item.__name__}, got {value!r}")
    largest = LARGEST.get(path)
    for number in value if isinstance(value, list | tuple) else (value,):
        if largest is not None and number > largest:
            raise ConfigError(f"network setting {path} must be at most {largest}, got {number}")
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"network setting {path} must be finite, got {number}")
        if isinstance(number, int | float) and abs(number) > MAX_NUMBER:
            raise ConfigError(f"network setting {path} must lie between {-MAX_NUMBER:g} and {MAX_NUMBER:g}")


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, {tuple: (list, tuple), float: (float, int)}.get(kind, kind))
