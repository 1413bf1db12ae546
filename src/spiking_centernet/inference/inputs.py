"""What a caller may hand over to detect in: files, folders, patterns, arrays, cubes, packets, live sources."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_centernet.data import Recording
from spiking_centernet.data import open as open_recording
from spiking_centernet.data.formats.arrays import packet_events
from spiking_centernet.data.io import OPENERS, SAMPLES, sample
from spiking_centernet.data.layouts import BOXES_SUFFIX
from spiking_centernet.errors import ConfigError, EventFileError
from spiking_centernet.inference.windows import Packet
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec

TEXT_SUFFIXES = (".csv", ".txt")
"""A folder's text files are recordings only where it holds no others: they may be anything."""


@dataclass(frozen=True)
class Cubes:
    """Voxel cubes that a caller made, [T, B, C, H, W]."""

    tensor: Tensor


@dataclass(frozen=True)
class Live:
    """Packets of events from an iterator, a camera or a socket, and the height and width of the sensor."""

    packets: Iterable[Packet | np.ndarray]
    size_hw: tuple[int, int]


Input = Path | Recording | Cubes | Live
"""A source in the form in which it is detected in; a path is opened when its turn comes."""


def read_source(
    source: Any, *, voxels: VoxelSpec, size_hw: tuple[int, int] | None, columns: str | None, unit: str | None
) -> list[Input]:
    """Return what a source stands for, one entry per recording, batch of cubes or stream.

    Args:
        source: as :func:`~spiking_centernet.inference.predictor.predict` takes it.
        voxels: of the network.
        size_hw: height and width of the sensor in pixels.
        columns: order of columns without names.
        unit: of times.

    Raises:
        ConfigError: the source is of no known kind, a cube of the wrong shape, or the sensor's size is missing.
        EventFileError: no such file, a folder without recordings, or arrays that are no events.
    """
    if isinstance(source, str | os.PathLike):
        return list(recording_paths(source))
    if isinstance(source, Recording):
        return [source]
    if isinstance(source, list):
        options: dict[str, Any] = {"voxels": voxels, "size_hw": size_hw, "columns": columns, "unit": unit}
        if not source:
            raise ConfigError("source is an empty list; give at least one recording")
        if any(isinstance(each, int | float) for each in source):
            raise ConfigError("source is a list of numbers; give recordings, or an array of events [N, 4]")
        return [found for each in source for found in read_source(each, **options)]
    if _is_array(source) and source.ndim >= 3:
        return [Cubes(_checked_cube(source, voxels))]
    if _is_array(source) or isinstance(source, Mapping | tuple) or hasattr(source, "to_numpy"):
        return [open_recording(source, size_hw=size_hw, columns=columns, unit=unit)]
    if isinstance(source, Iterable):
        size_hw = getattr(source, "size_hw", None) if size_hw is None else size_hw
        if size_hw is None:
            raise ConfigError(
                f"source, a {type(source).__name__}, does not say its sensor's size; give size_hw=(height, width)"
            )
        return [Live(_packets(source, columns, unit), size_hw)]
    raise ConfigError(
        f"source is a {type(source).__name__}; give a path, folder, pattern, array, dict of arrays, cube [T, C, H, W], "
        "generator of packets, camera, or a list of those"
    )


def recording_paths(source: str | os.PathLike[str]) -> list[Path]:
    """Return the recordings that a path, a folder, a pattern such as ``"drives/*.raw"`` or a sample's name stands for.

    A folder is searched with its subfolders; box files are passed over, and so is text where there are other formats.

    Raises:
        EventFileError: there is none.
    """
    text = os.fspath(source)
    path = Path(text)
    if text in SAMPLES and not path.exists():
        return [sample(text)]
    if glob.has_magic(text) and not path.exists():
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        found = [path for path in matches if not path.name.endswith(BOXES_SUFFIX)]
        if not found:
            raise EventFileError(f"{text}: no recording matches this pattern")
        return found
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        files = [each for each in sorted(path.rglob("*")) if each.suffix.lower() in OPENERS and each.is_file()]
        files = [each for each in files if not each.name.endswith(BOXES_SUFFIX)]
        found = [each for each in files if each.suffix.lower() not in TEXT_SUFFIXES] or files
        if not found:
            raise EventFileError(f"{text}: this folder holds no recording; known are {', '.join(OPENERS)}")
        return found
    if not path.exists():
        raise EventFileError(f"{text}: no such file")
    return [path]


def folders_for(paths: Sequence[Path], out: str | os.PathLike[str]) -> list[Path]:
    """Return a folder for the files of every recording: ``out``, with the recordings' own below where names repeat."""
    names = [path.stem for path in paths]
    if len(set(names)) == len(names):
        return [Path(out)] * len(paths)
    root = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    folders = [Path(out) / path.resolve().parent.relative_to(root) for path in paths]
    places = [folder / name for folder, name in zip(folders, names, strict=True)]
    if len(set(places)) < len(places):
        repeated = next(paths[k] for k, place in enumerate(places) if place in places[:k])
        raise ConfigError(f"{repeated}: another recording would write the same files; detect in them one by one")
    return folders


def _is_array(source: Any) -> bool:
    return isinstance(source, np.ndarray | Tensor)


def _checked_cube(source: Any, voxels: VoxelSpec) -> Tensor:
    """Return a cube [T, C, H, W] or [T, B, C, H, W] as the network takes it."""
    cube = torch.from_numpy(np.ascontiguousarray(source)) if isinstance(source, np.ndarray) else source.detach()
    takes = f"the network takes cubes [T, {voxels.channels}, H, W] or [T, B, {voxels.channels}, H, W] ({voxels})"
    if cube.ndim not in (4, 5) or cube.shape[-3] != voxels.channels or 0 in cube.shape:
        raise ConfigError(
            f"source has shape {list(cube.shape)}; {takes}, and events are structured or [N, 4] with t, x, y, p"
        )
    if cube.is_complex():
        raise ConfigError(f"source is {cube.dtype}; {takes}")
    if cube.is_floating_point():
        if not torch.isfinite(cube).all() or (cube < 0).any():
            raise ConfigError(f"source holds numbers that are negative or not finite; {takes} with counts of events")
        cube = cube.float()
    else:
        if cube.dtype != torch.bool and (int(cube.min()) < 0 or int(cube.max()) > 255):
            raise ConfigError(f"source holds {int(cube.min())} to {int(cube.max())}; a cube counts from 0 to 255")
        cube = cube.to(torch.uint8)
    return cube if cube.ndim == 5 else cube[:, None]


def _packets(source: Iterable[Any], columns: str | None, unit: str | None) -> Iterator[Packet | np.ndarray]:
    for packet in source:
        is_ready = isinstance(packet, Packet) or (isinstance(packet, np.ndarray) and packet.dtype == EVENT_DTYPE)
        yield packet if is_ready else packet_events(packet, columns=columns, unit=unit)
