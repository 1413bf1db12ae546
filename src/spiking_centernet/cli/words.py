"""Words of a command line in an order that leaves no doubt: arguments first, then every option with its values."""

import argparse
import difflib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from spiking_centernet.errors import ConfigError


def element(annotation: Any) -> Any:
    """Return the type of a list's elements, also of ``list[...] | None``; None of what is no list."""
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((typing.get_args(kind)[0] for kind in kinds if typing.get_origin(kind) is list), None)


def in_order(
    words: Sequence[str],
    parameters: Mapping[str, inspect.Parameter],
    actions: Mapping[str, argparse.Action],
) -> list[str]:
    """Return the words with the arguments in front, and a list in brackets, ``--threads [1,2]``, as separate words.

    An option that takes several values ends at the first word that cannot be one of them, so that
    ``detect small --scale 0.5 drive.dat`` means what it says.

    Args:
        words: what was typed behind the command.
        parameters: of the command's function.
        actions: of the command's options, by their names.

    Raises:
        ConfigError: If values are separated by commas.
    """
    places = [p for p in parameters.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    front: list[str] = []
    options: list[str] = []
    option, kind, room = "", None, 0.0  # the option whose values come next, of which type, and how many
    for k, word in enumerate(words):
        if word == "--":
            return [*front, *options, *words[k:]]
        if word.startswith("--") or word in actions:
            option, equals, value = word.partition("=")
            parameter = parameters.get(option.removeprefix("--"))
            kind = None if parameter is None else element(parameter.annotation)
            action = actions.get(option)
            # Options that are not known here are the fields of a recipe's fields.
            room = float("inf") if kind else 0 if action is not None and action.nargs == 0 else 1
            options.append(option if equals and kind else word)
            if not equals:
                continue
            room, word = (room, value) if kind else (0, "")
            if not kind:
                continue
        elif kind and room and options[-1] != option and _ends_list(word, kind, front, places):
            room = 0
        if not room:
            front.append(word)
        elif kind:
            options += _values(word, option, kind)
        else:
            options.append(word)
            room = 0
    return [*front, *options]


def _values(word: str, option: str, kind: Any) -> list[str]:
    """Return the values that a word gives to an option that takes several."""
    if word.startswith("[") and word.endswith("]"):
        return list(map(str, yaml.safe_load(word)))
    if "," in word and kind is not Path:
        separate = " ".join(part.strip() for part in word.split(",") if part.strip())
        raise ConfigError(f"{option} takes values separated by spaces; did you mean {option} {separate}?")
    return [word]


def _ends_list(word: str, kind: Any, front: Sequence[str], places: Sequence[inspect.Parameter]) -> bool:
    """Return whether a word that may be one more value of an option is an argument of the command instead."""
    takes_many = any(element(place.annotation) for place in places)
    if len(front) >= len(places) and not takes_many:
        return False
    if kind is Path or _fits(word, kind):
        return kind is str and Path(word).suffix.lower() in _recording_suffixes()
    if any(mark in word for mark in "/.*") or Path(word).exists():
        return not _is_number(word)
    if typing.get_origin(kind) is Literal and difflib.get_close_matches(word, kind.__args__, n=1):
        return False
    required = sum(place.default is inspect.Parameter.empty for place in places)
    return len(front) < required and not _is_number(word)


def _fits(word: str, kind: Any) -> bool:
    """Return whether a word is a value of a type."""
    if typing.get_origin(kind) is Literal:
        return word in kind.__args__
    try:
        kind(word)
    except ValueError:
        return False
    return True


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _recording_suffixes() -> set[str]:
    from spiking_centernet.data.io import OPENERS

    return set(OPENERS)
