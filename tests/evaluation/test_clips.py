"""A network with memory on a data set: clip by clip, every step once, the state carried from frame to frame."""

import json
from collections import Counter

import numpy as np
import pytest
from tiny import MEMORY, some_events, tiny_detector, tiny_memory
from torch.utils.data import Subset

from spiking_centernet.cli import program
from spiking_centernet.data import open, write_boxes, write_dat
from spiking_centernet.data.corruptions import Fault
from spiking_centernet.errors import ConfigError, EvaluationError
from spiking_centernet.evaluation.clips import Pass, passes_of
from spiking_centernet.evaluation.prediction import dataset_for, predict
from spiking_centernet.inference.recordings import detections_at
from spiking_centernet.model.weights import save
from spiking_centernet.structures import BOX_DTYPE, VoxelSpec

SIZE_HW = (16, 24)
DENSE_US = {"long": range(50_000, 400_001, 50_000), "short": range(20_000, 200_001, 20_000)}
APART_US = {"one": (120_000, 250_003, 500_001), "two": (333_333,)}
"""By clip the times of labels; those of ``APART_US`` are more than a window apart."""


def write_clips(root, labels_us, size_hw=SIZE_HW):
    (root / "val").mkdir(parents=True, exist_ok=True)
    for name, times_us in labels_us.items():
        write_dat(root / "val" / f"{name}_td.dat", some_events(1500, times_us[-1], size_hw, 0), size_hw)
        boxes = np.zeros(len(times_us), BOX_DTYPE)
        boxes["ts"], boxes["x"], boxes["y"], boxes["w"], boxes["h"] = times_us, 2, 2, 8, 8
        write_boxes(root / "val" / f"{name}_bbox.npy", boxes)
    return root


@pytest.fixture(scope="module")
def model():
    return tiny_memory()


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("dense"), DENSE_US)


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("apart"), APART_US)


def assert_alike(found, expected, atol=1e-5):
    assert found.keys() == expected.keys()
    for frame, one in found.items():
        other = expected[frame]
        np.testing.assert_allclose(one.scores, other.scores, atol=atol, rtol=0)
        order, others = np.lexsort(one.xyxy.T), np.lexsort(other.xyxy.T)
        np.testing.assert_allclose(one.xyxy[order], other.xyxy[others], atol=100 * atol, rtol=0)


@pytest.mark.parametrize(
    ("t_us", "expected"),
    [
        ([], []),
        ([5_000], [(-15_000, [1])]),  # a first step may begin before the clip
        ([300_000], [(180_000, [6])]),
        ([300_001], [(180_001, [6])]),  # one answer is of the very window
        ([40_000, 80_000], [(0, [2, 4])]),
        ([50_000, 100_000, 150_000], [(0, [2, 5, 7])]),
        ([79_999, 129_999, 179_999, 230_000], [(-10_001, [4, 7, 9, 12])]),
        ([119_999, 139_999, 159_999, 180_000], [(-1, [6, 7, 8, 9])]),  # none is a step old
        ([100_000, 220_000, 340_001, 460_003], [(0, [5, 11]), (220_001, [6]), (340_003, [6])]),
    ],
)
def test_a_clip_is_passed_through_from_frame_to_frame(t_us, expected):
    spec = VoxelSpec(120_000, num_steps=6)
    passes = list(passes_of(t_us, range(7, 7 + len(t_us)), spec))
    assert [(one.start_us, list(one.ends)) for one in passes] == expected
    assert [index for one in passes for index in one.indices] == list(range(7, 7 + len(t_us)))


def test_frames_before_the_first_step_have_no_answer():
    assert list(passes_of([5_000, 20_000, 40_000], [0, 1, 2], VoxelSpec(120_000, num_steps=6))) == [
        Pass((0, 1, 2), 0, (0, 1, 2))
    ]


def test_where_both_see_the_same_both_answer_the_same_to_the_bit(model, apart):
    exact = model.with_exact_sums()
    dataset = dataset_for(exact, apart, "val")
    carried, single = (predict(exact, dataset, mode=mode, batch_size=1) for mode in ("stateful", "windowed"))
    assert len(carried.detections) == 4
    for frame, found in single.detections.items():
        assert len(found) > 0
        for column in ("xyxy", "scores", "labels"):
            np.testing.assert_array_equal(getattr(carried.detections[frame], column), getattr(found, column))
        np.testing.assert_array_equal(carried.truth[frame].xyxy, single.truth[frame].xyxy)
    assert carried.size_hw == single.size_hw == SIZE_HW


@pytest.mark.parametrize("batch_size", [1, 2])
def test_answers_are_those_of_a_detection_in_the_recording(model, dense, batch_size):
    dataset = dataset_for(model, dense, "val")
    expected = {}
    for recording in dataset.recordings:
        found = detections_at(model, open(recording.path), recording.timestamps_us, min_score=0.0)
        expected |= {(recording.name, one.t_us): one for one in found}
    found = predict(model, dataset, batch_size=batch_size).detections
    assert list(found) == [(r.name, t) for r, t in map(dataset.locate, range(len(dataset)))]
    assert_alike(found, expected)
    windowed = predict(model, dataset, mode="windowed").detections
    assert any(len(found[k]) != len(windowed[k]) or not np.allclose(found[k].scores, windowed[k].scores) for k in found)


def test_part_of_the_frames(model, dense):
    dataset = dataset_for(model, dense, "val")
    indices = [index for index in range(len(dataset)) if index % 2]
    whole, part = predict(model, dataset).detections, predict(model, Subset(dataset, indices)).detections
    assert len(part) == len(indices)
    assert_alike(part, {frame: whole[frame] for frame in part})
    assert not predict(model, Subset(dataset, [])).detections


def test_every_step_is_counted_once(model, dense):
    counted = Counter()
    dataset = dataset_for(model, dense, "val")
    predict(model, dataset, observe=lambda name, spikes: counted.update({name: len(spikes)}))
    assert set(counted.values()) == {400_000 // 20_000 + 200_000 // 20_000}
    counted.clear()
    predict(model, dataset, mode="windowed", observe=lambda name, spikes: counted.update({name: len(spikes)}))
    assert set(counted.values()) == {6 * len(dataset)}


@pytest.mark.slow
def test_networks_without_memory_see_single_windows(dense):
    model = tiny_detector()
    dataset = dataset_for(model, dense, "val")
    found, fused = predict(model, dataset, batch_size=1), model.fuse()
    assert len(found.detections) == len(dataset)
    for sample in (dataset[k] for k in range(len(dataset))):
        output, _ = fused(sample.cube[:, None])
        (expected,) = model.head.detections(output, [sample.t_us], size_hw=SIZE_HW)
        one = found.detections[sample.recording, sample.t_us]
        np.testing.assert_array_equal(one.xyxy, expected.xyxy)
        np.testing.assert_array_equal(one.scores, expected.scores)
    # Asked for, they carry their state, too.
    carried = predict(model, dataset, mode="stateful").detections
    assert any(len(carried[k]) != len(found.detections[k]) for k in carried)


def test_a_memory_whose_steps_are_no_whole_microseconds_sees_single_windows(dense):
    uneven = tiny_detector(**MEMORY | {"voxels.window_us": 200_000})
    dataset = dataset_for(uneven, dense, "val")
    found = predict(uneven, dataset).detections
    assert_alike(found, predict(uneven, dataset, mode="windowed").detections, atol=0)
    with pytest.raises(ConfigError, match="steps of whole microseconds"):
        predict(uneven, dataset, mode="stateful")


def test_faults_and_scales_reach_the_steps(model, dense):
    dataset = dataset_for(model, dense, "val")
    clean, small = predict(model, dataset), predict(model, dataset, scale=0.5)
    assert small.size_hw == SIZE_HW
    assert max(found.xyxy.max(initial=0) for found in small.detections.values()) > SIZE_HW[0]
    dataset.fault = Fault("event_drop", 5)
    faulty = predict(model, dataset).detections
    assert any(not np.array_equal(faulty[k].scores, clean.detections[k].scores) for k in faulty)


def test_what_cannot_be_carried_is_refused(model, dense, tmp_path):
    with pytest.raises(ConfigError, match="one scale"):
        predict(model, dataset_for(model, dense, "val"), scale=(1, 0.5))
    with pytest.raises(ConfigError, match="did you mean 'stateful'"):
        predict(model, dataset_for(model, dense, "val"), mode="statefull")
    learned = tiny_detector(**{"head.step_weights": "learned"})
    with pytest.raises(ConfigError, match="step_weights='learned'"):
        predict(learned, dataset_for(learned, dense, "val"), mode="stateful")
    write_clips(tmp_path, DENSE_US)
    write_clips(tmp_path, {"other": (100_000, 200_000)}, (24, 24))
    for batch_size in (1, 3):
        with pytest.raises(EvaluationError, match="24 x 24 pixels"):
            predict(model, dataset_for(model, tmp_path, "val"), batch_size=batch_size)


@pytest.mark.slow
def test_the_command_carries_the_state_and_can_do_without(model, dense, tmp_path, capsys):
    path = save(model, tmp_path / "memory.safetensors")
    asked = ["val", str(path), "--data", str(dense), "--protocol", "none", "--json", "--quiet"]
    rates = {}
    for words, mode in (([], "stateful"), (["--mode", "windowed"], "windowed")):
        assert program.main([*asked, *words]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["mode"] == mode
        rates[mode] = document["firing_rate"]
    assert rates["stateful"] != rates["windowed"]
