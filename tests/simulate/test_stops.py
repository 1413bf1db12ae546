"""The world ``stops``: its clocks stand still, and so does everybody who follows them."""

import numpy as np
import pytest

from spiking_centernet.simulate.scene.stops import StopsScene, draw_clock, follow_clock
from spiking_centernet.simulate.scene.traffic import LANE, STEP_S, Mover

SIZE_HW = (60, 76)


@pytest.mark.parametrize("seed", range(5))
def test_a_clock_stops_goes_on_and_never_runs_backwards_or_fast(seed):
    clock, rate = draw_clock(np.random.default_rng(seed), 200)
    assert clock[0] == 0
    assert (np.diff(clock) >= 0).all()
    assert (np.diff(clock) <= 1 + 1e-9).all()
    standing = rate == 0
    assert 0.2 < standing.mean() < 0.9
    assert np.isclose(rate, 1).any()
    assert (np.diff(clock)[standing[1:] & standing[:-1]] == 0).all()


def a_car(start: int, num_rows: int, speed_m_s: float = 10.0) -> Mover:
    rows = [(speed_m_s * STEP_S * k, 1.5, speed_m_s, 0.0) for k in range(num_rows)]
    return Mover(LANE, 0, start, 0.0, 4.0, rows)


def test_a_mover_is_where_it_would_have_been_at_the_time_of_the_clock():
    clock, rate = draw_clock(np.random.default_rng(1), 300)
    car = a_car(start=20, num_rows=30)
    follow_clock(car, clock, rate)
    steps = car.start + np.arange(len(car.rows))
    assert clock[car.start - 1] < 20 <= clock[car.start]
    assert clock[steps[-1]] <= 49
    along, across, speed, aside = np.array(car.rows).T
    np.testing.assert_allclose(along, (clock[steps] - 20) * STEP_S * 10)
    np.testing.assert_allclose(speed, 10 * rate[steps])
    assert (across == 1.5).all()
    assert (aside == 0).all()


def test_a_clock_that_runs_on_changes_nothing_and_who_never_comes_is_left_out():
    clock, rate = np.arange(100.0), np.ones(100)
    car = a_car(start=20, num_rows=30)
    follow_clock(car, clock, rate)
    assert car.start == 20
    np.testing.assert_allclose(car.rows, a_car(20, 30).rows, atol=1e-12)
    late = a_car(start=120, num_rows=30)
    follow_clock(late, clock, rate)
    assert late.rows == []


@pytest.mark.slow
def test_a_scene_has_a_fixed_camera_and_cars_that_stand_and_drive():
    scene = StopsScene(np.random.default_rng(3), size_hw=SIZE_HW, duration_s=8.0)
    assert scene.description["mount"] == "static"
    before = {}
    still = moving = 0
    for t_s in np.arange(0.0, 8.0, 0.1):
        now = {row[6]: np.array(row[1:5]) for row in scene.silhouettes(t_s) if row[5] == 0}
        for track in now.keys() & before.keys():
            same = np.array_equal(now[track], before[track])
            still, moving = still + same, moving + (not same)
        before = now
    assert still > 10
    assert moving > 10
    again = StopsScene(np.random.default_rng(3), size_hw=SIZE_HW, duration_s=8.0)
    frames = np.empty((2, *SIZE_HW), np.float32)
    scene.render(2.0, frames[0])
    again.render(2.0, frames[1])
    np.testing.assert_array_equal(*frames)
