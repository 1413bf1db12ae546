"""Which scale a sensor's events are binned at, and the way of boxes back to its pixels."""

from fractions import Fraction

import numpy as np
import pytest

from spiking_centernet.errors import ConfigError
from spiking_centernet.model import DetectorConfig
from spiking_centernet.model.config_dict import config_to_dict, with_changes
from spiking_centernet.model.scaling import MAX_DETECTIONS, choose_scaling, merge, to_sensor
from spiking_centernet.structures import Detections, VoxelSpec

CONFIG = DetectorConfig()


def detections(boxes, scores, labels=None, t_us=7):
    labels = np.zeros(len(boxes)) if labels is None else np.array(labels)
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(xyxy, np.array(scores, np.float32), labels.astype(np.int64), t_us)


@pytest.mark.parametrize(
    ("size_hw", "scale"),
    [
        ((240, 304), 1), ((128, 128), 1), ((260, 346), 1), ((320, 320), 1), ((480, 640), 1 / 2), ((720, 1280), 1 / 3),
        ((1440, 1920), 1 / 6), ((479, 607), 1), ((480, 608), 1 / 2),
    ],
)  # fmt: skip
def test_auto_brings_a_sensor_near_the_size_of_training(size_hw, scale):
    scaling = choose_scaling("auto", size_hw, CONFIG)
    assert scaling.scales == (scale,)
    assert scaling.is_auto


def test_auto_goes_by_what_the_network_was_trained_on():
    large = with_changes(CONFIG, {"deployment.trained_hw": [720, 1280]})
    assert choose_scaling("auto", (720, 1280), large).scales == (1,)


def test_what_is_asked_for_is_taken():
    assert choose_scaling(0.3, (48, 60), CONFIG).scales == (0.3,)
    assert choose_scaling((1, 0.5), (48, 60), CONFIG).scales == (1.0, 0.5)
    pyramid = choose_scaling("pyramid", (480, 640), CONFIG)
    assert pyramid.scales == (1.0, 0.5, 0.25)
    assert pyramid.cost == 1 + 1 / 4 + 1 / 16


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("autp", "did you mean 'auto'"), (0, "between 1/64 and 1"), (2, "between 1/64 and 1"),
        (float("nan"), "between"), ((), "takes numbers"), ((0.5, "auto"), "takes numbers"),
        ((0.5, 0.5001), "stands twice"), (True, "takes numbers"),
    ],
)  # fmt: skip
def test_impossible_scales_are_refused(scale, message):
    with pytest.raises(ConfigError, match=message):
        choose_scaling(scale, (48, 60), CONFIG)


def test_the_choice_says_sizes_cost_and_how_to_choose_another():
    assert str(choose_scaling("auto", (720, 1280), CONFIG)) == (
        "scale 1/3: the 1280 x 720 sensor is binned at 427 x 240 pixels; chosen for these weights, --scale 1 keeps "
        "every pixel"
    )
    assert str(choose_scaling((1, 1 / 3), (480, 640), CONFIG)) == (
        "scale 1, 1/3: the 640 x 480 sensor is binned at 640 x 480 and 214 x 160 pixels, 1.11 times the network's work "
        "at scale 1"
    )


def test_a_network_has_no_scale_of_its_own():
    assert "scale" not in config_to_dict(CONFIG)["voxels"]
    with pytest.raises(ConfigError, match="no scale of its own"):
        DetectorConfig(voxels=VoxelSpec(scale=0.5))
    with pytest.raises(ConfigError, match=r"unknown network setting 'voxels\.scale'"):
        with_changes(CONFIG, {"voxels.scale": 0.5})


def test_boxes_come_back_in_pixels_of_the_sensor():
    found = detections([[1, 2, 3, 4], [0, 0, 87, 9]], [0.9, 0.8])
    assert to_sensor(found, Fraction(1), (260, 346)) is found
    back = to_sensor(found, Fraction(1, 3), (260, 250))
    np.testing.assert_array_equal(back.xyxy, [[3, 6, 9, 12], [0, 0, 250, 27]])
    # 128 columns at 3/4 are bins 0 to 95 of the cube: a box in what lies beyond the sensor has no pixels.
    assert len(to_sensor(detections([[96, 0, 97, 5]], [0.9]), Fraction(3, 4), (128, 128))) == 0
    assert len(to_sensor(detections([], []), Fraction(1, 2), (9, 9))) == 0


def test_scales_are_merged_without_duplicates():
    fine = detections([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]], [0.9, 0.5, 0.3])
    coarse = detections([[0, 0, 10, 9], [50, 50, 60, 61], [0, 0, 10, 10]], [0.7, 0.6, 0.2], [0, 0, 1])
    merged = merge([fine, coarse])
    # The best of overlapping boxes stays; those of one scale or of two classes do not suppress each other.
    np.testing.assert_array_equal(merged.scores, np.float32([0.9, 0.6, 0.5, 0.2]))
    np.testing.assert_array_equal(merged.labels, [0, 0, 0, 1])
    assert merged.t_us == 7
    assert merge([fine]) is fine
    assert len(merge([detections([], []), detections([], [])])) == 0


def test_a_dropped_box_drops_no_other():
    # B overlaps A (kept) and C, but C not A: B goes, so C stays.
    first = detections([[0, 0, 10, 10]], [0.9])
    second = detections([[0, 3, 10, 13]], [0.8])
    third = detections([[0, 6, 10, 16]], [0.7])
    np.testing.assert_array_equal(merge([first, second, third]).scores, np.float32([0.9, 0.7]))


def test_merged_lists_are_as_long_as_a_scale_s_at_most():
    boxes = [[9 * k, 0, 9 * k + 5, 5] for k in range(80)]
    far = [[9 * k, 50, 9 * k + 5, 55] for k in range(80)]
    merged = merge([detections(boxes, np.linspace(1, 0.2, 80)), detections(far, np.linspace(0.9, 0.1, 80))])
    assert len(merged) == MAX_DETECTIONS
    assert (np.diff(merged.scores) <= 0).all()
