"""What stops before a fixed camera makes no events any more: the bundled memory keeps it, other weights lose it.

A real street, DAVIS346, whose events end with two cars in the frame, as if they had stopped there.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

import spiking_centernet as scn
from spiking_centernet.boxes import iou_matrix
from spiking_centernet.data import boxes_at, read_boxes

STOP_US, STEP_US = 100_000, 20_000


def held(name, folder):
    """Return in how many of the steps from 0.1 to 1 s after the last event a car is found, at IoU 0.5."""
    recording = scn.open(folder / "icns_roadside_cars_td.dat")
    truth = boxes_at(read_boxes(folder / "icns_roadside_cars_bbox.npy"), STOP_US)
    model = scn.load(name)
    compiled = scn.compile(model, precision="fp32")
    step = replace(model.config.voxels, window_us=STEP_US, num_steps=1)
    state, found = None, []
    for stop_us, cube in recording.cubes(range(STEP_US, STOP_US + 50 * STEP_US, STEP_US), step):
        seen = cube if stop_us <= STOP_US else torch.zeros_like(cube)
        output, state = compiled(seen[:, None], state)
        (boxes,) = model.head.detections(
            output, [stop_us], size_hw=recording.size_hw, min_score=model.config.deployment.score_threshold
        )
        found.append(bool((iou_matrix(truth.xyxy, boxes.xyxy) >= 0.5).any()))
    return int(np.sum(found[10:]))


@pytest.mark.slow
def test_cars_that_stop_stay_found_while_they_make_no_events(recordings_dir):
    folder = recordings_dir / "icns_roadside_cars"
    assert held("nano", folder) == 0
    assert held("nano-memory", folder) >= 10
