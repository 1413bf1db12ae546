"""Pure box geometry: corners, areas, clipping, overlaps."""

import numpy as np
from jaxtyping import Float64, Shaped


def _checked(boxes: np.ndarray, name: str) -> np.ndarray:
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must be [N, 4], got {list(boxes.shape)}; pass an array of shape (0, 4) for no boxes")
    return boxes


def xyxy_to_xywh(xyxy: np.ndarray) -> Float64[np.ndarray, "N 4"]:
    """Turn left, top, right, bottom into left, top, width, height.

    Args:
        xyxy: [N, 4] in pixels.

    Returns:
        float64 [N, 4] in pixels, so that no side is rounded a second time.

    Raises:
        ValueError: the array is not [N, 4].
    """
    wide = _checked(xyxy, "xyxy").astype(np.float64)
    return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)


def clip(xyxy: np.ndarray, size_hw: tuple[int, int]) -> Shaped[np.ndarray, "N 4"]:
    """Limit corners to the frame; a box wholly outside keeps its place in the list and loses its area.

    Args:
        xyxy: [N, 4] in pixels.
        size_hw: height and width of the frame in pixels.

    Returns:
        A new array [N, 4] of the same dtype.

    Raises:
        ValueError: the array is not [N, 4].
    """
    xyxy = _checked(xyxy, "xyxy")
    height, width = size_hw
    return np.clip(xyxy, 0, np.array([width, height, width, height])).astype(xyxy.dtype)


def area(xyxy: np.ndarray) -> Float64[np.ndarray, " N"]:
    """Return the areas, zero where a side is zero or negative.

    Args:
        xyxy: [N, 4] in pixels.

    Returns:
        float64 [N] in square pixels.

    Raises:
        ValueError: the array is not [N, 4].
    """
    return np.prod(np.maximum(xyxy_to_xywh(xyxy)[:, 2:], 0.0), axis=1)


def iou_matrix(xyxy_a: np.ndarray, xyxy_b: np.ndarray) -> Float64[np.ndarray, "N M"]:
    """Return intersection over union of every pair, zero where the union has no area.

    Args:
        xyxy_a: [N, 4] in pixels.
        xyxy_b: [M, 4] in pixels.

    Returns:
        float64 [N, M] in [0, 1].

    Raises:
        ValueError: an array is not [N, 4].
    """
    intersection = _intersections(xyxy_a, xyxy_b)
    union = area(xyxy_a)[:, None] + area(xyxy_b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def _intersections(xyxy_a: np.ndarray, xyxy_b: np.ndarray) -> Float64[np.ndarray, "N M"]:
    a = _checked(xyxy_a, "xyxy_a").astype(np.float64)
    b = _checked(xyxy_b, "xyxy_b").astype(np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # [N,M,2]
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])  # [N,M,2]
    return np.prod(np.maximum(high - low, 0.0), axis=2)


def covered_shares(xyxy_a: np.ndarray, xyxy_b: np.ndarray) -> Float64[np.ndarray, "N M"]:
    """Return which share of every first box lies in every second one, zero where the first has no area.

    Args:
        xyxy_a: [N, 4] in pixels.
        xyxy_b: [M, 4] in pixels.

    Returns:
        float64 [N, M] in [0, 1]; COCO compares detections with crowds so.

    Raises:
        ValueError: an array is not [N, 4].
    """
    areas = area(xyxy_a)[:, None]
    return np.divide(_intersections(xyxy_a, xyxy_b), areas, out=np.zeros((len(areas), len(xyxy_b))), where=areas > 0)
