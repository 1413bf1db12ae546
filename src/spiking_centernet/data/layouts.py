"""How published data sets lay out their files: where recordings and boxes lie, what class ids mean.

Definitions over one folder reader; none of these data sets comes with this package, and its tests write small files in
their layouts. Sources: GEN1 (arXiv 2001.08499), 1 Mpx (arXiv 2009.13436), DSEC-Det (github.com/uzh-rpg/dsec-det),
eTraM (arXiv 2403.19976; the boxes next to the events have its baselines' three classes, says
github.com/eventbasedvision/eTraM/issues/6, and those of all eight come in archives of their own), PEDRo
(github.com/SSIGPRO/PEDRo-Event-Based-Dataset). Those of pictures and of whole recordings with one class have modules
of their own.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spiking_centernet.data import class_layouts, coco_layout, image_layouts, kitti_layout
from spiking_centernet.data.box_files import read_boxes
from spiking_centernet.data.dsec_layout import read_dsec
from spiking_centernet.data.frames import FRAMES_SUFFIX, is_image
from spiking_centernet.data.object_files import CAMERA_SUFFIX, OBJECTS_SUFFIX, Objects, read_beside
from spiking_centernet.errors import BoxFileError, ConfigError, DatasetError, did_you_mean
from spiking_centernet.structures import BOX_DTYPE, CLASS_NAMES, find_class

BOXES_SUFFIX, CROWDS_SUFFIX = "_bbox.npy", "_crowds.npy"
CLASSES_FILE = "classes.txt"
"""Names of the classes, a line each, in the order of their ids; beside the boxes or in the folder of the splits."""


@dataclass(frozen=True)
class Files:
    """The files of one recording and its name, unlike every other of its split."""

    name: str
    events: Path
    boxes: Path

    @property
    def objects(self) -> Path:
        """Where 3D boxes and joints lie, if the recording has them."""
        return self.boxes.with_name(self.boxes.name.removesuffix(BOXES_SUFFIX) + OBJECTS_SUFFIX)

    @property
    def camera(self) -> Path:
        """Where the camera lies, if it is known."""
        return self.boxes.with_name(self.boxes.name.removesuffix(BOXES_SUFFIX) + CAMERA_SUFFIX)

    @property
    def crowds(self) -> Path:
        """Where regions lie that are neither learned nor scored, boxes in the layout of the box file."""
        return self.boxes.with_name(self.boxes.name.removesuffix(BOXES_SUFFIX) + CROWDS_SUFFIX)

    @property
    def frames(self) -> Path | None:
        """The picture that the recording is, or the folder of pictures next to its events, None if there is none."""
        if is_image(self.events):
            return self.events
        folder = self.boxes.with_name(self.boxes.name.removesuffix(BOXES_SUFFIX) + FRAMES_SUFFIX)
        return folder if folder.is_dir() else None


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        name: of the data set.
        find: returns the recordings of ``root`` and a split.
        read: returns a recording's boxes as BOX_DTYPE, class ids counting through the stored names.
        stored_classes: what stored class ids count through; None where ``classes.txt`` says it, or else they count
            through the names asked for.
        classes: the names that are scored.
        size_hw: height and width in pixels, where the files do not say.
        mirrors: whether the mirrored picture keeps its label; a left hand's wave becomes a right hand's.
        classifies: whether a recording has one class, whose box is the whole frame.
        names_of: returns the classes of a folder that names them itself; None where the layout fixes them.
        has_pictures: whether recordings are pictures, without events.
        read_crowds: returns regions of a recording that are neither learned nor scored, as ``read`` returns boxes; None
            where they lie in a file next to the boxes, if there are any.
        read_objects: returns 3D boxes, joints and cameras that label files of the layout's own hold; None where there
            are none but those next to box files.
    """

    name: str
    find: Callable[[Path, str], list[Files]]
    read: Callable[[Files, Sequence[str]], np.ndarray]
    stored_classes: tuple[str, ...] | None
    classes: tuple[str, ...]
    size_hw: tuple[int, int] | None = None
    mirrors: bool = True
    classifies: bool = False
    names_of: Callable[[Path], tuple[str, ...]] | None = None
    has_pictures: bool = False
    read_crowds: Callable[[Files, Sequence[str]], np.ndarray] | None = None
    read_objects: Callable[[Files], Objects | None] | None = None

    def at(self, root: Path) -> "Layout":
        """Return the layout with the classes that a folder names, where it names them itself.

        Raises:
            DatasetError, BoxFileError: the folder does not say what its layout wants.
        """
        if self.names_of is None or self.stored_classes is not None:
            return self
        names = read_class_names(root) or self.names_of(root)
        return replace(self, stored_classes=names, classes=names)

    def boxes(self, files: Files, classes: Sequence[str]) -> np.ndarray:
        """Return the boxes of the classes asked for, their ids counting through those.

        Raises:
            ConfigError: a class is not one of this data set's.
            BoxFileError: the box file is damaged.
        """
        return self._of_classes(files, classes, self.read)

    def crowds(self, files: Files, classes: Sequence[str]) -> np.ndarray:
        """Return regions of the classes asked for in which objects are neither learned nor scored, as :meth:`boxes`."""
        read = self.read_crowds
        if read is None and files.crowds.is_file():
            return self._of_classes(
                files, classes, lambda files, stored: read_boxes(files.crowds, classes=stored, areas=True)
            )
        return np.zeros(0, BOX_DTYPE) if read is None else self._of_classes(files, classes, read)

    def objects(self, files: Files) -> Objects | None:
        """Return 3D boxes, joints and cameras of a recording, None where there are none.

        Raises:
            BoxFileError: a file is damaged.
        """
        if self.read_objects is not None:
            return self.read_objects(files)
        return read_beside(files.objects, files.camera, files.boxes)

    def _of_classes(
        self, files: Files, classes: Sequence[str], read: Callable[[Files, Sequence[str]], np.ndarray]
    ) -> np.ndarray:
        beside = files.boxes.parent, files.boxes.parent.parent  # the split, and the folder that holds the splits
        stored_classes = self.stored_classes or read_class_names(*beside) or _by_position(files, classes)
        found = [find_class(name, stored_classes) for name in classes]
        if all(index is None for index in found):
            raise ConfigError(f"{self.name} has no class {classes[0]!r}{did_you_mean(classes[0], stored_classes)}")
        boxes = read(files, stored_classes)
        place = np.full(len(stored_classes), -1)
        for label, index in enumerate(found):
            if index is not None:
                place[index] = label
        ids = place[boxes["class_id"]]
        kept = boxes[ids >= 0]
        kept["class_id"] = ids[ids >= 0]
        return kept


def read_class_names(*folders: Path) -> tuple[str, ...] | None:
    """Return the names in the first ``classes.txt`` of these folders, None where none has one.

    Raises:
        DatasetError: the file cannot be read, names nothing, or names a class twice.
    """
    path = next((folder / CLASSES_FILE for folder in folders if (folder / CLASSES_FILE).is_file()), None)
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: cannot be read as text ({error}); write the names of the classes, a line each"
        ) from error
    names = tuple(name for line in lines if (name := line.strip()))
    if not names or len(set(names)) < len(names):
        what = "names no class" if not names else f"names {next(n for n in names if names.count(n) > 1)!r} twice"
        raise DatasetError(f"{path}: {what}; write the names of the classes in the order of their ids, a line each")
    return names


def folder_classes(root: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Return the classes that a data set names: those its layout scores, or those of ``classes.txt``.

    Args:
        root: folder that holds the splits; the name of its layout may stand before it.

    Returns:
        the names in the order of their ids; None of a folder that does not name them: its ids are GEN1's.

    Raises:
        DatasetError: ``classes.txt`` is no list of names.
    """
    layout, folder = locate(root)
    return layout.classes if layout.stored_classes is not None else read_class_names(folder / "train", folder)


def _by_position(files: Files, classes: Sequence[str]) -> Sequence[str]:
    """Return the classes that ids count through in a folder that does not name them.

    Raises:
        DatasetError: cars or pedestrians are asked for under other numbers than GEN1 and the simulator give them.
    """
    for number, name in enumerate(CLASS_NAMES):
        if name in classes and classes.index(name) != number:
            raise DatasetError(
                f"{files.boxes}: has class numbers without names, and the network's class {name!r} is number "
                f"{classes.index(name)}, GEN1's is {number}; write the names, a line each, into "
                f"{files.boxes.parent.parent / 'classes.txt'}, or say gen1:FOLDER"
            )
    return classes


def get_layout(layout: "str | Layout") -> Layout:
    """Return the layout of this name.

    Raises:
        ConfigError: no layout has the name.
    """
    if isinstance(layout, Layout):
        return layout
    if layout not in LAYOUTS:
        raise ConfigError(f"no data set layout is called {layout!r}{did_you_mean(layout, LAYOUTS)}")
    return LAYOUTS[layout]


def locate(root: str | os.PathLike[str], layout: "str | Layout" = "folder") -> tuple[Layout, Path]:
    """Return layout and folder of ``root``, which may begin with a layout's name: ``"dsec-det:/data/dsec"``.

    A folder of pictures in the layout of COCO, YOLO, VOC or KITTI is known without its name.
    """
    name, colon, rest = os.fspath(root).partition(":")
    if colon and name in LAYOUTS:
        return LAYOUTS[name].at(Path(rest)), Path(rest)
    if layout == "folder" and Path(root).is_dir() and not any(Path(root).glob("*/*_td.dat")):
        layout = _picture_kind(Path(root)) or layout
    return get_layout(layout).at(Path(root)), Path(root)


def _picture_kind(root: Path) -> str | None:
    if kitti_layout.is_kitti(root):
        return "kitti"
    return "coco" if coco_layout.is_coco(root) else image_layouts.detect_kind(root)


def split_folder(root: Path, *parts: str) -> Path:
    """Return a folder under ``root``.

    Raises:
        DatasetError: it is not there; says what is.
    """
    folder = root.joinpath(*parts)
    if folder.is_dir():
        return folder
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder that holds train, val and test")
    found = sorted(path.name for path in root.iterdir())
    raise DatasetError(f"{root}: has no folder {'/'.join(parts)!r}; found: {', '.join(found[:10]) or 'nothing'}")


def _pairs(
    folder: Path, events_suffix: str, boxes_folder: Path | None = None, boxes_suffix: str = BOXES_SUFFIX
) -> list[Files]:
    boxes_folder = boxes_folder or folder
    names = sorted(path.name.removesuffix(events_suffix) for path in folder.glob(f"*{events_suffix}"))
    if not names:
        kinds = Counter(path.suffix or path.name for path in folder.iterdir())
        found = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(5)) or "nothing"
        raise DatasetError(f"{folder}: holds no recording *{events_suffix}; found: {found}")
    boxed = {path.name.removesuffix(boxes_suffix) for path in boxes_folder.glob(f"*{boxes_suffix}")}
    unlabeled, orphans = sorted(set(names) - boxed), sorted(boxed - set(names))
    for missing, suffix, other in ((unlabeled, boxes_suffix, events_suffix), (orphans, events_suffix, boxes_suffix)):
        if missing:
            raise DatasetError(
                f"{folder}: {missing[0]}{suffix} is missing next to {missing[0]}{other} "
                f"({len(missing)} of its kind); add it, or remove the other"
            )
    return [Files(name, folder / f"{name}{events_suffix}", boxes_folder / f"{name}{boxes_suffix}") for name in names]


def _prophesee(root: Path, split: str) -> list[Files]:
    return _pairs(split_folder(root, split), "_td.dat")


def _etram(root: Path, split: str) -> list[Files]:
    """The archives unpack to ``train_h5_1``, ``train_h5_2``, ...; one folder ``train`` serves as well."""
    parts = sorted(path for path in root.glob(f"{split}_h5_*") if path.is_dir()) or [split_folder(root, split)]
    return [files for part in parts for files in _pairs(part, "_td.h5")]


def _dsec(root: Path, split: str) -> list[Files]:
    found = []
    for sequence in sorted(path for path in split_folder(root, split).iterdir() if path.is_dir()):
        events = sequence / "events" / "left" / "events.h5"
        boxes = sequence / "object_detections" / "left" / "tracks.npy"
        for path, other in ((events, boxes), (boxes, events)):
            if other.is_file() and not path.is_file():
                raise DatasetError(f"{path} is missing next to {other}; add it, or remove the other")
        if events.is_file():
            found.append(Files(sequence.name, events, boxes))
    if not found:
        raise DatasetError(f"{root / split}: holds no sequence with events/left/events.h5; unpack DSEC-Det there")
    return found


def _pedro(root: Path, split: str) -> list[Files]:
    return _pairs(split_folder(root, "numpy", split), ".npy", split_folder(root, "xml", split), ".xml")


def _ncars(root: Path, split: str) -> list[Files]:
    return [Files(name, events, events) for name, events in class_layouts.find_ncars(root, split)]


def _gestures(root: Path, split: str) -> list[Files]:
    return [Files(name, events, labels) for name, events, labels in class_layouts.find_gestures(root, split)]


def _pictures(find: Callable[[Path, str], list[image_layouts.Found]]) -> Callable[[Path, str], list[Files]]:
    return lambda root, split: [Files(name, image, labels) for name, image, labels in find(root, split)]


def _read_npy(files: Files, classes: Sequence[str]) -> np.ndarray:
    return read_boxes(files.boxes, classes=classes)


def _read_pedro(files: Files, classes: Sequence[str]) -> np.ndarray:
    """A recording is 40 ms that were looked at as one picture: its boxes stand at its end."""
    from spiking_centernet.data import open as open_recording

    rows = []
    for k, (name, corners, _) in enumerate(image_layouts.read_xml(files.boxes)):
        if name not in classes:
            raise BoxFileError(f"{files.boxes}: object {k} is {name!r}; known: {', '.join(classes)}")
        rows.append((*corners, list(classes).index(name), k))
    boxes = image_layouts.box_rows(files.boxes, rows)
    if len(boxes):
        boxes["ts"] = open_recording(files.events, size_hw=PEDRO_HW).stop_us
    return boxes


PEDRO_HW = (260, 346)

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("folder", _prophesee, _read_npy, None, CLASS_NAMES),
        Layout("gen1", _prophesee, _read_npy, CLASS_NAMES, CLASS_NAMES),
        Layout(
            "1mpx", _prophesee, _read_npy,
            ("pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light"),
            ("pedestrian", "two wheeler", "car"),
        ),
        Layout(
            "dsec-det", _dsec, lambda files, classes: read_dsec(files.events, files.boxes, classes),
            ("pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train"),
            ("car", "pedestrian"), (480, 640),
        ),
        Layout(
            "etram", _etram, _read_npy, ("pedestrian", "vehicle", "micro-mobility"),
            ("pedestrian", "vehicle", "micro-mobility"), (720, 1280),
        ),
        Layout("pedro", _pedro, _read_pedro, ("person",), ("person",), PEDRO_HW),
        Layout(
            "ncars", _ncars, lambda files, classes: class_layouts.read_ncars(files.events),
            class_layouts.NCARS_CLASSES, class_layouts.NCARS_CLASSES, class_layouts.NCARS_HW, classifies=True,
        ),
        Layout(
            "dvs-gesture", _gestures, lambda files, classes: class_layouts.read_gestures(files.boxes),
            class_layouts.GESTURES, class_layouts.GESTURES, class_layouts.GESTURE_HW, mirrors=False,
            classifies=True,
        ),
        Layout(
            "coco", _pictures(coco_layout.find_coco),
            lambda files, classes: coco_layout.read_coco(files.name, files.boxes), None, (),
            names_of=coco_layout.coco_classes, has_pictures=True,
            read_crowds=lambda files, classes: coco_layout.read_coco_crowds(files.name, files.boxes),
            read_objects=lambda files: coco_layout.read_coco_objects(files.name, files.boxes),
        ),
        Layout(
            "yolo", _pictures(image_layouts.find_yolo),
            lambda files, classes: image_layouts.read_yolo(files.events, files.boxes, len(classes)), None, (),
            names_of=image_layouts.yolo_classes, has_pictures=True,
        ),
        Layout(
            "voc", _pictures(image_layouts.find_voc),
            lambda files, classes: image_layouts.read_voc(files.boxes, tuple(classes)), None, (),
            names_of=image_layouts.voc_classes, has_pictures=True,
            read_crowds=lambda files, classes: image_layouts.read_voc(files.boxes, tuple(classes), difficult=True),
        ),
        Layout(
            "kitti", _pictures(kitti_layout.find_kitti),
            lambda files, classes: kitti_layout.read_kitti_boxes(files.boxes, tuple(classes)), None, (),
            names_of=kitti_layout.kitti_classes, has_pictures=True,
            read_crowds=lambda files, classes: kitti_layout.read_kitti_crowds(files.boxes, tuple(classes)),
            read_objects=lambda files: kitti_layout.read_kitti_objects(files.boxes),
        ),
    )
}  # fmt: skip
"""Every layout by its name. The classes are those that papers score: 3 of 7 of 1 Mpx, 2 of 8 of DSEC-Det."""
