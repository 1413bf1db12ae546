import beartype
import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_centernet import data as scn_events
from spiking_centernet.data import voxelize, write_dat
from spiking_centernet.data.voxel import window_start_us
from spiking_centernet.errors import ConfigError, EventFileError
from spiking_centernet.structures import EVENT_DTYPE, VoxelSpec

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
    assert expected.sum() == golden["events_per_cell"][window]
    assert torch.equal(recording.cube(stop_us), expected)
    for events in (recording.read(stop_us - 100_000, stop_us), recording.read()):
        assert torch.equal(voxelize(events, stop_us=stop_us, size_hw=recording.size_hw), expected)


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
    window = {"stop_us": start_us + length_us, "size_hw": (2, 3)}
    expected = plain_cube(events, start_us, start_us + length_us, (2, 3), num_steps, bins)
    counts = checked_voxelize(events, **window, spec=VoxelSpec(length_us, num_steps, bins, "count"))
    binary = checked_voxelize(events, **window, spec=VoxelSpec(length_us, num_steps, bins))
    assert (counts.numpy() == expected).all()
    assert (binary.numpy() == (expected > 0)).all()


@pytest.mark.parametrize("mode", ["binary", "count"])
@pytest.mark.parametrize(("start_us", "stop_us"), [(0, 100_000), (-70_000, 30_001), (123_456, 234_567), (0, 7)])
def test_the_short_cut_from_file_to_cube_changes_nothing(tmp_path, random_events, start_us, stop_us, mode):
    events = random_events(20_000)
    write_dat(tmp_path / "clip_td.dat", events, (24, 32))
    spec = VoxelSpec(stop_us - start_us, num_steps=3, mode=mode)
    direct = scn_events.open(tmp_path / "clip_td.dat").cube(stop_us, spec)
    assert torch.equal(direct, voxelize(events, stop_us=stop_us, size_hw=(24, 32), spec=spec))
    assert (mode == "binary") == (int(direct.max()) == 1) or stop_us == 7


def test_the_short_cut_applies_the_running_maximum(tmp_path, dat_bytes):
    path = tmp_path / "clip_td.dat"
    path.write_bytes(dat_bytes([(5, 0, 0, 0), (25, 1, 0, 0), (6, 2, 0, 0), (35, 3, 0, 0)]))
    with pytest.warns(UserWarning, match="1 of 4 events"):
        cube = scn_events.open(path).cube(40, VoxelSpec(40, num_steps=4, bins=1))
    assert torch.nonzero(cube)[:, [0, 3]].tolist() == [[0, 0], [2, 1], [2, 2], [3, 3]]


def test_no_events_make_an_empty_cube():
    cube = voxelize(np.empty(0, EVENT_DTYPE), stop_us=10, size_hw=(4, 6), spec=VoxelSpec(10, num_steps=3, bins=1))
    assert cube.shape == (3, 2, 4, 6)
    assert cube.dtype == torch.uint8
    assert not cube.any()


def test_the_window_is_aligned_to_itself_not_to_its_first_event():
    event = np.array([(90, 0, 0, 1)], EVENT_DTYPE)
    cube = voxelize(event, stop_us=100, size_hw=(1, 1), spec=VoxelSpec(100))
    assert torch.nonzero(cube).tolist() == [[4, 3, 0, 0]]


def test_counts_saturate_at_255():
    events = np.zeros(300, EVENT_DTYPE)
    cube = voxelize(events, stop_us=1, size_hw=(1, 1), spec=VoxelSpec(1, 1, 1, "count"))
    assert cube.flatten().tolist() == [255, 0]


def test_reversing_time_reverses_the_cells(random_events):
    events = random_events(2_000, duration_us=100_000)
    reverse = events[::-1].copy()
    reverse["t"] = 99_999 - reverse["t"]
    window = {"stop_us": 100_000, "size_hw": (24, 32)}
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
        voxelize(events, stop_us=10, size_hw=(4, 6), spec=VoxelSpec(10))
    assert voxelize(events, stop_us=5, size_hw=(4, 6), spec=VoxelSpec(5)).sum() == 1


def test_an_event_outside_the_sensor_is_named_by_the_short_cut_too(tmp_path, dat_bytes):
    path = tmp_path / "clip_td.dat"
    path.write_bytes(dat_bytes([(5, 0, 0, 0), (25, 304, 0, 0)]))
    with pytest.raises(EventFileError, match=r"event 1 .*x 304"):
        scn_events.open(path).cube(40, VoxelSpec(20))


def test_cubes_are_those_of_every_window(random_events, tmp_path):
    write_dat(tmp_path / "clip_td.dat", random_events(500, duration_us=90_000), (24, 32))
    np.savez(tmp_path / "clip.npz", events=random_events(500, duration_us=90_000))
    spec = VoxelSpec(15_000, num_steps=3)
    for name in ("clip_td.dat", "clip.npz"):
        recording = scn_events.open(tmp_path / name, size_hw=(24, 32))
        cubes = dict(recording.cubes(recording.stops_us(20_000), spec))
        assert list(cubes) == [20_000, 40_000, 60_000, 80_000, 100_000]
        for stop_us in (20_000, 40_000, 60_000, 80_000):
            assert torch.equal(cubes[stop_us], recording.cube(stop_us, spec))
        events = recording.read()
        assert torch.equal(cubes[100_000], voxelize(events, stop_us=100_000, size_hw=(24, 32), spec=spec))


def test_a_size_must_be_positive():
    with pytest.raises(ConfigError, match="must be positive"):
        voxelize(np.empty(0, EVENT_DTYPE), stop_us=10, size_hw=(0, 6))


def test_only_events_are_voxelized():
    with pytest.raises(ConfigError, match="flat array of EVENT_DTYPE"):
        voxelize(np.zeros((3, 4)), stop_us=10, size_hw=(4, 6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_us": 0}, "window_us must be at least 1"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"bins": -1}, "bins must be at least 1"),
        ({"mode": "binray"}, "did you mean 'binary'"),
    ],
)
def test_an_impossible_spec(change, message):
    with pytest.raises(ConfigError, match=message):
        VoxelSpec(**change)


def test_what_a_spec_implies():
    spec = VoxelSpec(window_us=50_000, num_steps=4, bins=3)
    assert (spec.channels, spec.step_us) == (6, 12_500)
    assert VoxelSpec() == VoxelSpec(100_000, 5, 2, "binary")


@settings(max_examples=60, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.one_of(st.sampled_from([1, 1 / 2, 1 / 3, 1 / 4]), st.floats(1 / 64, 1)),
    mode=st.sampled_from(["binary", "count"]),
    seed=st.integers(0, 9),
)
def test_a_scaled_cube_is_that_of_scaled_events(size_hw, scale, mode, seed):
    rng = np.random.default_rng(seed)
    events = np.zeros(500, EVENT_DTYPE)
    events["t"], events["p"] = np.sort(rng.integers(0, 100_000, 500)), rng.integers(0, 2, 500)
    events["x"], events["y"] = rng.integers(0, size_hw[1], 500), rng.integers(0, size_hw[0], 500)
    spec = VoxelSpec(scale=scale, mode=mode)
    over, under = spec.ratio.as_integer_ratio()
    scaled = events.copy()
    scaled["x"], scaled["y"] = events["x"] * over // under, events["y"] * over // under
    # The smallest size that holds every pixel of the sensor.
    small_hw = tuple(max(k * over // under for k in range(side)) + 1 for side in size_hw)
    cube = checked_voxelize(events, stop_us=100_000, size_hw=size_hw, spec=spec)
    assert spec.cube_hw(size_hw) == small_hw == tuple(cube.shape[-2:])
    assert torch.equal(cube, voxelize(scaled, stop_us=100_000, size_hw=small_hw, spec=VoxelSpec(mode=mode)))
    if over == 1 and mode == "binary":
        whole = voxelize(events, stop_us=100_000, size_hw=size_hw).float()
        assert torch.equal(cube, torch.nn.functional.max_pool2d(whole, under, ceil_mode=True).to(torch.uint8))


def test_the_short_cut_from_file_to_cube_scales_alike(tmp_path, random_events):
    events = random_events(5_000, duration_us=100_000)
    write_dat(tmp_path / "clip_td.dat", events, (24, 32))
    spec = VoxelSpec(scale=0.4)
    direct = scn_events.open(tmp_path / "clip_td.dat").cube(100_000, spec)
    assert direct.shape == (5, 4, 10, 13)
    assert torch.equal(direct, voxelize(events, stop_us=100_000, size_hw=(24, 32), spec=spec))


def test_an_event_outside_the_sensor_is_outside_at_any_scale():
    events = np.array([(1, 0, 0, 0), (5, 7, 0, 0)], EVENT_DTYPE)
    with pytest.raises(EventFileError, match=r"event 1 .* 7 x 4 sensor"):
        voxelize(events, stop_us=10, size_hw=(4, 7), spec=VoxelSpec(10, scale=0.25))


@pytest.mark.parametrize("scale", [0, 1.5, -1, float("nan"), 1 / 65])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ConfigError, match="scale must lie between 1/64 and 1"):
        VoxelSpec(scale=scale)


def test_a_window_reaches_back_until_it_holds_its_events():
    times_us = np.array([10, 20, 20, 30, 40, 70, 99])
    spec = VoxelSpec(90, num_events=3, least_us=5)
    # 99, 70 and 40 are three; of the two events at 20 both belong to a window that begins there.
    assert [window_start_us(times_us, stop_us, spec) for stop_us in (100, 80, 41, 31)] == [40, 30, 20, 20]
    # A fourth within the least length; fewer than three in the longest.
    assert window_start_us(times_us, 100, VoxelSpec(90, num_events=1, least_us=50)) == 50
    assert window_start_us(times_us, 25, VoxelSpec(90, num_events=4, least_us=5)) == -65
    assert window_start_us(times_us, 100, VoxelSpec(35, num_events=3, least_us=5)) == 65
    assert window_start_us(times_us[::-1].copy(), 100, spec) == 40
    assert window_start_us(times_us, 100, VoxelSpec(90)) == 10


@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("num_events", [1, 40, 700, 5_000])
def test_the_steps_divide_the_length_that_a_window_comes_to(tmp_path, random_events, num_events, scale):
    events = random_events(2_000, duration_us=100_000)
    write_dat(tmp_path / "clip_td.dat", events, (24, 32))
    spec = VoxelSpec(80_000, num_events=num_events, least_us=500, scale=scale)
    start_us = window_start_us(events["t"], 90_000, spec)
    inside = ((events["t"] >= start_us) & (events["t"] < 90_000)).sum()
    assert inside >= min(num_events, ((events["t"] >= 10_000) & (events["t"] < 90_000)).sum())
    fixed = VoxelSpec(90_000 - start_us, scale=scale)
    expected = voxelize(events, stop_us=90_000, size_hw=(24, 32), spec=fixed)
    assert torch.equal(voxelize(events, stop_us=90_000, size_hw=(24, 32), spec=spec), expected)
    assert torch.equal(scn_events.open(tmp_path / "clip_td.dat").cube(90_000, spec), expected)
    assert expected[0].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_events": -1}, "num_events must be at least 0"),
        ({"num_events": 5, "least_us": 0}, "least_us must be at least 1"),
        ({"num_events": 5, "least_us": 200_000}, "least length up to the most"),
    ],
)  # fmt: skip
def test_impossible_counts_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        VoxelSpec(**settings)
