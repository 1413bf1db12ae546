"""3D boxes of one picture on one level ground."""

from dataclasses import replace

import numpy as np
import pytest
from test_peak_tasks import SIZE_HW as SMALL_HW
from test_peak_tasks import camera, oracle, scene

from spiking_centernet.boxes3d import centers, corners
from spiking_centernet.calibration import MAX_VOTES, Calibration
from spiking_centernet.data.cameras import CameraTrack, with_votes
from spiking_centernet.data.object_files import camera_rows
from spiking_centernet.model import DetectorConfig
from spiking_centernet.model.config import HeadConfig
from spiking_centernet.model.heads import make_head
from spiking_centernet.model.heads.ground import EVEN_PX, FOOTPRINT, on_ground

SIZE_HW = (480, 640)
HEIGHT_M = 2.2
WRONG = np.array([1.3, 1.0, 0.8, 1.6, 0.7])


def tilted(roll: float = 0.05, pitch: float = 0.2, **settings) -> Calibration:
    """A camera that looks down and leans, its place beside the frame's origin."""
    cr, sr, cp, sp = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch)
    rotation = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return Calibration(np.array([500.0, 520.0]), np.array([310.0, 250.0]), rotation, **settings)


def street(view: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Return 3D boxes [5, 7] that stand on the ground, and 2D boxes that end where their footprints do."""
    eye = -view.rotation.T @ view.translation
    x, z = np.array([-4, 1, 3, -1, 2]), np.array([12, 9, 20, 16, 11])
    place = eye + np.column_stack([x, np.full(5, HEIGHT_M), z])
    sides = np.array([[1.5, 1.8, 4.2], [1.7, 0.5, 0.6], [1.5, 1.7, 4.0], [2.0, 1.9, 5.0], [1.1, 0.4, 0.4]])
    box3d = np.column_stack([place, sides, [0.3, -2.0, 1.4, 3.0, -0.7]])
    seen, footprint = view.project(corners(box3d)), box3d.copy()
    footprint[:, 4:6] *= FOOTPRINT
    bottom = view.project(corners(footprint)[:, :4])[..., 1].max(axis=1)
    return box3d, np.column_stack([seen.min(1), seen[..., 0].max(1), bottom])


def at_depths(box3d: np.ndarray, factor: np.ndarray, view: Calibration) -> np.ndarray:
    """Return boxes whose middles are seen where they were, at as many times their depth."""
    middle = centers(box3d)
    away = view.unproject(view.project(middle), factor * view.to_camera(middle)[:, 2])
    return np.column_stack([box3d[:, :3] + away - middle, box3d[:, 3:]])


def depth_ratio(found: np.ndarray, box3d: np.ndarray, view: Calibration) -> np.ndarray:
    return view.to_camera(centers(found))[:, 2] / view.to_camera(centers(box3d))[:, 2]


def share_of_the_ground(box3d: np.ndarray, xyxy: np.ndarray, view: Calibration) -> np.ndarray:
    """Return the weight that every box's bottom edge has by its distance from the horizon."""
    far = (box3d[:, :3] + view.rotation.T @ view.translation) * [1e7, 0, 1e7]
    below = xyxy[:, 3] - view.project(far)[:, 1]
    return 1 / (1 + (EVEN_PX / below) ** 2)


@pytest.mark.parametrize("translation", [np.zeros(3), np.array([0.3, -0.2, 0.1])])
def test_a_known_height_takes_the_share_of_the_ground_off_every_wrong_depth(translation):
    view = tilted(translation=translation, height_m=HEIGHT_M)
    box3d, xyxy = street(view)
    wrong = at_depths(box3d, WRONG, view)
    found = on_ground(wrong, xyxy, np.ones(5), view, size_hw=SIZE_HW)
    share = share_of_the_ground(box3d, xyxy, view)
    assert share.min() > 0.5
    np.testing.assert_allclose(depth_ratio(found, box3d, view), WRONG ** (1 - share), rtol=1e-5)
    np.testing.assert_allclose(view.project(centers(found)), view.project(centers(box3d)), atol=1e-3)
    np.testing.assert_array_equal(found[:, 3:], wrong.astype(np.float32)[:, 3:])


def test_an_unknown_height_is_the_median_of_what_boxes_say():
    view = tilted()
    box3d, xyxy = street(view)
    wrong = at_depths(box3d, WRONG, view)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    found = on_ground(wrong, xyxy, scores, view, size_hw=SIZE_HW)
    known = on_ground(wrong, xyxy, scores, replace(view, height_m=float(np.median(wrong[:, 1]))), size_hw=SIZE_HW)
    np.testing.assert_allclose(found, known, rtol=1e-6)
    errors = [np.abs(np.log(depth_ratio(b, box3d, view))).mean() for b in (wrong, found)]
    assert errors[1] < 0.5 * errors[0]
    unsure = at_depths(box3d, np.array([1.0, 1.0, 1.0, 3.0, 3.0]), view)
    voted = on_ground(unsure, xyxy, np.array([0.9, 0.8, 0.7, 0.1, 0.1]), view, size_hw=SIZE_HW)
    np.testing.assert_allclose(voted[:3], box3d[:3], rtol=1e-5)  # boxes of low score have no vote


def test_votes_are_carried_from_picture_to_picture():
    view = with_votes(tilted())
    assert isinstance(view, Calibration)
    box3d, xyxy = street(view)
    sure = np.full(5, 0.9)
    for _ in range(3):
        np.testing.assert_allclose(on_ground(box3d, xyxy, sure, view, size_hw=SIZE_HW), box3d, rtol=1e-5)
    wrong = at_depths(box3d, np.full(5, 1.3), view)
    carried = on_ground(wrong, xyxy, sure, view, size_hw=SIZE_HW)
    known = on_ground(wrong, xyxy, sure, replace(view, height_m=HEIGHT_M), size_hw=SIZE_HW)
    np.testing.assert_allclose(carried, known, rtol=1e-5)
    alone = on_ground(wrong, xyxy, sure, tilted(), size_hw=SIZE_HW)
    assert (depth_ratio(alone, box3d, view) > depth_ratio(carried, box3d, view) + 0.05).all()
    # One that no box of its own votes in knows the height all the same; a known one asks nobody.
    np.testing.assert_allclose(on_ground(wrong, xyxy, 0.1 * sure, view, size_hw=SIZE_HW), known, rtol=1e-5)
    assert view.votes is not None
    before = view.votes.median
    on_ground(wrong, xyxy, sure, replace(view, height_m=9.0), size_hw=SIZE_HW)
    assert view.votes.median == before


def test_a_moving_camera_shares_its_votes_and_forgets_old_ones():
    track = with_votes(CameraTrack(camera_rows({0: tilted(), 100_000: tilted(pitch=0.1)})))
    assert isinstance(track, CameraTrack)
    first, second = track.at(0).votes, track.at(100_000).votes
    assert first is second is not None
    assert first.median is None
    first.add([5.0])
    first.add(MAX_VOTES * [1.0])
    assert second.median == 1.0
    assert with_votes(None) is None


def test_boxes_that_the_ground_says_nothing_of_stay():
    view = tilted(height_m=3 * HEIGHT_M)
    box3d, xyxy = street(view)
    xyxy[0, 3] = SIZE_HW[0]  # ends at the border
    xyxy[1, 3] = 20  # above the horizon
    box3d[2] = np.nan
    found = on_ground(box3d, xyxy, np.ones(5), view, size_hw=SIZE_HW)
    np.testing.assert_array_equal(found[:3], box3d[:3].astype(np.float32))
    assert (depth_ratio(found[3:], box3d[3:], view) > 1.5).all()
    unknown = tilted()
    np.testing.assert_array_equal(on_ground(box3d, xyxy, np.full(5, 0.1), unknown, size_hw=SIZE_HW), box3d)
    assert on_ground(box3d[:0], xyxy[:0], np.ones(0), unknown, size_hw=SIZE_HW).shape == (0, 7)


def test_no_depth_changes_beyond_bounds():
    view = tilted(height_m=1000.0)
    box3d, xyxy = street(view)
    found = on_ground(box3d, xyxy, np.ones(5), view, size_hw=SIZE_HW)
    share = share_of_the_ground(box3d, xyxy, view)
    np.testing.assert_allclose(depth_ratio(found, box3d, view), 4.0**share, rtol=1e-5)


@pytest.mark.parametrize("placing", ["free", "ground"])
def test_a_head_places_its_boxes_before_any_is_dropped(placing):
    view = camera()
    boxes = scene(view)
    output = oracle(boxes, view)
    decoder = replace(DetectorConfig().decoder, num_blocks=3)
    config = DetectorConfig(tasks=("detect", "detect3d", "pose"), decoder=decoder, head=HeadConfig(placing=placing))

    def found(calibration, min_score=0.5):
        return make_head(config).detections(
            output, [0], size_hw=SMALL_HW, min_score=min_score, calibrations=[calibration]
        )[0]

    moved = np.abs(found(view).box3d - make_head(replace(config, head=HeadConfig())).detections(
        output, [0], size_hw=SMALL_HW, min_score=0.5, calibrations=[view]
    )[0].box3d).max(axis=1)  # fmt: skip
    assert (moved > 0.01).any() == (placing == "ground")
    known = found(replace(view, height_m=1.2)).box3d
    assert (np.abs(known - found(view).box3d).max() > 0.01) == (placing == "ground")
    np.testing.assert_array_equal(found(view, 0.0).box3d[:2], found(view).box3d)


def test_mirrored_and_enlarged_pictures_keep_the_height():
    view = tilted(height_m=1.5)
    assert view.flipped(640).height_m == view.zoomed(2.0, (3.0, 4.0)).height_m == 1.5
    for wrong in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="height_m must be a positive number of meters"):
            tilted(height_m=wrong)
