"""What a recipe takes from the data: the classes, and which bundled recipe suits its size."""

import dataclasses
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from spiking_centernet.data.box_files import label_timestamps
from spiking_centernet.data.layouts import folder_classes, locate
from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model import Detector
from spiking_centernet.model.config_dict import flat
from spiking_centernet.model.weights import load
from spiking_centernet.structures import CLASS_NAMES, find_class
from spiking_centernet.training.config import FREEZABLE, NESTED, Recipe, make_recipe, parse_recipe, read_recipe
from spiking_centernet.utils.text import counted

logger = logging.getLogger(__name__)

FINE_TUNE, FROM_SCRATCH, PICTURES = "fine_tune", "from_scratch", "pictures"

MANY_FRAMES = 2264
"""Labeled frames from which a network is trained from scratch: the bundled nano was, on as many
(results/nano_roads_training.csv: 283 steps of 8 an epoch)."""

LEAST_STEPS = 300
"""A run on few frames takes more epochs, until it has this many steps."""

MOST_VALIDATIONS = 20


def bundled_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    package = Path(__file__).parents[1]
    # A source tree keeps them in a folder of its own; the build copies them into the package.
    folder = package / "recipes" if (package / "recipes").is_dir() else package.parents[1] / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str | os.PathLike[str]) -> Path:
    """Return the file of a recipe: a path, or the name of a bundled one, with or without its folder and ending.

    Raises:
        ConfigError: there is neither.
    """
    path = Path(name)
    bundled = bundled_recipes()
    if path.is_file() or path.suffix not in ("", ".yaml") or path.parent not in (Path("."), Path("recipes")):
        return path  # whoever reads it says what is wrong with it
    if path.stem in bundled:
        return bundled[path.stem]
    raise ConfigError(f"{name}: cannot be read: neither a file nor a bundled recipe{did_you_mean(path.stem, bundled)}")


def is_recipe(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is a YAML file's or a bundled recipe's."""
    return Path(name).suffix in (".yaml", ".yml") or str(name) in bundled_recipes()


@dataclass(frozen=True)
class Suggestion:
    """A bundled recipe for a data set.

    Attributes:
        name: of the bundled recipe.
        fields: what to change in it.
        reason: why, in a sentence.
    """

    name: str
    fields: dict[str, Any]
    reason: str

    def read(self) -> dict[str, Any]:
        """Return the fields of the recipe with the changes, and say in the log which recipe it is and why."""
        changes = ", ".join(f"{name} {value}" for name, value in self.fields.items())
        logger.info("recipe %s: %s%s", self.name, self.reason, f"; {changes}" if changes else "")
        return read_recipe(bundled_recipes()[self.name]) | self.fields


def suggest(data: str | os.PathLike[str], *, weights: str | None = None) -> Suggestion:
    """Return the bundled recipe that suits a data set: fine-tuning for few labeled frames, from scratch for many.

    Pictures have a recipe of their own, because the bundled weights were trained on events.

    Args:
        data: folder with ``train``.
        weights: what is to be started from in any case.

    Raises:
        DatasetError: the data folder does not hold what it should.
    """
    num_frames = _num_labeled_frames(data)
    if locate(data)[0].has_pictures and weights is None:
        pictures = counted(num_frames, "labeled picture")
        reason = f"{data} holds {pictures}, and the bundled weights were trained on events"
        return Suggestion(PICTURES, _scaled_to(num_frames, read_recipe(bundled_recipes()[PICTURES])), reason)
    many = num_frames >= MANY_FRAMES
    if many and weights is None:
        return Suggestion(FROM_SCRATCH, {}, f"{data} has {num_frames:,} labeled frames, {MANY_FRAMES:,} are enough")
    fields = read_recipe(bundled_recipes()[FINE_TUNE])
    changes = _scaled_to(num_frames, fields) | {"weights": weights or fields["weights"]}
    frames = counted(num_frames, "labeled frame")
    few = f"{frames} {'is' if num_frames == 1 else 'are'} too few for training from scratch"
    why = f"starts from {weights}" if many else few
    return Suggestion(
        FINE_TUNE, changes, f"{data}: {why} (fewer than {MANY_FRAMES:,})" if not many else f"{data}: {why}"
    )


def _scaled_to(num_frames: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return batch size and epochs of a recipe for this many labeled frames, so that it takes enough steps."""
    batch_size = max(1, min(fields["batch_size"], num_frames))
    steps = min(num_frames, fields.get("windows_per_epoch") or num_frames) // batch_size
    epochs = max(fields["epochs"], math.ceil(LEAST_STEPS / steps)) if steps else fields["epochs"]
    return {"batch_size": batch_size, "epochs": epochs, "val_every": max(1, epochs // MOST_VALIDATIONS)}


def suggest_recipe(data: str | os.PathLike[str], *, weights: str | None = None, **fields: Any) -> Recipe:
    """Return the recipe that :func:`suggest` chooses, with fields of your own.

    Raises:
        DatasetError: the data folder does not hold what it should.
        ConfigError: a field is impossible.
    """
    return make_recipe(suggest(data, weights=weights).read() | fields)


def recipe_for(
    recipe: Recipe | str | os.PathLike[str] | None, data: str | os.PathLike[str], fields: Mapping[str, Any]
) -> Recipe:
    """Return a recipe with some fields changed.

    Args:
        recipe: a recipe, a file or the name of a bundled one; None takes what :func:`suggest` chooses for the data.
        data: folder with ``train``.
        fields: what to change.

    Raises:
        DatasetError: the data folder does not hold what it should.
        ConfigError: a field is unknown or impossible, or there is no such recipe.
    """
    if isinstance(recipe, Recipe) and not fields:
        return recipe
    kinds = tuple(NESTED.values())
    plain = {name: vars(value) if isinstance(value, kinds) else value for name, value in fields.items()}
    changes = parse_recipe(plain, "fields of the recipe")
    if recipe is None:
        return suggest_recipe(data, **changes)
    if isinstance(recipe, Recipe):
        return make_recipe({each.name: getattr(recipe, each.name) for each in dataclasses.fields(recipe)} | changes)
    return make_recipe(read_recipe(find_recipe(recipe)) | changes)


def _num_labeled_frames(data: str | os.PathLike[str]) -> int:
    layout, root = locate(data)
    classes = folder_classes(data) or CLASS_NAMES
    if layout.has_pictures:
        return len(layout.find(root, "train"))
    return sum(len(label_timestamps(layout.boxes(files, classes))) for files in layout.find(root, "train"))


def modules_to_freeze(model: Detector, recipe: Recipe) -> list[nn.Module]:
    """Return the modules that keep the weights they start from.

    Raises:
        ConfigError: the branches that find boxes were to keep channels that the weights do not have.
    """
    parts = FREEZABLE.get(recipe.freeze or "", ())
    modules: list[nn.Module] = [getattr(model, part) for part in parts if part != "detect"]
    if "detect" not in parts:
        return modules
    others = {task.column for task in model.head.tasks.values()}
    theirs = load(recipe.weights or "").config.classes
    if missing := [name for name in model.config.classes if find_class(name, theirs) is None]:
        raise ConfigError(
            f"freeze: {recipe.freeze} would keep random weights for the class {missing[0]!r}, which {recipe.weights} "
            "does not know; take freeze: encoder+decoder"
        )
    return [*modules, *(module for name, module in model.heads.items() if name not in others)]


def with_classes_of(recipe: Recipe, data: str | os.PathLike[str]) -> Recipe:
    """Return a recipe whose network has the classes that a data folder names, where it names them.

    Raises:
        ConfigError: the recipe names a class that the data folder does not have.
        DatasetError: the folder's ``classes.txt`` is no list of names.
    """
    named = folder_classes(data)
    if named is None:
        return recipe
    settings = flat(recipe.network)
    asked = settings.get("classes")
    if asked is None:
        logger.info("classes of %s: %s", data, ", ".join(named))
        return dataclasses.replace(recipe, network=settings | {"classes": list(named)})
    if missing := [name for name in asked if find_class(name, named) is None]:
        shared = [name for name in asked if name not in missing]
        choices = ["leave out network.classes to train on the folder's"]
        choices += [f"set it to [{', '.join(shared)}], which both have"] if shared else []
        raise ConfigError(
            f"the recipe's network.classes name {', '.join(missing)}, {data} has {', '.join(named)}; "
            f"{', or '.join(choices)}, or rename them in classes.txt"
        )
    left_out = [name for name in named if find_class(name, asked) is None]
    if left_out:
        logger.info("boxes of %s are left out: network.classes does not name them", ", ".join(left_out))
    return recipe
