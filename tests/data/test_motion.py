"""Boxes around what moves before a fixed camera."""

import numpy as np
import pytest

from spiking_centernet import data
from spiking_centernet.data import write_dat
from spiking_centernet.data.motion import MotionSettings, connected_components, moving_boxes, usual_activity
from spiking_centernet.errors import ConfigError, WindowError
from spiking_centernet.structures import EVENT_DTYPE

SIZE_HW = (96, 128)
SETTINGS = MotionSettings(window_us=50_000)


def square(left, top, side, t_us, *, every_px=1):
    """Events of all pixels of a square at one time."""
    x, y = np.meshgrid(np.arange(left, left + side, every_px), np.arange(top, top + side, every_px))
    events = np.zeros(x.size, EVENT_DTYPE)
    events["t"], events["x"], events["y"] = t_us, x.ravel(), y.ravel()
    return events


def noise(num, stop_us, seed=0):
    rng = np.random.default_rng(seed)
    events = np.zeros(num, EVENT_DTYPE)
    events["t"], events["p"] = rng.integers(0, stop_us, num), rng.integers(0, 2, num)
    events["x"], events["y"] = rng.integers(0, SIZE_HW[1], num), rng.integers(0, SIZE_HW[0], num)
    return events


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Two seconds of noise, a lamp that always flickers, and a square that crosses the picture from left to right."""
    parts = [noise(4_000, 2_000_000)]
    parts += [square(104, 8, 12, t_us) for t_us in range(1_000, 2_000_000, 10_000)]
    parts += [square(t_us // 25_000, 48, 24, t_us) for t_us in range(5_000, 2_000_000, 10_000)]
    events = np.concatenate(parts)
    path = tmp_path_factory.mktemp("street") / "street_td.dat"
    write_dat(path, events[np.argsort(events["t"], kind="stable")], SIZE_HW)
    return data.open(path)


@pytest.mark.parametrize("t_us", [500_000, 1_000_000, 1_500_000])
def test_what_crosses_is_boxed_and_what_flickers_is_not(street, t_us):
    usual = usual_activity(street, SETTINGS)
    (box,) = moving_boxes(street.read(t_us - 50_000, t_us), SIZE_HW, usual, SETTINGS)
    left = (t_us - 50_000) // 25_000
    np.testing.assert_allclose(box, [left, 48, left + 26, 72], atol=3)


def test_two_objects_are_two_boxes_the_larger_first():
    events = np.concatenate([square(10, 10, 16, 0), square(60, 40, 40, 0)])
    found = moving_boxes(events, SIZE_HW, np.zeros((12, 16)), MotionSettings(trim=0))
    np.testing.assert_array_equal(found, [[60, 40, 100, 80], [10, 10, 26, 26]])
    assert found.dtype == np.float32
    # An object of a few pixels is invalid.
    assert len(moving_boxes(square(10, 10, 8, 0), SIZE_HW, np.zeros((12, 16)), MotionSettings(trim=0))) == 0


@pytest.mark.parametrize(("gap_px", "num_boxes"), [(8, 1), (16, 1), (24, 2)])
def test_parts_with_up_to_two_cells_between_them_are_one_object(gap_px, num_boxes):
    events = np.concatenate([square(16, 16, 16, 0), square(32 + gap_px, 16, 16, 0)])
    found = moving_boxes(events, SIZE_HW, np.zeros((12, 16)), MotionSettings(trim=0))
    assert len(found) == num_boxes
    np.testing.assert_array_equal(found[:, [0, 2]].min(), 16)
    np.testing.assert_array_equal(found[:, [0, 2]].max(), 48 + gap_px)


def test_a_few_stray_events_do_not_widen_a_box():
    stray = np.concatenate([square(40, 40, 32, 0), square(38, 36, 1, 0), square(36, 38, 1, 0)])
    (box,) = moving_boxes(stray, SIZE_HW, np.zeros((12, 16)), MotionSettings(trim=0.01))
    np.testing.assert_array_equal(box, [40, 40, 72, 72])


def test_nothing_moves_where_all_moves():
    assert moving_boxes(noise(60_000, 50_000), SIZE_HW, np.zeros((12, 16)), SETTINGS).shape == (0, 4)
    assert moving_boxes(np.zeros(0, EVENT_DTYPE), SIZE_HW, np.zeros((12, 16)), SETTINGS).shape == (0, 4)


def test_an_empty_recording_has_no_motion(tmp_path):
    write_dat(tmp_path / "empty_td.dat", np.zeros(0, EVENT_DTYPE), SIZE_HW)
    with pytest.raises(WindowError, match="no motion"):
        usual_activity(data.open(tmp_path / "empty_td.dat"), SETTINGS)


@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_a_flood_fill(seed):
    mask = np.random.default_rng(seed).random((9, 13)) < 0.4
    number = connected_components(mask)
    assert ((number > 0) == mask).all()
    expected, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if expected[start]:
            continue
        count += 1
        todo = [start]
        while todo:
            y, x = todo.pop()
            if 0 <= y < 9 and 0 <= x < 13 and mask[y, x] and not expected[y, x]:
                expected[y, x] = count
                todo += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    np.testing.assert_array_equal(number, expected)


@pytest.mark.parametrize("settings", [{"cell_px": 0}, {"trim": 0.5}, {"window_us": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="motion needs"):
        MotionSettings(**settings)
