"""From words to a call: the parser of a command is made from its function's signature and docstring."""

import argparse
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from docstring_parser import Docstring
from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

import spiking_centernet
from spiking_centernet.cli import values
from spiking_centernet.cli.commands import COMMANDS
from spiking_centernet.cli.words import element, in_order
from spiking_centernet.errors import ConfigError, did_you_mean

ArgumentError = argparse.ArgumentError
"""What :func:`parse` raises for a missing value."""


def parse(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the name of a command and the arguments to call its function with.

    Raises:
        ConfigError: If a command, an option, a value or a recipe field is unknown or impossible.
        argparse.ArgumentError: If a value is missing.
        SystemExit: If help or version was asked for and shown.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        raise SystemExit(0)
    if argv[0] == "--version":
        print(f"scn {spiking_centernet.__version__}")
        raise SystemExit(0)
    name, *words = argv
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise ConfigError(f"unknown {kind} {name!r}{did_you_mean(name, ('--help', '--version', *COMMANDS))}")
    return name, _Command(name, COMMANDS[name]).parse(words)


def example(name: str) -> str:
    """Return the command line that the help of a command shows."""
    return (parse_docstring(COMMANDS[name].__doc__ or "").examples[0].description or "").strip()


def _overview() -> str:
    lines = ["usage: scn [--help] [--version] COMMAND ...", "", f"{spiking_centernet.__doc__}".split("\n")[0]]
    lines += ["", "commands:"]
    for name, function in COMMANDS.items():
        summary = (function.__doc__ or "").strip().split("\n")[0]
        lines += textwrap.wrap(summary, 100, initial_indent=f"  {name:<10}", subsequent_indent=" " * 12)
    return "\n".join([*lines, "", "Every command explains itself: scn COMMAND --help"])


class _HelpFormatter(DefaultHelpFormatter):
    """Names types as users write their values."""

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action) or ""
        text = text.replace("<class 'Path'>", "path")
        return re.sub(r"(?:Optional\[)?Literal\[(.*?)\]\]?", lambda m: m[1].replace("'", "").replace(", ", " | "), text)


class _Command:
    """The parser of one command."""

    def __init__(self, name: str, function: Callable[..., None]):
        self.parameters = inspect.signature(function).parameters
        doc = parse_docstring(function.__doc__ or "")
        # The text between the summary and the arguments belongs to the description.
        text = " ".join(part for part in (doc.short_description, doc.long_description) if part)
        self.parser = ArgumentParser(
            prog=f"scn {name}", description=text, epilog=f"example: {example(name)}", exit_on_error=False,
            allow_abbrev=False, default_env=False, formatter_class=_HelpFormatter,
        )  # fmt: skip
        for parameter in self.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._add_recipe()
            else:
                self._add(parameter, doc)
        # The program reads it; no command takes it.
        self.parser.add_argument("--quiet", action="store_true", help="no messages and no progress, only warnings")

    def _add(self, parameter: inspect.Parameter, doc: Docstring) -> None:
        help_text = next((p.description for p in doc.params if p.arg_name == parameter.name), None)
        settings: dict[str, Any] = {"help": " ".join((help_text or "").split()).rstrip(".")}
        positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        required = parameter.default is inspect.Parameter.empty
        kind = parameter.annotation
        if kind is bool:
            self.parser.add_argument(f"--{parameter.name}", action="store_true", **settings)
            return
        if kind_of_each := element(kind):
            settings |= {"nargs": "+" if required or parameter.default else "*", "type": kind_of_each}
        else:
            settings["type"] = kind
        if values.Size in (kind, *typing.get_args(kind)):
            settings["metavar"] = "WIDTHxHEIGHT"
        if not required:
            default = parameter.default
            settings["default"] = list(default) if isinstance(default, tuple) else default
        if positional:
            if not required and "nargs" not in settings:
                settings["nargs"] = "?"
            self.parser.add_argument(parameter.name, **settings)
        else:
            self.parser.add_argument(f"--{parameter.name}", required=required, **settings)

    def _add_recipe(self) -> None:
        from spiking_centernet.training.config import Recipe

        self.parser.add_class_arguments(Recipe)

    def parse(self, words: list[str]) -> dict[str, Any]:
        """Return the arguments that the words give."""
        self._check_options(words)
        words = in_order(words, self.parameters, self.parser._option_string_actions)
        found = self._parse(words)
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in self.parameters.values()):
            return {name: found[name] for name in self.parameters}
        from spiking_centernet.training.config import Recipe

        # The recipe's fields are the defaults of the options: these override it one by one.
        self.parser.set_defaults(_recipe_fields(found))
        found = self._parse(words)
        names = [p.name for p in self.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        return {name: found[name] for name in (*names, *Recipe.__dataclass_fields__)}

    def _parse(self, words: list[str]) -> Namespace:
        try:
            return self.parser.parse_args(words)
        except ArgumentError as error:
            raise self._explained(error, words) from error

    def _check_options(self, words: list[str]) -> None:
        known = list(self.parser._option_string_actions)
        for word in words:
            name = word.split("=", 1)[0]
            if name.startswith("--") and name != "--" and name not in known and name.split(".", 1)[0] not in known:
                raise ConfigError(f"unknown option {name}{did_you_mean(name, known)}")

    @property
    def _lists(self) -> list[str]:
        """The options that take several values of any kind."""
        return [
            f"--{p.name}" for p in self.parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY and element(p.annotation) in (str, Path)
        ]  # fmt: skip

    def _as_typed(self, name: str) -> str:
        """Return an option with its dashes, another argument as it is."""
        parameter = self.parameters.get(name)
        return f"--{name}" if parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY else name

    def _explained(self, error: ArgumentError, words: list[str]) -> Exception:
        """Return the error in terms of what was typed."""
        if missing := re.search(r"the following arguments are required: (.+)", str(error)):
            names = ", ".join(map(self._as_typed, missing[1].split(", ")))
            lists = [word for word in words if word in self._lists]
            behind = f" before {lists[0]}, which takes every word behind it" if lists else ""
            return ConfigError(f"give {names}{behind}; see {self.parser.prog} --help")
        match = re.search(r'Parser key "(\w+)"', str(error))
        parameter = self.parameters.get(match[1]) if match else None
        if parameter is None:
            return error
        option = self._as_typed(parameter.name)
        given = _given(option, words)
        kind = element(parameter.annotation) or parameter.annotation
        choices = [c for k in (kind, *typing.get_args(kind)) if typing.get_origin(k) is Literal for c in k.__args__]
        if choices:
            wrong = next((word for word in given if word not in choices), " ".join(given))
            return ConfigError(f"{option}: unknown value {wrong!r}{did_you_mean(wrong, choices)}")
        takes = values.describe(kind)
        return ConfigError(f"{option} takes {takes}, got {' '.join(given)!r}") if takes else error


ARGUMENTS = {
    "size_hw=(height, width)": "--size WIDTHxHEIGHT", "size_hw": "--size", "every_us": "--every_ms",
    "shown_us": "--shown_ms",
}  # fmt: skip
"""What the functions behind the commands call an argument -> the option that it comes from."""


def in_options(text: str, command: str | None) -> str:
    """Return a message of the package with the options of a command for the arguments of Python functions."""
    if command not in COMMANDS:
        return text
    parameters = inspect.signature(COMMANDS[command]).parameters.values()
    options = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    text = re.sub(
        r"(?<![\w.-])(\w+)='(\w+)'", lambda said: f"--{said[1]} {said[2]}" if said[1] in options else said[0], text
    )
    known = {name: option for name, option in ARGUMENTS.items() if option.split()[0].removeprefix("--") in options}
    known |= {name: f"--{name}" for name in options if "_" in name}
    for name in sorted(known, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?!\w)", known[name], text)
    return text


def _recipe_fields(found: Namespace) -> dict[str, Any]:
    """Return the fields of the recipe that was named, or of the one that suits the data."""
    from spiking_centernet.training import recipes
    from spiking_centernet.training.config import read_recipe

    if found["recipe"] is not None:
        return read_recipe(recipes.find_recipe(found["recipe"]))
    return recipes.suggest(found["data"], weights=found["weights"]).read()


def _given(option: str, words: list[str]) -> list[str]:
    """Return the words that were given to an option."""
    for k, word in enumerate(words):
        if word.startswith(f"{option}="):
            return [word.split("=", 1)[1]]
        if word == option:
            after = words[k + 1 :]
            stop = next((j for j, later in enumerate(after) if later.startswith("--")), len(after))
            return after[:stop]
    return []
