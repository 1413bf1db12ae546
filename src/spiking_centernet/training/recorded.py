"""What a run was begun with, compared with what it would be begun with now, also by a later version of the package."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from spiking_centernet.data import Augmentation
from spiking_centernet.model import DetectorConfig
from spiking_centernet.model.config_dict import config_to_dict
from spiking_centernet.training.config import NESTED, Recipe

FREE_TO_CHANGE = {"num_workers", "num_threads", "logger", "checkpoint_every"}
"""Settings that say how a machine runs a recipe, not what is learned: at most, sums are rounded in another order."""


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two resolved recipes differ, by dotted name, with both values.

    A setting that one of them lacks came to the package later: it has its default, which is what was done before. Those
    in ``FREE_TO_CHANGE`` are not compared.

    Args:
        before: plain values as in ``config.yaml`` of a run, the network whole and nested.
        now: the same of the run to go on with.
    """
    changes = _changes("", before, now, _defaults())
    return {name: both for name, both in changes if name not in FREE_TO_CHANGE}


def told(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """Return changed settings as a text for an error."""
    return ", ".join(f"{name} was {before!r}, is {now!r}" for name, (before, now) in changed.items())


def _changes(path: str, before: Any, now: Any, defaults: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted(before.keys() | now.keys(), key=str):
            inner = f"{path}.{name}" if path else str(name)
            default = defaults.get(inner)
            yield from _changes(inner, before.get(name, default), now.get(name, default), defaults)
    elif before != now:
        yield path, (before, now)


def _defaults() -> dict[str, Any]:
    """Return the default of every setting that has one, groups of settings too, by dotted name."""
    found: dict[str, Any] = {}

    def put(path: str, value: Any) -> None:
        found[path] = value
        for name, inner in value.items() if isinstance(value, dict) else ():
            put(f"{path}.{name}", inner)

    for name, kind in NESTED.items():
        put(name, _plain_defaults(kind))
    for name, value in (_plain_defaults(Recipe) | {"network": config_to_dict(DetectorConfig())}).items():
        put(name, value)
    return found


def _plain_defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of a dataclass as JSON has them."""
    made = {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(kind)
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    plain = {k: dataclasses.asdict(v) if isinstance(v, Augmentation) else v for k, v in made.items()}
    return json.loads(json.dumps(plain))
