import hashlib
import json

import numpy as np
import pytest
from toy_world import dying_scene, failing_scene, toy_scene

from spiking_centernet.data.box_files import read_boxes
from spiking_centernet.data.formats.dat import DatFile
from spiking_centernet.data.formats.dat_writer import write_dat
from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.simulate import dataset
from spiking_centernet.simulate.dataset import Clip, Clips, simulate, step_us
from spiking_centernet.simulate.scene.scene import Scene
from spiking_centernet.simulate.statistics import events_per_box, summarize
from spiking_centernet.structures import BOX_DTYPE, EVENT_DTYPE

SIZE_HW = (24, 40)
FEW = Clips(train=2, val=1, test=1)


def make(out, **changes):
    arguments = {
        "seed": 3, "clips": FEW, "duration_s": 0.6, "size_hw": SIZE_HW, "workers": 1,
        "make_scene": toy_scene,
    }  # fmt: skip
    return simulate(out, **(arguments | changes))


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("roads") / "data"
    make(out)
    return out


def test_the_folder_is_laid_out_like_gen1(data):
    found = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.parent.name != ".clips")
    names = ["test/sim3_test_0000", "train/sim3_train_0000", "train/sim3_train_0001", "val/sim3_val_0000"]
    files = [name + end for name in names for end in ("_bbox.npy", "_td.dat")]
    assert found == sorted([".clips", "simulation.json", "test", "train", "val", *files])


def test_events_are_in_order_inside_the_clip_and_follow_the_block(data):
    recording = DatFile(data / "train" / "sim3_train_0000_td.dat")
    events = recording.decode()
    report = json.loads((data / "simulation.json").read_text())["clips"][0]
    assert recording.size_hw == SIZE_HW
    assert len(events) == report["events"] > 100
    assert events["p"].sum() == report["on_events"]
    assert (np.diff(events["t"]) >= 0).all()
    assert events["t"][0] >= 0
    assert events["t"][-1] < 600_000
    boxes = read_boxes(data / "train" / "sim3_train_0000_bbox.npy")
    for box in boxes:
        near = events[(events["t"] >= box["ts"] - 20_000) & (events["t"] < box["ts"])]
        inside = (near["y"] >= box["y"]) & (near["y"] < box["y"] + box["h"])
        assert inside.mean() > 0.8
        assert np.abs(near["x"][inside] - box["x"] - 4).max() < 8


def test_labels_come_at_4_hz_in_the_33_byte_layout(data):
    stored = np.load(data / "val" / "sim3_val_0000_bbox.npy")
    assert stored.dtype.itemsize == 33
    assert stored["ts"].tolist() == [250_000, 500_000]


def test_the_description_says_what_was_drawn(data):
    description = json.loads((data / "simulation.json").read_text())
    assert description["complete"]
    assert (description["seed"], description["size_hw"]) == (3, [24, 40])
    assert description["duration_s"] == {"train": 0.6, "val": 0.6, "test": 0.6}
    assert [clip["name"] for clip in description["clips"]] == [
        "sim3_train_0000", "sim3_train_0001", "sim3_val_0000", "sim3_test_0000",
    ]  # fmt: skip
    for clip in description["clips"]:
        assert clip["scene"].keys() == {"row", "speed_px_s"}
        assert clip["sensor"]["threshold_on"] > 0
        assert (clip["boxes"], clip["label_times"]) == (2, 2)


def test_no_two_clips_and_no_two_seeds_share_their_chance(data, tmp_path):
    draws = {
        Clip(tmp_path, seed, split, index, 1, SIZE_HW, toy_scene).rng().integers(2**63)
        for seed in (0, 1)
        for split in dataset.SPLITS
        for index in range(50)
    }
    assert len(draws) == 2 * 3 * 50
    events = [digest for name, digest in digests(data).items() if name.endswith("_td.dat")]
    assert len(set(events)) == len(events) == 4


def test_a_second_run_makes_only_what_is_missing(data, tmp_path, monkeypatch):
    made = []
    real = dataset.make_clip

    def counted(clip, advance=None):
        made.append(clip.name)
        return real(clip, advance)

    monkeypatch.setattr(dataset, "make_clip", counted)
    out = tmp_path / "again"
    make(out)
    first = digests(out)
    assert len(made) == 4
    made.clear()
    make(out)
    assert made == []
    (out / "val" / "sim3_val_0000_bbox.npy").unlink()
    dat = out / "train" / "sim3_train_0001_td.dat"
    dat.write_bytes(dat.read_bytes()[:-8])
    make(out)
    assert made == ["sim3_train_0001", "sim3_val_0000"]
    made.clear()
    make(out, resume=False)
    assert len(made) == 4
    assert digests(out) == first == digests(data)


def test_more_clips_extend_a_data_set_without_changing_it(data, tmp_path):
    make(tmp_path, clips=Clips(train=1, val=0, test=0))
    make(tmp_path)
    assert digests(tmp_path) == digests(data)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_clip_that_fails_half_way_leaves_nothing_under_a_final_name(tmp_path, workers, fork_pools):
    with pytest.raises(RuntimeError, match="the world ended"):
        make(tmp_path, make_scene=failing_scene, workers=workers)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["simulation.json"]
    assert json.loads((tmp_path / "simulation.json").read_text())["complete"] is False


@pytest.mark.slow
def test_a_killed_job_leaves_nothing_under_a_final_name_and_the_next_run_sweeps_up(tmp_path, fork_pools):

    def left():
        return [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != "simulation.json"]

    with pytest.raises(DatasetError, match="a worker process died"):
        make(tmp_path, make_scene=dying_scene, workers=2)
    assert 1 <= len(left()) <= 2
    assert all(name.startswith(".sim3_train_") for name in left())
    with pytest.raises(RuntimeError, match="the world ended"):
        make(tmp_path, make_scene=dying_scene)
    assert left() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, "holds a simulation with seed 3, not 4; choose a new folder"),
        ({"train_duration_s": 0.7}, "duration_s .*'train': 0.6.*, not .*'train': 0.7"),
        ({"size_hw": (24, 41)}, r"size_hw \[24, 40\], not \[24, 41\]"),
        ({"make_scene": failing_scene}, "toy_scene, not toy_world.failing_scene"),
    ],
)
def test_another_simulation_is_not_mixed_into_a_folder(data, changes, words):
    before = digests(data)
    with pytest.raises(DatasetError, match=words):
        make(data, **changes)
    assert digests(data) == before


def test_real_recordings_are_not_mixed_with_simulated_ones(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "17-04-13_td.dat").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"already holds recordings that are not simulated .*17-04-13_td.dat"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": -1}, "seed must not be negative"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"duration_s": 0.2}, "duration_s must be more than 0.25"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"size_hw": (0, 40)}, "size_hw must be positive"),
        ({"size_hw": (60_000, 60_000)}, "of at most 4194304 pixels"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        make(tmp_path / "x", **changes)
    assert not (tmp_path / "x").exists()


def test_negative_clip_counts_are_refused():
    with pytest.raises(ConfigError, match=r"clips.val must not be negative, got -1"):
        Clips(val=-1)


@pytest.mark.parametrize(("speed", "expected"), [(0, 2000), (100, 2000), (500, 2000), (1000, 1000), (1e6, 200)])
def test_nothing_moves_more_than_a_pixel_a_step_within_the_bounds(speed, expected):
    assert step_us(speed) == expected


def test_the_summary_counts_what_was_written(data, tmp_path):
    summary = summarize(data)
    train = summary["train"]
    description = json.loads((data / "simulation.json").read_text())
    clips = [clip for clip in description["clips"] if clip["split"] == "train"]
    assert (train["clips"], train["boxes"], train["label_instants"]) == (2, 4, 4)
    assert train["events"] == sum(clip["events"] for clip in clips)
    assert train["on_share"] == pytest.approx(sum(clip["on_events"] for clip in clips) / train["events"])
    assert train["boxes_per_class"] == {"car": 4, "pedestrian": 0}
    assert train["boxes_per_size"] == {"small": 4, "medium": 0, "large": 0}
    assert train["event_rate_mev_s"]["max"] == pytest.approx(max(clip["events"] for clip in clips) / 0.6e6, rel=0.05)
    with pytest.raises(DatasetError, match="no recordings"):
        summarize(tmp_path)


def test_events_are_counted_inside_each_box_and_its_window(tmp_path):
    events = np.array(
        [(100_000, 3, 2, 1), (150_000, 3, 2, 1), (199_999, 4, 3, 0), (199_999, 5, 3, 0), (200_000, 3, 2, 1)],
        EVENT_DTYPE,
    )  # fmt: skip
    write_dat(tmp_path / "a_td.dat", events, (8, 10))
    boxes = np.array(
        [
            (200_000, 3, 2, 2, 2, 0, 1, 1),  # the first event is just inside the window, the last just outside
            (200_000, -5, -5, 30, 30, 1, 1, 2),  # all over the frame
            (200_000, 8, 6, 1, 1, 0, 1, 3),
            (50_000, 3, 2, 2, 2, 0, 1, 1),  # its window begins before the recording
        ],
        BOX_DTYPE,
    )
    assert events_per_box(DatFile(tmp_path / "a_td.dat"), boxes).tolist() == [3, 4, 0, 0]


@pytest.mark.slow
def test_real_roads_are_the_same_whatever_the_workers(tmp_path, fork_pools):
    few = Clips(train=1, val=0, test=1)
    for workers in (1, 2):
        make(
            tmp_path / str(workers), clips=few, duration_s=0.3, size_hw=(60, 76), workers=workers,
            make_scene=Scene,
        )  # fmt: skip
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    description = json.loads((tmp_path / "1" / "simulation.json").read_text())
    assert min(clip["events"] for clip in description["clips"]) > 0
