import numpy as np
import pytest

from spiking_centernet.boxes import area, clip, iou_matrix, xyxy_to_xywh


def rows(*boxes) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("xywh", "xyxy"),
    [
        (rows(), rows()),
        (rows((0, 0, 0, 0)), rows((0, 0, 0, 0))),
        (rows((1, 2, 3, 4)), rows((1, 2, 4, 6))),
        (rows((-5, 2, 10, 1), (0.5, 0.25, 1, 1)), rows((-5, 2, 5, 3), (0.5, 0.25, 1.5, 1.25))),
    ],
)
def test_sizes_from_corners(xywh, xyxy):
    np.testing.assert_array_equal(xyxy_to_xywh(xyxy), xywh)


@pytest.mark.parametrize(
    ("xyxy", "expected"),
    [
        (rows(), []),
        (rows((0, 0, 2, 3)), [6.0]),
        (rows((5, 5, 5, 9)), [0.0]),
        (rows((5, 5, 3, 3), (1, 1, 2, 2)), [0.0, 1.0]),  # two negative sides do not make a positive area
    ],
)
def test_area(xyxy, expected):
    np.testing.assert_array_equal(area(xyxy), expected)


@pytest.mark.parametrize(
    ("xyxy", "expected"),
    [
        (rows(), rows()),
        (rows((1, 1, 2, 2)), rows((1, 1, 2, 2))),
        (rows((-3, -4, 400, 300)), rows((0, 0, 304, 240))),
        (rows((-30, 10, -20, 20)), rows((0, 10, 0, 20))),
    ],
)
def test_clip_returns_a_new_array(xyxy, expected):
    before = xyxy.copy()
    got = clip(xyxy, (240, 304))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(xyxy, before)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (rows(), rows(), np.zeros((0, 0))),
        (rows(), rows((0, 0, 1, 1)), np.zeros((0, 1))),
        (rows((0, 0, 1, 1)), rows(), np.zeros((1, 0))),
        (rows((0, 0, 4, 4)), rows((0, 0, 4, 4)), [[1.0]]),
        (rows((0, 0, 4, 4)), rows((2, 0, 6, 4)), [[1 / 3]]),
        (rows((0, 0, 4, 4)), rows((4, 0, 8, 4)), [[0.0]]),
        (rows((0, 0, 2, 2), (0, 0, 4, 4)), rows((0, 0, 4, 4), (1, 1, 3, 3)), [[1 / 4, 1 / 7], [1.0, 1 / 4]]),
        (rows((1, 1, 1, 1)), rows((1, 1, 1, 1)), [[0.0]]),  # 0 / 0 is no overlap, and no warning
    ],
)
def test_iou_matrix(a, b, expected):
    np.testing.assert_allclose(iou_matrix(a, b), expected, rtol=1e-12)


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"xyxy_b must be \[N, 4\], got \[4\]"):
        iou_matrix(rows((0, 0, 1, 1)), np.zeros(4))
