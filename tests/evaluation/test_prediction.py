from dataclasses import replace

import numpy as np
import pytest
import torch
import toy_roads
from calibrated import calibrated, random_cube
from torch.utils.data import Subset

from spiking_centernet.errors import ConfigError, DatasetError, EvaluationError
from spiking_centernet.evaluation.metrics import evaluate_boxes
from spiking_centernet.evaluation.prediction import dataset_for, evaluate, predict
from spiking_centernet.structures import Detections


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_roads.write_folder(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def model():
    model = calibrated("nano", random_cube(toy_roads.SIZE_HW, num_steps=3), **toy_roads.NETWORK)
    torch.nn.init.constant_(model.heads["wh"].out.bias, 3.0)
    return model


def test_the_data_set_is_cut_as_the_network_was_trained(model, data):
    dataset = dataset_for(model, data, "val")
    assert len(dataset) == 6
    assert dataset[0].cube.shape == (3, 4, *toy_roads.SIZE_HW)
    with pytest.raises(DatasetError, match="has no folder 'test'"):
        dataset_for(model, data, "test")


def test_every_labeled_timestamp_is_predicted_whatever_the_batch_size(model, data):
    dataset = dataset_for(model, data, "val")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    predictions = predict(model, dataset, batch_size=4)
    truth, found = predictions.truth, predictions.detections
    assert (predictions.size_hw, predictions.class_names) == (toy_roads.SIZE_HW, model.config.classes)
    assert set(truth) == set(found) == {(r, t) for r in ("clip2", "clip3") for t in (100_000, 200_000, 300_000)}
    assert all(len(boxes) == 1 for boxes in truth.values())
    assert all(d.t_us == t for (_, t), d in found.items())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    single = predict(model, dataset, batch_size=1).detections
    for key, detections in found.items():
        assert len(detections) > 0
        np.testing.assert_allclose(detections.xyxy, single[key].xyxy, atol=1e-4)


def test_the_ground_truth_as_detections_scores_one(model, data):
    predictions = predict(model, dataset_for(model, data, "val"))
    ones = {k: Detections(b.xyxy, torch.ones(len(b)).numpy(), b.labels, k[1]) for k, b in predictions.truth.items()}
    score = replace(predictions, detections=ones).score("none")
    assert score.ap == pytest.approx(1)
    assert score.num_truth == 6


def test_an_untrained_detector_scores_next_to_nothing(model, data):
    score = evaluate(model, data, protocol="none")
    assert 0 <= score.ap < 0.2
    assert (score.protocol, score.num_instants) == ("none", 6)
    with pytest.raises(ConfigError, match="did you mean"):
        evaluate(model, data, protocol="nonee")


def test_min_score_and_observer_are_passed_on(model, data):
    layers = []
    dataset = dataset_for(model, data, "val")
    found = predict(
        model, dataset, batch_size=4, min_score=0.999, observe=lambda name, _: layers.append(name)
    ).detections
    assert layers == 2 * model.neuron_names
    assert all(len(d) == 0 for d in found.values())


def test_parts_merge_to_the_whole_in_any_order(model, data):
    dataset = dataset_for(model, data, "val")
    whole = predict(model, dataset, batch_size=1)
    parts = [predict(model, Subset(dataset, indices), batch_size=1) for indices in ([4, 1], [], [0, 2, 3, 5])]
    assert parts[1].size_hw == (0, 0)
    for first, *others in (parts, parts[::-1], [parts[1], parts[2], parts[0]]):
        merged = first.merge(others)
        assert list(merged.truth) == list(merged.detections) == sorted(whole.truth)
        assert merged.size_hw == whole.size_hw
        assert merged.score("none") == whole.score("none")
    assert parts[1].merge([]).size_hw == (0, 0)


def test_a_score_is_that_of_its_boxes(model, data):
    p = predict(model, dataset_for(model, data, "val"))
    settings = {"size_hw": p.size_hw, "class_names": p.class_names, "protocol": "none", "tolerance_us": 50_000}
    assert p.score("none", tolerance_us=50_000) == evaluate_boxes(p.truth, p.detections, **settings)


def test_what_cannot_be_merged_is_refused(model, data):
    predictions = predict(model, dataset_for(model, data, "val"))
    with pytest.raises(EvaluationError, match="lies in two of the predictions"):
        predictions.merge([predictions])
    for change in ({"size_hw": (1, 2)}, {"class_names": ("bus",)}):
        with pytest.raises(EvaluationError, match="one sensor and the same classes"):
            predictions.merge([replace(predictions, truth={}, detections={}, **change)])


def test_sensors_of_different_sizes_are_not_scored_together(model, data):
    samples = [dataset_for(model, data, "val")[k] for k in (0, 1)]
    samples[1] = replace(samples[1], cube=samples[1].cube[..., :-8])
    with pytest.raises(EvaluationError, match="score one kind of sensor at a time"):
        predict(model, samples, batch_size=1)
