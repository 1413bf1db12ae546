"""Labels that were corrected in a COCO tool, back in the folder whose pictures they were drawn on."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from spiking_centernet.data.convert import coco, prophesee
from spiking_centernet.data.convert.labels import Labels, read_names
from spiking_centernet.data.layouts import BOXES_SUFFIX
from spiking_centernet.errors import BoxFileError
from spiking_centernet.utils.files import atomic_write


def take_back(
    corrected: str | os.PathLike[str], folder: str | os.PathLike[str], *, split: str | None = None
) -> tuple[Path, Labels]:
    """Write the boxes of a corrected COCO file over those of the recording whose pictures it names.

    Class names are matched with the folder's ``classes.txt``, whatever numbers the tool gave them; new ones are added
    at its end. The time of a picture is its ``t_us``, or where the tool dropped that, what its name says.

    Args:
        corrected: COCO JSON of the pictures of one recording.
        folder: what ``inference.labeling.write_labels`` wrote.
        split: of the recording; needed where several splits hold it.

    Returns:
        the box file, and the labels that it holds now.

    Raises:
        BoxFileError: If the file is damaged, or its pictures belong to no recording of the folder or to several.
    """
    corrected, folder = Path(corrected), Path(folder)
    labels = coco.read(corrected)
    stem = _stem(corrected)
    found = sorted(folder.glob(f"{split or '*'}/*{BOXES_SUFFIX}"))
    # Tools put their own words before the name of a picture.
    fitting = [path for path in found if stem.endswith(path.name.removesuffix(BOXES_SUFFIX))]
    longest = max((len(path.name) for path in fitting), default=0)
    fitting = [path for path in fitting if len(path.name) == longest]
    if len(fitting) != 1:
        known = ", ".join(str(path.relative_to(folder)) for path in fitting or found) or "nothing"
        why = "give --split" if fitting else "give the folder that scn label wrote"
        raise BoxFileError(f"{corrected}: its pictures are called {stem}_...; {folder} holds {known}: {why}")
    names = folder / "classes.txt"
    before = read_names(names) if names.is_file() else ()
    classes = before + tuple(name for name in labels.classes if name not in before)
    boxes, crowds = labels.boxes.copy(), labels.crowds.copy()
    place = np.array([classes.index(name) for name in labels.classes], "u1")
    boxes["class_id"], crowds["class_id"] = place[boxes["class_id"]], place[crowds["class_id"]]
    if classes != before:
        with atomic_write(names) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    renamed = replace(labels, boxes=boxes, crowds=crowds, classes=classes)
    prophesee.write(fitting[0], renamed)
    return fitting[0], renamed


def _stem(corrected: Path) -> str:
    """Return what the names of all pictures begin with.

    Raises:
        BoxFileError: If they name several recordings, or no time.
    """
    stems = {re.sub(coco.TIME_IN_NAME, "", Path(name).name) for name in coco.picture_names(corrected)}
    if len(stems) != 1:
        names = ", ".join(sorted(stems)[:5]) or "none"
        raise BoxFileError(
            f"{corrected}: its pictures belong to several recordings or to none ({names}); split the file"
        )
    return stems.pop()
