"""A folder of recordings and box files -> labeled windows; no preprocessing step and no cache."""

import os
import zlib
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from spiking_centernet.calibration import Calibration
from spiking_centernet.data.augmentation import Augmentation, augment
from spiking_centernet.data.box_files import boxes_at, clean_boxes
from spiking_centernet.data.corruptions import SETTLE_US, Fault, corrupt, scope_of
from spiking_centernet.data.event_augmentation import Scene, augment_events, stretch
from spiking_centernet.data.formats.dat_recording import DatRecording
from spiking_centernet.data.frames import FILL, FrameSource, Letterbox
from spiking_centernet.data.labeled import LabeledRecording, check_times, find_recordings
from spiking_centernet.data.layouts import Layout, locate
from spiking_centernet.data.recording import Recording
from spiking_centernet.data.sequences import boxes_of_answers
from spiking_centernet.data.voxel import empty_cube, voxelize
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.structures import EVENT_DTYPE, Boxes, Sample, VoxelSpec, concatenate

MAX_OPEN = 64
"""Recordings held open at a time; each holds a file descriptor, of which a process has about a thousand."""


class FolderDataset(Dataset[Sample]):
    """Every labeled frame of every recording in ``root/split``, laid out like GEN1.

    A sample is the window that ends, exclusively, at the timestamp. Only the box files are read for the
    index; a recording is opened when one of its windows is asked for. Copies may be sent to worker processes.

    Attributes:
        folder: where the files lie.
        recordings: the recordings in the order of their names.
        classes: the names that labels count through.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        spec: VoxelSpec | None = None,
        *,
        classes: Sequence[str] | None = None,
        size_hw: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        fault: Fault | None = None,
        layout: str | Layout = "folder",
        names: Collection[str] | None = None,
        answers: int = 1,
        answer_us: int = 0,
    ):
        """Read the box files of a split.

        Args:
            root: folder that holds the splits; the name of its layout may stand before it, ``"1mpx:/data/1mpx"``.
            split: folder of the split: train, val or test.
            spec: length of a window and division of its cube; None takes the paper's.
            classes: the names that labels count through; None takes those the layout scores. Where a layout knows its
                stored classes, boxes of others are left out.
            size_hw: height and width in pixels, for recordings that do not say or say it wrong.
            augmentation: how samples vary; None leaves them as recorded.
            seed: of the augmentation; a sample depends on seed, epoch and index alone.
            fault: what is wrong with the sensor; None takes the events as recorded.
            layout: a name of ``LAYOUTS``, or a layout of your own.
            names: of the recordings to take; the box files of others are not read. None takes all.
            answers: how many answers a window is labeled for; above 1, what never moved in it is a crowd.
            answer_us: time from one answer to the next.

        Raises:
            DatasetError: the folder, its recordings or a box file is missing.
            BoxFileError: a box file is damaged.
            ConfigError: unknown layout or class, or an impossible setting.
        """
        layout, folder = locate(root, layout)
        if augmentation is not None and augmentation.flip > 0 and not layout.mirrors:
            raise ConfigError(
                f"{layout.name}: a mirrored recording has another label; set augmentation.flip to 0 in the recipe"
            )
        self.folder = folder / split
        self.classes = tuple(layout.classes if classes is None else classes)
        size_hw = size_hw or layout.size_hw
        self.spec = VoxelSpec() if spec is None else spec
        self.size_hw, self.augmentation, self.seed, self.fault = size_hw, augmentation, seed, fault
        self.layout, self.answers, self.answer_us = layout, answers, answer_us
        self.recordings = find_recordings(folder, split, layout, self.classes, names)
        self._check_input()
        self._check_answers()
        self._stops = np.cumsum([len(recording.timestamps_us) for recording in self.recordings])
        # Shared memory, so that workers that live longer than an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._open: OrderedDict[int, tuple[Recording | FrameSource, np.ndarray, np.ndarray]] = OrderedDict()

    def _check_input(self) -> None:
        """Refuse events where pictures are wanted, and the other way round.

        Raises:
            DatasetError: The recordings hold the other.
            ConfigError: Events are to be changed where there are none.
        """
        if not self.spec.takes_frames:
            if self.recordings[0].is_picture:
                raise DatasetError(
                    f"{self.folder}: holds pictures ({self.layout.name}), but the network sees events (voxels.mode "
                    f"{self.spec.mode!r}); set network.voxels.mode to direct or rate, or take a network trained so"
                )
            return
        without = next((recording for recording in self.recordings if recording.frames is None), None)
        if without is not None:
            raise DatasetError(
                f"{without.path}: has no pictures next to it, but the network sees pictures (voxels.mode "
                f"{self.spec.mode!r}); simulate with --labels frames, or set network.voxels.mode to binary"
            )
        if self.fault is not None or (self.augmentation is not None and self.augmentation.changes_events):
            raise ConfigError(
                "a network of pictures sees no events to change: set the augmentation of events (noise, drop, mix, "
                "...) to 0 and leave out sensor faults; flip and zoom work"
            )

    def _check_answers(self) -> None:
        """Refuse to label several answers of a window whose boxes are not those of the recording."""
        if self.answers == 1:
            return
        if self.augmentation is not None and self.augmentation.changes_events:
            raise ConfigError(
                "several answers of a window need its events as recorded: set the augmentation of events (noise, drop, "
                "mix, ...) to 0; flip and zoom work"
            )
        if self.spec.takes_frames:
            raise ConfigError("a picture has one answer; set answers to 1")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": OrderedDict()}

    def __len__(self) -> int:
        return int(self._stops[-1])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the augmentation is a function of."""
        self._epoch.fill_(epoch)

    def locate(self, index: int) -> tuple[LabeledRecording, int]:
        """Return the recording and the timestamp in microseconds of a sample.

        Raises:
            IndexError: there is no such sample.
        """
        which, t_us = self._place(index)
        return self.recordings[which], t_us

    def _place(self, index: int) -> tuple[int, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.folder}")
        index %= len(self)
        which = int(np.searchsorted(self._stops, index, side="right"))
        timestamps_us = self.recordings[which].timestamps_us
        return which, int(timestamps_us[index - self._stops[which]])

    def frame(self, index: int) -> tuple[str, int, Boxes, Calibration | None]:
        """Return a labeled frame without its window: recording, timestamp in microseconds, boxes and camera.

        Raises:
            IndexError: there is no such sample.
            EventFileError, DatasetError: as of a sample.
        """
        which, t_us = self._place(index)
        return self.recordings[which].name, t_us, *self._labels(which, self._opened(which)[1], t_us)

    def cube_before(self, index: int, stop_us: int, spec: VoxelSpec) -> torch.Tensor:
        """Return the cube [T, C, H, W] of another window of a sample's recording, of events as they are.

        Args:
            index: of the sample.
            stop_us: exclusive end of the window in microseconds.
            spec: how the window is cut.
        """
        which, _ = self._place(index)
        recording = self._opened(which)[0]
        assert isinstance(recording, Recording)
        return self._cube(recording, which, stop_us, spec)

    def __getitem__(self, index: int) -> Sample:
        """Return one labeled window.

        Raises:
            DatasetError: the boxes do not belong to the recording.
            EventFileError: the recording is damaged.
        """
        which, t_us = self._place(index)
        recording, stored, _ = self._opened(which)
        boxes, calibration = self._labels(which, stored, t_us)
        name = self.recordings[which].name
        if isinstance(recording, FrameSource):
            return self._picture(recording, boxes, calibration, index=index % len(self), place=(which, t_us))
        earlier: tuple[Boxes, ...] = ()
        if self.answers > 1:
            *before, boxes = self._answers(which, stored, t_us, recording.size_hw)
            earlier = tuple(before)
        if self.augmentation is None:
            return Sample(
                self._cube(recording, which, t_us, self.spec), boxes, t_us, name, calibration, earlier=earlier
            )
        seeds = [self.seed, int(self._epoch), index % len(self)]
        if self.augmentation.changes_events:
            scene = self._augmented(which, t_us, seeds)
            boxes = scene.boxes
            cube = voxelize(scene.events, stop_us=t_us, size_hw=recording.size_hw, spec=self.spec)
        else:
            cube = self._cube(recording, which, t_us, self.spec)
        sample = Sample(cube, boxes, t_us, name, calibration, earlier=earlier)
        return augment(sample, np.random.default_rng(seeds), self.augmentation)

    def _answers(self, which: int, stored: np.ndarray, t_us: int, size_hw: tuple[int, int]) -> tuple[Boxes, ...]:
        """Return the boxes at the times of all answers, the last at the window's end."""
        return boxes_of_answers(
            lambda time_us: self._labels(which, stored, time_us)[0],
            self.recordings[which].timestamps_us,
            [t_us - n * self.answer_us for n in reversed(range(self.answers))],
            start_us=t_us - self.spec.window_us,
            tolerance_us=int(self.spec.step_us) // 2,
            size_hw=size_hw,
            num_classes=len(self.classes),
        )

    def _picture(
        self,
        source: FrameSource,
        boxes: Boxes,
        calibration: Calibration | None,
        *,
        index: int,
        place: tuple[int, int],
    ) -> Sample:
        """Return a labeled frame of pictures, letterboxed."""
        which, t_us = place
        spec, height_width = self.spec, (int(self.spec.frame_hw[0]), int(self.spec.frame_hw[1]))
        lies = Letterbox(source.size_hw, height_width)
        varies = self.augmentation is not None
        cube = source.cube(t_us, spec, seed=[self.seed, *([int(self._epoch)] if varies else [])])
        sample = Sample(
            cube, lies.to_frame(boxes), t_us, self.recordings[which].name,
            None if calibration is None else lies.camera(calibration), source.size_hw,
        )  # fmt: skip
        if self.augmentation is None:
            return sample
        rng = np.random.default_rng([self.seed, int(self._epoch), index])
        return augment(sample, rng, self.augmentation, fill=FILL if spec.mode == "direct" else 0)

    def _labels(self, which: int, stored: np.ndarray, t_us: int) -> tuple[Boxes, Calibration | None]:
        boxes, objects, crowds = boxes_at(stored, t_us), self.recordings[which].objects, self._open[which][2]
        calibration = None
        if objects is not None:
            boxes, calibration = objects.attach(boxes, t_us), objects.calibration(t_us)
        if len(crowds):
            regions = boxes_at(crowds, t_us)
            boxes = concatenate([boxes, replace(regions, crowd=np.ones(len(regions), bool))])
        return boxes, calibration

    def _cube(self, recording: Recording, which: int, t_us: int, spec: VoxelSpec) -> torch.Tensor:
        if self._is_empty(recording, t_us, spec.window_us):
            return empty_cube(t_us, recording.size_hw, spec)
        if self.fault is None:
            return recording.cube(t_us, spec)
        events = self._events(recording, which, t_us, spec.window_us)
        return voxelize(events, stop_us=t_us, size_hw=recording.size_hw, spec=spec)

    def _is_empty(self, recording: Recording, t_us: int, length_us: int) -> bool:
        return t_us <= 0 or t_us - length_us >= recording.stop_us

    def _events(self, recording: Recording, which: int, t_us: int, length_us: int) -> np.ndarray:
        """Return the events of a window of this length, through the faulty sensor if one is set."""
        if self._is_empty(recording, t_us, length_us):
            return np.zeros(0, EVENT_DTYPE)
        # What lies before the recording's clock is an empty past: not even noise comes from there.
        seen_us = max(0, t_us - length_us)
        if self.fault is None:
            return recording.read(seen_us, t_us)
        settle_us = max(0, t_us - length_us - SETTLE_US)
        # By its name: the faulty pixels of a recording are the same whatever else lies in the folder.
        name = zlib.crc32(self.recordings[which].name.encode())
        events = corrupt(
            recording.read(settle_us, t_us), self.fault.name, self.fault.severity, size_hw=recording.size_hw,
            start_us=settle_us, stop_us=t_us, seed=[self.fault.seed, name],
        )  # fmt: skip
        return events[events["t"] >= seen_us]

    def _augmented(self, which: int, t_us: int, seeds: list[int]) -> Scene:
        """Return a window with its events changed at random."""
        assert self.augmentation is not None
        size_hw = self._opened(which)[0].size_hw
        window_draw, length_draw = np.random.default_rng([*seeds, 4]).random(2)
        factor = 1.0
        if window_draw < self.augmentation.window:
            low, high = np.log(self.augmentation.window_range)
            factor = float(np.exp(low + (high - low) * length_draw))

        def another(number: int) -> Scene | None:
            other, timestamp_us = self._place(number % len(self))
            if self._opened(other)[0].size_hw != size_hw:
                return None
            scene = self._scene(other, timestamp_us, stop_us=t_us)
            # Its 3D boxes are those of another camera.
            unknown = np.full_like(scene.boxes.box3d, np.nan)
            return Scene(scene.events, replace(scene.boxes, box3d=unknown))

        scene = self._scene(which, t_us, stop_us=t_us, factor=factor)
        scope = scope_of(size_hw, max(0, t_us - self.spec.window_us), max(1, t_us), [*seeds, 1])
        return augment_events(scene, self.augmentation, scope, seeds=seeds, another=another)

    def _scene(self, which: int, t_us: int, *, stop_us: int, factor: float = 1.0) -> Scene:
        """Return a window ``factor`` times as long before a time, as if it were a usual one before ``stop_us``."""
        recording, boxes, _ = self._opened(which)
        assert isinstance(recording, Recording)
        events = self._events(recording, which, t_us, round(factor * self.spec.window_us))
        if factor != 1.0:
            events = stretch(events, 1 / factor, t_us)
        if stop_us != t_us:
            events = events.copy()
            events["t"] += stop_us - t_us
        return Scene(events, self._labels(which, boxes, t_us)[0])

    def _opened(self, which: int) -> tuple[Recording | FrameSource, np.ndarray, np.ndarray]:
        if which in self._open:
            self._open.move_to_end(which)
            return self._open[which]
        labeled = self.recordings[which]
        if self.spec.takes_frames:
            assert labeled.frames is not None
            recording: Recording | FrameSource = FrameSource(labeled.frames)
        elif labeled.path.suffix == ".dat":
            recording = DatRecording(labeled.path, size_hw=self.size_hw, scan=False)
        else:
            from spiking_centernet.data import open as open_recording

            recording = open_recording(labeled.path, size_hw=self.size_hw)
        if isinstance(recording, Recording):
            check_times(labeled, recording, self.spec.window_us)
        size_hw = recording.size_hw
        self._open[which] = recording, clean_boxes(labeled.boxes, size_hw), clean_boxes(labeled.crowds, size_hw)
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return self._open[which]
