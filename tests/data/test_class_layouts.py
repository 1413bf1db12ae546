import json

import numpy as np
import pytest

from spiking_centernet.data import FolderDataset
from spiking_centernet.data import open as open_recording
from spiking_centernet.data.augmentation import Augmentation
from spiking_centernet.data.class_layouts import GESTURES, find_gestures, find_ncars, read_gestures, read_intervals
from spiking_centernet.errors import BoxFileError, ConfigError, DatasetError
from spiking_centernet.structures import VoxelSpec


@pytest.fixture
def ncars(golden_dir):
    return golden_dir / "tasks" / "ncars"


@pytest.fixture
def gestures(golden_dir):
    return golden_dir / "tasks" / "dvsgesture"


@pytest.mark.parametrize("split", ["train", "test"])
def test_recordings_of_ncars_have_their_class_and_events(ncars, split):
    expected = [row for row in json.loads((ncars / "expected.json").read_text()) if row["split"] == split]
    data = FolderDataset(ncars, split, VoxelSpec(num_steps=5, bins=2), layout="ncars")
    assert len(data) == len(expected)
    samples = {sample.recording.split("_", 1)[1]: sample for sample in data}
    for row in expected:
        sample = samples[row["name"]]
        assert sample.boxes.labels.tolist() == [row["label"]]
        assert sample.cube.shape == (5, 4, 100, 120)
        np.testing.assert_array_equal(sample.boxes.xyxy, [[0, 0, 120, 100]])
        path = next(events for name, events in find_ncars(ncars, split) if name.endswith(row["name"]))
        events = open_recording(path, size_hw=(100, 120)).read(0, 100_000)
        assert len(events) == row["events"]
        assert [events["y"].max() + 1, events["x"].max() + 1] == row["occupied_hw"]
        # A binary cube holds at most the events that were recorded.
        assert 0 < int(sample.cube.sum()) <= row["events"]


def test_every_tenth_training_recording_of_ncars_is_for_validation(tmp_path):
    for name, count in (("background", 13), ("cars", 12)):
        folder = tmp_path / "n-cars_train" / "train" / name
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"obj_{i:06d}_td.dat").touch()
    train, val = find_ncars(tmp_path, "train"), find_ncars(tmp_path, "val")
    assert (len(train), len(val)) == (23, 2)
    assert not {name for name, _ in train} & {name for name, _ in val}
    with pytest.raises(DatasetError, match="n-cars_test"):
        find_ncars(tmp_path, "test")
    for path in (tmp_path / "n-cars_train" / "train").glob("*/obj_00000[4-9]_td.dat"):
        path.unlink()
    for path in (tmp_path / "n-cars_train" / "train").glob("*/obj_00001*_td.dat"):
        path.unlink()
    assert len(find_ncars(tmp_path, "train")) == 8
    with pytest.raises(DatasetError, match="holds 8 recordings, of which every 10th is for validation"):
        find_ncars(tmp_path, "val")


@pytest.mark.parametrize("split", ["train", "test"])
def test_gestures_have_their_class_time_and_events(gestures, split):
    expected = [row for row in json.loads((gestures / "expected.json").read_text()) if row["split"] == split]
    found = []
    for name, events, labels in find_gestures(gestures, split):
        recording = open_recording(events)
        assert recording.size_hw == (128, 128)
        for label, start, stop in read_intervals(labels).tolist():
            found.append({
                "split": split, "recording": name, "label": label, "start_us": start, "stop_us": stop,
                "events": len(recording.read(start, stop)),
            })  # fmt: skip
    assert found == expected


def test_windows_of_a_gesture_end_with_it_and_lie_inside(gestures):
    data = FolderDataset(gestures, "train", VoxelSpec(window_us=1_500_000, num_steps=15, bins=1), layout="dvs-gesture")
    assert data.classes == GESTURES
    for sample in data:
        assert sample.cube.shape == (15, 2, 128, 128)
        assert sample.cube.any()
    for _, _, labels in find_gestures(gestures, "train"):
        intervals, rows = read_intervals(labels), read_gestures(labels)
        for trial, (label, start, stop) in enumerate(intervals.tolist()):
            ends = rows["ts"][rows["track_id"] == trial].astype(np.int64)
            assert ends.max() == stop
            assert len(ends) == 1 or (ends - 1_500_000).min() >= start
            assert set(rows["class_id"][rows["track_id"] == trial]) == {label}


def test_users_20_to_23_are_for_validation(tmp_path):
    names = [f"user{user:02d}_led" for user in range(1, 24)]
    (tmp_path / "trials_to_train.txt").write_text("".join(f"{name}.aedat\n" for name in names) + "\n\n")
    for name in names:
        (tmp_path / f"{name}.aedat").touch()
        (tmp_path / f"{name}_labels.csv").touch()
    assert [name for name, _, _ in find_gestures(tmp_path, "val")] == names[19:]
    assert [name for name, _, _ in find_gestures(tmp_path, "train")] == names[:19]
    (tmp_path / "user03_led_labels.csv").unlink()
    with pytest.raises(DatasetError, match="user03_led_labels"):
        find_gestures(tmp_path, "train")


def test_a_gesture_ends_where_the_next_begins(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("class,startTime_usec,endTime_usec\n9,1000,5000\n10,4000,9000\n\n")
    assert read_intervals(path).tolist() == [[8, 1000, 4000], [9, 4000, 9000]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "must begin with"),
        ("class,startTime_usec,endTime_usec\n12,0,5\n", "line 2 has class 12"),
        ("class,startTime_usec,endTime_usec\n1,5,5\n", "line 2 has class 1 from 5 to 5"),
        ("class,startTime_usec,endTime_usec\n1,5\n", "line 2"),
        ("class,startTime_usec,endTime_usec\n1,a,5\n", "line 2"),
    ],
)
def test_damaged_labels_of_gestures_are_named(tmp_path, text, what):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(BoxFileError, match=what):
        read_intervals(path)


def test_mirrored_gestures_are_refused(gestures):
    with pytest.raises(ConfigError, match=r"augmentation\.flip"):
        FolderDataset(gestures, "train", layout="dvs-gesture", augmentation=Augmentation(flip=0.5))
