import beartype
import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet import data as scn_events
from spiking_centernet.data import DatFile, voxelize, voxelize_dat, write_dat
from spiking_centernet.errors import ConfigError, EventFileError, WindowError
from spiking_centernet.structures import EVENT_DTYPE

checked_voxelize = jaxtyping.jaxtyped(typechecker=beartype.beartype)(voxelize)


def plain_cube(events, start_us, stop_us, size_hw, num_steps, bins):
    cube = np.zeros((num_steps, 2 * bins, *size_hw), np.int64)
    for t, x, y, p in events.tolist():
        if start_us <= t < stop_us:
            cell = (t - start_us) * num_steps * bins // (stop_us - start_us)
            cube[cell // bins, p * bins + cell % bins, y, x] += 1
    return cube


@pytest.mark.parametrize("window", range(5))
def test_golden_cubes(golden_dir, window):
    golden = np.load(golden_dir / "voxel_cube.npz")
    stop_us = int(golden["t_end"][window])
    shape = tuple(golden["shape"][1:])
    expected = torch.from_numpy(np.unpackbits(golden["cube_packed"][window])[: np.prod(shape)].reshape(shape))
    recording = scn_events.open(golden_dir / "random_td.dat")
    settings = {"start_us": stop_us - 100_000, "stop_us": stop_us}
    assert expected.sum() == golden["events_per_cell"][window]
    assert torch.equal(recording.cube(stop_us - 100_000, stop_us), expected)
    for events in (recording.read(stop_us - 100_000, stop_us), recording.read()):
        assert torch.equal(voxelize(events, size_hw=recording.size_hw, **settings), expected)


@settings(max_examples=80, deadline=None)
@given(
    times=st.lists(st.integers(-20, 80), max_size=40),
    start_us=st.integers(-30, 60),
    length_us=st.integers(1, 50),
    num_steps=st.integers(1, 6),
    bins=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_any_window_of_any_events_is_the_plain_loop(times, start_us, length_us, num_steps, bins, seed):
    rng = np.random.default_rng(seed)
    events = np.zeros(len(times), EVENT_DTYPE)
    events["t"] = times
    events["x"], events["y"] = rng.integers(0, 3, len(times)), rng.integers(0, 2, len(times))
    events["p"] = rng.integers(0, 2, len(times))
    window = {"start_us": start_us, "stop_us": start_us + length_us, "size_hw": (2, 3)}
    expected = plain_cube(events, start_us, start_us + length_us, (2, 3), num_steps, bins)
    counts = checked_voxelize(events, **window, num_steps=num_steps, bins=bins, mode="count")
    binary = checked_voxelize(events, **window, num_steps=num_steps, bins=bins)
    assert (counts.numpy() == expected).all()
    assert (binary.numpy() == (expected > 0)).all()


@pytest.mark.parametrize("mode", ["binary", "count"])
@pytest.mark.parametrize(("start_us", "stop_us"), [(0, 100_000), (-70_000, 30_001), (123_456, 234_567), (0, 7)])
def test_the_short_cut_from_file_to_cube_changes_nothing(tmp_path, random_events, start_us, stop_us, mode):
    events = random_events(20_000)
    write_dat(tmp_path / "clip_td.dat", events, (24, 32))
    window = {"start_us": start_us, "stop_us": stop_us, "num_steps": 3, "bins": 2, "mode": mode}
    direct = voxelize_dat(DatFile(tmp_path / "clip_td.dat"), **window)
    assert torch.equal(direct, voxelize(events, size_hw=(24, 32), **window))
    assert (mode == "binary") == (int(direct.max()) == 1) or stop_us == 7


def test_the_short_cut_applies_the_running_maximum(tmp_path, dat_bytes):
    path = tmp_path / "clip_td.dat"
    path.write_bytes(dat_bytes([(5, 0, 0, 0), (25, 1, 0, 0), (6, 2, 0, 0), (35, 3, 0, 0)]))
    with pytest.warns(UserWarning, match="1 of 4 events"):
        cube = voxelize_dat(DatFile(path), start_us=0, stop_us=40, num_steps=4, bins=1)
    assert torch.nonzero(cube)[:, [0, 3]].tolist() == [[0, 0], [2, 1], [2, 2], [3, 3]]


def test_no_events_make_an_empty_cube():
    cube = voxelize(np.empty(0, EVENT_DTYPE), start_us=0, stop_us=10, size_hw=(4, 6), num_steps=3, bins=1)
    assert cube.shape == (3, 2, 4, 6)
    assert cube.dtype == torch.uint8
    assert not cube.any()


def test_the_window_is_aligned_to_itself_not_to_its_first_event():
    event = np.array([(90, 0, 0, 1)], EVENT_DTYPE)
    cube = voxelize(event, start_us=0, stop_us=100, size_hw=(1, 1))
    assert torch.nonzero(cube).tolist() == [[4, 3, 0, 0]]


def test_counts_saturate_at_255():
    events = np.zeros(300, EVENT_DTYPE)
    cube = voxelize(events, start_us=0, stop_us=1, size_hw=(1, 1), num_steps=1, bins=1, mode="count")
    assert cube.flatten().tolist() == [255, 0]


def test_reversing_time_reverses_the_cells(random_events):
    events = random_events(2_000, duration_us=100_000)
    reverse = events[::-1].copy()
    reverse["t"] = 99_999 - reverse["t"]
    window = {"start_us": 0, "stop_us": 100_000, "size_hw": (24, 32)}
    cube, mirrored = voxelize(events, **window), voxelize(reverse, **window)
    cells = cube.reshape(5, 2, 2, 24, 32).transpose(1, 2).reshape(10, 2, 24, 32)
    cells_mirrored = mirrored.reshape(5, 2, 2, 24, 32).transpose(1, 2).reshape(10, 2, 24, 32)
    assert torch.equal(cells.flip(0), cells_mirrored)
    assert not torch.equal(cube, mirrored)


@pytest.mark.parametrize(
    ("event", "told"),
    [((5, 6, 0, 0), "x 6, y 0"), ((5, 0, 4, 0), "x 0, y 4"), ((5, 0, 0, 2), "p 2")],
)
def test_impossible_events_are_named_unless_outside_the_window(event, told):
    events = np.array([(1, 0, 0, 0), event], EVENT_DTYPE)
    with pytest.raises(EventFileError, match=f"event 1 of the array .*{told}"):
        voxelize(events, start_us=0, stop_us=10, size_hw=(4, 6))
    assert voxelize(events, start_us=0, stop_us=5, size_hw=(4, 6)).sum() == 1


def test_an_event_outside_the_sensor_is_named_by_the_short_cut_too(tmp_path, dat_bytes):
    path = tmp_path / "clip_td.dat"
    path.write_bytes(dat_bytes([(5, 0, 0, 0), (25, 304, 0, 0)]))
    with pytest.raises(EventFileError, match=r"event 1 .*x 304"):
        voxelize_dat(DatFile(path), start_us=20, stop_us=40)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"stop_us": 0}, WindowError, "is empty"),
        ({"mode": "binray"}, ConfigError, "did you mean 'binary'"),
        ({"bins": 0}, ConfigError, "must be positive"),
        ({"size_hw": (0, 6)}, ConfigError, "must be positive"),
    ],
)
def test_impossible_settings(change, error, told):
    with pytest.raises(error, match=told):
        voxelize(np.empty(0, EVENT_DTYPE), **{"start_us": 0, "stop_us": 10, "size_hw": (4, 6), **change})


def test_only_events_are_voxelized(tmp_path, dat_bytes):
    with pytest.raises(ConfigError, match="flat array of EVENT_DTYPE"):
        voxelize(np.zeros((3, 4)), start_us=0, stop_us=10, size_hw=(4, 6))
    path = tmp_path / "clip_td.dat"
    path.write_bytes(dat_bytes(lines=("Version 2",)))
    with pytest.raises(ConfigError, match="does not say its sensor's size"):
        voxelize_dat(DatFile(path), start_us=0, stop_us=10)
