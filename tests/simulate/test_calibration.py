import numpy as np
import pytest

from spiking_centernet.data.formats.dat import DatFile
from spiking_centernet.errors import ConfigError
from spiking_centernet.simulate.calibration import DVXPLORER_STATIC, IMX636_STATIC, noise_statistics, static_noise
from spiking_centernet.structures import EVENT_DTYPE

SECOND = 1_000_000


def test_statistics_of_no_events():
    found = noise_statistics(np.empty(0, EVENT_DTYPE), (2, 3), SECOND)
    assert found == {
        "rate_hz_per_pixel": 0.0, "silent_share": 1.0, "hot_share": 0.0, "hot_event_share": None, "hottest_hz": 0.0,
        "on_share": None, "alternating_share": None, "neighbour_correlation": None,
        "pixels_by_count": [1.0, *[0.0] * 9],
    }  # fmt: skip


def test_statistics_of_known_events():
    hot = [(i, 2, 1, 1) for i in range(60)]
    quiet = [(70, 0, 0, 1), (80, 0, 0, 0), (90, 0, 0, 1), (100, 0, 0, 1), (110, 1, 0, 0)]
    found = noise_statistics(np.array(hot + quiet, EVENT_DTYPE), (2, 5), SECOND)
    assert found["rate_hz_per_pixel"] == pytest.approx(6.5)
    assert found["silent_share"] == pytest.approx(0.7)
    assert found["hot_share"] == pytest.approx(0.1)
    assert found["hot_event_share"] == pytest.approx(60 / 65)
    assert found["hottest_hz"] == pytest.approx(60)
    assert found["on_share"] == pytest.approx(63 / 65)
    assert found["alternating_share"] == pytest.approx(2 / 3)
    assert found["pixels_by_count"] == pytest.approx([0.7, 0.1, 0, 0, 0.1, 0, 0, 0, 0, 0])


def test_neighbors_that_fire_together_correlate():
    pairs = [(t, x, y, 1) for t, (x, y) in enumerate([(0, 0), (1, 0), (0, 2), (1, 2)])]
    assert noise_statistics(np.array(pairs, EVENT_DTYPE), (4, 2), SECOND)["neighbour_correlation"] == pytest.approx(1)


def test_a_recording_without_length_is_refused():
    with pytest.raises(ConfigError, match="duration_us must be positive"):
        noise_statistics(np.empty(0, EVENT_DTYPE), (2, 3), 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params"),
    [("imx636_static_noise", IMX636_STATIC), ("dvxplorer_static_noise", DVXPLORER_STATIC)],
)
def test_simulated_noise_matches_the_real_recording(recordings_dir, name, params):
    recording = DatFile(recordings_dir / name / f"{name}_td.dat")
    duration_us = recording.last_us - recording.first_us
    assert recording.size_hw is not None
    real = noise_statistics(recording.decode(), recording.size_hw, duration_us)
    ours = noise_statistics(static_noise(params, recording.size_hw, duration_us), recording.size_hw, duration_us)
    assert ours["rate_hz_per_pixel"] == pytest.approx(real["rate_hz_per_pixel"], rel=0.05)
    assert ours["silent_share"] == pytest.approx(real["silent_share"], abs=0.005)
    assert ours["on_share"] == pytest.approx(real["on_share"], abs=0.01)
    assert ours["alternating_share"] == pytest.approx(real["alternating_share"], abs=0.05)
    # a handful of hot pixels: four standard deviations of their Poisson count
    pixels = np.prod(recording.size_hw)
    assert ours["hot_share"] * pixels == pytest.approx(
        real["hot_share"] * pixels, abs=4 * np.sqrt(real["hot_share"] * pixels)
    )
    assert ours["hottest_hz"] == pytest.approx(real["hottest_hz"], rel=0.5)
