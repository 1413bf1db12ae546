import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from spiking_centernet.data import Augmentation, FolderDataset, collate, voxelize, write_boxes, write_dat
from spiking_centernet.errors import BoxFileError, DatasetError, EventFileError
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE, VoxelSpec

SIZE_HW = (24, 32)


def boxes_at_times(*times_us):
    return np.array([(t, 2 + i, 3, 8, 9, i % 2, 1, i) for i, t in enumerate(times_us)], BOX_DTYPE)


@pytest.fixture
def root(tmp_path, random_events):
    """Three clips of half a second; the second is labeled twice at one timestamp, the third never."""
    times = {"a": (50_000, 250_000, 500_000), "b": (0, 300_000, 300_000), "c": ()}
    for seed, (name, timestamps) in enumerate(times.items()):
        write_dat(tmp_path / "train" / f"{name}_td.dat", random_events(3_000, size_hw=SIZE_HW, seed=seed), SIZE_HW)
        write_boxes(tmp_path / "train" / f"{name}_bbox.npy", boxes_at_times(*timestamps))
    return tmp_path


def test_samples_are_the_windows_before_every_labeled_timestamp(root, random_events):
    dataset = FolderDataset(root, "train")
    assert len(dataset) == 5
    told = [(sample.recording, sample.t_us, len(sample.boxes)) for sample in dataset]
    assert told == [("a", 50_000, 1), ("a", 250_000, 1), ("a", 500_000, 1), ("b", 0, 1), ("b", 300_000, 2)]
    events = random_events(3_000, size_hw=SIZE_HW, seed=0)
    for index, stop_us in enumerate((50_000, 250_000, 500_000)):
        expected = voxelize(events, stop_us=stop_us, size_hw=SIZE_HW)
        assert torch.equal(dataset[index].cube, expected)
    assert not dataset[3].cube.any()
    assert dataset[-1].t_us == 300_000
    assert dataset.locate(1)[0].name == "a"


def test_a_label_before_the_first_whole_window_has_an_empty_past(root):
    early = FolderDataset(root, "train")[0].cube
    assert not early[:2].any()
    assert early[3:].any()


def test_no_event_at_or_after_the_timestamp_is_seen(root):
    events = np.array([(249_999, 0, 0, 1), (250_000, 1, 0, 1), (250_001, 2, 0, 1)], EVENT_DTYPE)
    write_dat(root / "val" / "d_td.dat", events, SIZE_HW)
    write_boxes(root / "val" / "d_bbox.npy", boxes_at_times(250_000))
    assert torch.nonzero(FolderDataset(root, "val")[0].cube).tolist() == [[4, 3, 0, 0]]


def test_of_recordings_that_are_not_named_nothing_is_read(root):
    whole = FolderDataset(root, "train")
    (root / "train" / "a_bbox.npy").write_bytes(b"damaged")
    named = FolderDataset(root, "train", names=["b"])
    assert [(sample.recording, sample.t_us) for sample in named] == [("b", 0), ("b", 300_000)]
    assert torch.equal(named[1].cube, whole[4].cube)


def test_there_is_no_sample_past_the_end(root):
    dataset = FolderDataset(root, "train")
    for index in (5, -6):
        with pytest.raises(IndexError, match="of 5 in"):
            dataset[index]


def test_batches_are_time_first_and_follow_a_permutation(root):
    dataset = FolderDataset(root, "train", VoxelSpec(num_steps=3, bins=1))
    order = [4, 0, 2]
    straight, permuted = collate([dataset[i] for i in (0, 2, 4)]), collate([dataset[i] for i in order])
    assert straight.cube.shape == (3, 3, 2, *SIZE_HW)
    assert torch.equal(permuted.cube, straight.cube[:, [2, 0, 1]])
    assert permuted.t_us == [300_000, 50_000, 500_000]
    assert permuted.recordings == ["b", "a", "a"]
    assert [len(boxes) for boxes in permuted.boxes] == [2, 1, 1]


def test_samples_of_two_sizes_make_no_batch(root, random_events):
    write_dat(root / "train" / "d_td.dat", random_events(100, size_hw=(10, 12)), (10, 12))
    write_boxes(root / "train" / "d_bbox.npy", boxes_at_times(250_000))
    dataset = FolderDataset(root, "train")
    with pytest.raises(DatasetError, match=r"\[5, 4, 24, 32\] of a, \[5, 4, 10, 12\] of d"):
        collate([dataset[0], dataset[5]])
    with pytest.raises(DatasetError, match="got no samples"):
        collate([])


def test_boxes_are_cleaned(root):
    rows = [(250_000, -4, 3, 8, 9, 0, 1, 1), (250_000, 28, 20, 8, 9, 1, 1, 1), (250_000, 40, 3, 8, 9, 0, 1, 2)]
    write_boxes(root / "train" / "a_bbox.npy", np.array(rows, BOX_DTYPE))
    assert FolderDataset(root, "train")[0].boxes.xyxy.tolist() == [[0, 3, 4, 12], [28, 20, 32, 24]]


def test_boxes_without_track_numbers_all_stay(root):
    rows = [(250_000, x, 3, 8, 9, 0, 1, 0) for x in (0, 10, 20)]
    write_boxes(root / "train" / "a_bbox.npy", np.array(rows, BOX_DTYPE))
    assert len(FolderDataset(root, "train")[0].boxes) == 3


def test_augmented_samples_are_a_function_of_seed_epoch_and_index(root):
    def cubes(seed, epoch):
        dataset = FolderDataset(root, "train", augmentation=Augmentation(flip=0.5, zoom=1.0), seed=seed)
        dataset.set_epoch(epoch)
        return [dataset[index].cube for index in (4, 1, 2)]

    first = cubes(0, 3)
    assert all(torch.equal(*pair) for pair in zip(first, cubes(0, 3), strict=True))
    for other in (cubes(0, 4), cubes(1, 3)):
        assert not any(torch.equal(*pair) for pair in zip(first, other, strict=True))


def test_windows_of_another_length_show_their_time_faster_or_more_slowly(root):
    plain = FolderDataset(root, "train")
    for factor in (0.5, 2.0):
        stretched = Augmentation(flip=0, zoom=0, window=1, window_range=(factor, factor))
        dataset = FolderDataset(root, "train", augmentation=stretched)
        for index in range(len(plain)):
            _, t_us = plain.locate(index)
            if t_us <= 0:  # nothing lies before
                assert not dataset[index].cube.any()
                continue
            length_us = round(factor * plain.spec.window_us)
            expected = plain._opened(plain._place(index)[0])[0].cube(t_us, VoxelSpec(window_us=length_us)).sum()
            # Events of neighboring microseconds may fall on each other, or lie a microsecond beyond a cell's border.
            assert abs(int(dataset[index].cube.sum()) - int(expected)) <= 0.02 * int(expected) + 2
            assert dataset[index].boxes.xyxy.tolist() == plain[index].boxes.xyxy.tolist()


def test_mixed_and_pasted_samples_take_from_other_windows_and_depend_on_seed_epoch_and_index_alone(root):
    mixed = FolderDataset(root, "train", augmentation=Augmentation(mix=1, paste=0.5, isolate=0.2, empty_past=0.5))
    first = [mixed[i] for i in range(len(mixed))]
    again = [mixed[i] for i in reversed(range(len(mixed)))][::-1]
    assert all(torch.equal(a.cube, b.cube) for a, b in zip(first, again, strict=True))
    assert all(a.boxes.xyxy.tolist() == b.boxes.xyxy.tolist() for a, b in zip(first, again, strict=True))
    mixed.set_epoch(1)
    assert any(not torch.equal(a.cube, mixed[i].cube) for i, a in enumerate(first))


def test_an_index_from_the_end_is_the_same_sample(root):
    dataset = FolderDataset(root, "train", augmentation=Augmentation(zoom=1.0))
    assert torch.equal(dataset[-1].cube, dataset[4].cube)


def test_workers_that_outlive_an_epoch_see_the_next_one(root):
    dataset = FolderDataset(root, "train", augmentation=Augmentation(flip=0.5, zoom=1.0))
    loader = DataLoader(dataset, batch_size=5, collate_fn=collate, num_workers=1, persistent_workers=True)
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        (batch,) = loader
        assert torch.equal(batch.cube, collate([dataset[index] for index in range(5)]).cube)


def test_a_copy_sent_to_another_process_gives_the_same_samples(root):
    dataset = FolderDataset(root, "train")
    before = dataset[1]
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1].cube, before.cube)


def test_recordings_are_closed_and_opened_again_beyond_the_limit(root, monkeypatch):
    expected = [sample.cube for sample in FolderDataset(root, "train")]
    monkeypatch.setattr("spiking_centernet.data.dataset.MAX_OPEN", 1)
    dataset = FolderDataset(root, "train")
    for index in (4, 0, 4, 2):
        assert torch.equal(dataset[index].cube, expected[index])
        assert len(dataset._open) == 1


def test_only_box_files_are_read_for_the_index(root):
    (root / "train" / "a_td.dat").write_bytes(b"")
    dataset = FolderDataset(root, "train")
    assert dataset[4].recording == "b"
    with pytest.raises(EventFileError, match=r"a_td\.dat: the file is empty"):
        dataset[0]


# --- bad folders -----------------------------------------------------------------------------------------------------


def test_missing_folders(root):
    with pytest.raises(DatasetError, match="has no folder 'test'; found: train"):
        FolderDataset(root, "test")
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        FolderDataset(root / "nowhere", "train")


def test_a_folder_without_recordings_says_what_it_holds(root):
    (root / "val").mkdir()
    with pytest.raises(DatasetError, match="found: nothing"):
        FolderDataset(root, "val")
    (root / "val" / "clip.h5").touch()
    with pytest.raises(DatasetError, match=r"holds no recording \*_td.dat; found: 1 x .h5"):
        FolderDataset(root, "val")


def test_missing_box_file(root):
    (root / "train" / "b_bbox.npy").unlink()
    with pytest.raises(DatasetError, match=r"b_bbox\.npy is missing next to b_td\.dat \(1 of its kind\)"):
        FolderDataset(root, "train")


def test_box_file_without_recording(root):
    (root / "train" / "b_td.dat").unlink()
    with pytest.raises(DatasetError, match=r"b_td\.dat is missing next to b_bbox\.npy"):
        FolderDataset(root, "train")


def test_no_boxes_at_all(root):
    for path in (root / "train").glob("*_bbox.npy"):
        write_boxes(path, np.empty(0, BOX_DTYPE))
    with pytest.raises(DatasetError, match="none of its 3 box files holds a box"):
        FolderDataset(root, "train")


@pytest.mark.parametrize("shift_us", [700_000, 60_000_000])
def test_boxes_of_another_recording(root, shift_us):
    write_boxes(root / "train" / "a_bbox.npy", boxes_at_times(250_000, shift_us))
    dataset = FolderDataset(root, "train")
    with pytest.raises(DatasetError, match=rf"boxes stand at 250000 to {shift_us} us.*do not belong together"):
        dataset[0]


def test_boxes_that_all_lie_before_the_recording(root, random_events):
    events = random_events(100, size_hw=SIZE_HW)
    events["t"] += 3_000_000
    write_dat(root / "train" / "a_td.dat", events, SIZE_HW)
    with pytest.raises(DatasetError, match="do not belong together"):
        FolderDataset(root, "train")[0]


def test_damaged_box_file(root):
    shutil.copy(root / "train" / "a_td.dat", root / "train" / "a_bbox.npy")
    with pytest.raises(BoxFileError, match=r"a_bbox\.npy"):
        FolderDataset(root, "train")


def test_real_clip_with_its_boxes(recordings_dir, tmp_path):
    source = recordings_dir / "icns_roadside_cars"
    (tmp_path / "val").mkdir()
    for suffix in ("_td.dat", "_bbox.npy"):
        shutil.copy(source / f"icns_roadside_cars{suffix}", tmp_path / "val")
    dataset = FolderDataset(tmp_path, "val")
    assert sum(len(sample.boxes) for sample in dataset) == 14
    assert all(sample.cube.shape == (5, 4, 260, 346) for sample in dataset)
    assert all(sample.cube.any() for sample in dataset)


def test_few_labels_after_the_last_event_have_empty_windows(root):
    write_boxes(root / "train" / "a_bbox.npy", boxes_at_times(200_000, 250_000, 700_000))
    dataset = FolderDataset(root, "train")
    with pytest.warns(UserWarning, match="1 of 3 labeled frames lie more than a window after the last event"):
        samples = [dataset[k] for k in range(3)]
    assert [bool(sample.cube.any()) for sample in samples] == [True, True, False]
    assert [len(sample.boxes) for sample in samples] == [1, 1, 1]
