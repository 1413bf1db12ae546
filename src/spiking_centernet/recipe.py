"""Recipes from YAML: read, every name and kind checked, made."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from spiking_centernet.distill import Distillation
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.events import Augmentation
from spiking_centernet.nn import PRESETS, DetectorConfig
from spiking_centernet.train import Recipe
from spiking_centernet.weights import config_from_dict, config_to_dict

NESTED: dict[str, type] = {"augmentation": Augmentation, "distillation": Distillation}
"""Fields of a recipe that hold settings of their own."""


def read_yaml(path: str | Path, what: str = "recipe") -> dict[str, Any]:
    """Return the mapping of a YAML file.

    Raises:
        ConfigError: the file is missing or no YAML mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); give a {what} file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must map names of {what} fields to values, got {type(values).__name__}")
    return values


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
        (DetectorConfig, values.get("network"), "network setting"),
        *((kind, values.get(name), f"{name} setting") for name, kind in NESTED.items()),
    ):
        known = [field.name for field in dataclasses.fields(kind)]
        for name in found if isinstance(found, dict) else ():
            if name not in known:
                raise ConfigError(f"{where}: unknown {what} {name!r}{did_you_mean(str(name), known)}")
    checker = ArgumentParser(exit_on_error=False, default_env=False)
    checker.add_class_arguments(Recipe)
    try:
        # YAML takes 2e-3 for text; this takes it for the number that the field wants.
        checked = checker.parse_object(dict(values))
    except argparse.ArgumentError as error:
        raise ConfigError(f"{where}: {error}") from error
    return {name: checked[name] for name in values}


def make_recipe(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of fields of the right kind.

    Raises:
        ConfigError: a value is impossible, also one of the network.
    """
    made = dict(values)
    for name, kind in NESTED.items():
        if made.get(name) is not None:
            made[name] = kind(**vars(made[name]))
    recipe = Recipe(**made)
    # Built here so that a wrong network setting is refused before any work.
    config_of(recipe)
    return recipe


def config_of(recipe: Recipe) -> DetectorConfig:
    """Return the configuration of a recipe's network.

    Raises:
        ConfigError: a network setting is unknown, of the wrong kind or impossible.
    """
    return config_from_dict(config_to_dict(PRESETS[recipe.preset]) | recipe.network)
