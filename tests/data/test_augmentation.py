import numpy as np
import pytest
import torch

from spiking_centernet.data import Augmentation, augment, flip, zoom
from spiking_centernet.errors import ConfigError
from spiking_centernet.structures import Boxes, Sample


def sample_of(boxes_xyxy=((4.0, 2.0, 8.0, 6.0),), size_hw=(12, 16), seed=0):
    cube = torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (2, 4, *size_hw), np.uint8))
    count = len(boxes_xyxy)
    xyxy = np.array(boxes_xyxy, np.float32).reshape(count, 4)
    return Sample(cube, Boxes(xyxy, np.arange(count), np.arange(count) + 10), 100_000, "clip")


def same(one, other):
    return (
        torch.equal(one.cube, other.cube)
        and one.boxes.xyxy.tolist() == other.boxes.xyxy.tolist()
        and one.boxes.labels.tolist() == other.boxes.labels.tolist()
        and one.boxes.track_ids.tolist() == other.boxes.track_ids.tolist()
    )


def filled(cube, xyxy):
    """A cube that is 1 exactly inside the box, so that a picture and its box can be compared."""
    cube = torch.zeros_like(cube)
    left, top, right, bottom = (int(side) for side in xyxy)
    cube[..., top:bottom, left:right] = 1
    return cube


@pytest.mark.parametrize("change", [flip, lambda sample: zoom(sample, 2.0, (1.0, 2.0))])
def test_samples_without_boxes_pass(change):
    changed = change(sample_of(()))
    assert len(changed.boxes) == 0
    assert changed.cube.shape == (2, 4, 12, 16)


def test_a_flip_mirrors_cube_and_boxes_and_twice_is_nothing():
    sample = sample_of()
    before = sample.cube.clone()
    mirrored = flip(sample)
    assert torch.equal(mirrored.cube[..., 0], sample.cube[..., 15])
    assert mirrored.boxes.xyxy.tolist() == [[8, 2, 12, 6]]
    assert same(flip(mirrored), sample)
    assert torch.equal(sample.cube, before)
    assert sample.boxes.xyxy.tolist() == [[4, 2, 8, 6]]


def test_zoom_by_one_is_nothing():
    assert same(zoom(sample_of(), 1.0, (0.0, 0.0)), sample_of())


@pytest.mark.parametrize(
    ("factor", "top_left", "expected"),
    [
        (2.0, (1.0, 2.0), [4, 2, 12, 10]),
        (0.5, (0.0, 0.0), [2, 1, 4, 3]),
        (0.5, (-12.0, -16.0), [10, 7, 12, 9]),
    ],
)
def test_zoom_moves_picture_and_box_together(factor, top_left, expected):
    sample = sample_of()
    sample = Sample(filled(sample.cube, sample.boxes.xyxy[0]), sample.boxes, sample.t_us, sample.recording)
    zoomed = zoom(sample, factor, top_left, min_side_px=1)
    assert zoomed.boxes.xyxy.tolist() == [expected]
    assert torch.equal(zoomed.cube, filled(sample.cube, expected))
    assert sample.boxes.xyxy.tolist() == [[4, 2, 8, 6]]


def test_a_view_beside_the_frame_is_empty():
    zoomed = zoom(sample_of(), 2.0, (0.0, 20.0))
    assert not zoomed.cube.any()
    assert len(zoomed.boxes) == 0


def test_zooming_out_leaves_the_surroundings_empty():
    ones = sample_of()
    ones = Sample(torch.ones_like(ones.cube), ones.boxes, ones.t_us, ones.recording)
    zoomed = zoom(ones, 0.5, (-6.0, -8.0))
    assert torch.equal(zoomed.cube, filled(ones.cube, (4, 3, 12, 9)))


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"min_left": 0.0, "min_side_px": 0.0}, [10, 11, 12]),
        ({"min_left": 0.3, "min_side_px": 0.0}, [10, 11]),
        ({"min_left": 0.0, "min_side_px": 4.0}, [10]),
        ({"min_left": 1.0, "min_side_px": 0.0}, [10, 11]),
    ],
)
def test_boxes_with_little_left_are_dropped(limits, kept):
    # The view is columns 0-8 and rows 0-6, twice as large: the boxes keep all, all and a quarter of themselves.
    sample = sample_of([(1.0, 1.0, 4.0, 4.0), (5.0, 1.0, 6.0, 3.0), (7.0, 0.0, 11.0, 4.0)])
    assert zoom(sample, 2.0, (0.0, 0.0), **limits).boxes.track_ids.tolist() == kept


def test_random_changes_are_a_function_of_the_generator_alone():
    settings = Augmentation(flip=0.5, zoom=0.9)
    made = [augment(sample_of(), np.random.default_rng(seed), settings) for seed in range(20)]
    again = [augment(sample_of(), np.random.default_rng(seed), settings) for seed in range(20)]
    assert all(same(one, other) for one, other in zip(made, again, strict=True))
    assert sum(not same(one, sample_of()) for one in made) > 15
    for one in made:
        assert one.cube.shape == (2, 4, 12, 16)
        assert int(one.cube.max()) == 1
        assert (one.boxes.xyxy >= 0).all()
        assert (one.boxes.xyxy <= [16, 12, 16, 12]).all()


def test_probabilities_of_zero_change_nothing():
    settings = Augmentation(flip=0.0, zoom=0.0)
    assert all(same(augment(sample_of(), np.random.default_rng(seed), settings), sample_of()) for seed in range(5))


def test_impossible_settings():
    for settings in ({"flip": 1.5}, {"zoom_range": (0.0, 1.0)}, {"zoom_range": (2.0, 1.0)}, {"min_left": -1.0}):
        with pytest.raises(ConfigError):
            Augmentation(**settings)
    with pytest.raises(ConfigError, match="must be positive, got 0"):
        zoom(sample_of(), 0, (0.0, 0.0))
