import numpy as np
import pytest
import torch
import toy_roads
from calibrated import calibrated, random_cube

from spiking_centernet.errors import ConfigError, DatasetError
from spiking_centernet.evaluation.metrics import evaluate_boxes
from spiking_centernet.evaluation.predict import dataset_for, evaluate, predict
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


def test_every_labelled_instant_is_predicted_whatever_the_batch_size(model, data):
    dataset = dataset_for(model, data, "val")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    truth, found, size_hw = predict(model, dataset, batch_size=4)
    assert size_hw == toy_roads.SIZE_HW
    assert set(truth) == set(found) == {(r, t) for r in ("clip2", "clip3") for t in (100_000, 200_000, 300_000)}
    assert all(len(boxes) == 1 for boxes in truth.values())
    assert all(d.t_us == t for (_, t), d in found.items())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    _, single, _ = predict(model, dataset, batch_size=1)
    for key, detections in found.items():
        assert len(detections) > 0
        np.testing.assert_allclose(detections.xyxy, single[key].xyxy, atol=1e-4)


def test_the_ground_truth_as_detections_scores_one(model, data):
    truth, _, size_hw = predict(model, dataset_for(model, data, "val"))
    ones = {k: Detections(b.xyxy, torch.ones(len(b)).numpy(), b.labels, k[1]) for k, b in truth.items()}
    score = evaluate_boxes(truth, ones, size_hw=size_hw, protocol="none")
    assert score.ap == pytest.approx(1)
    assert score.num_truth == 6


def test_an_untrained_detector_scores_next_to_nothing(model, data):
    score = evaluate(model, data, protocol="none")
    assert 0 <= score.ap < 0.2
    assert (score.protocol, score.num_instants) == ("none", 6)
    with pytest.raises(ConfigError, match="did you mean"):
        evaluate(model, data, protocol="nonee")


def test_min_score_progress_and_observer_are_passed_on(model, data):
    told, layers = [], []

    def progress(batches, total, what):
        told.append((total, what))
        return batches

    dataset = dataset_for(model, data, "val")
    _, found, _ = predict(model, dataset, batch_size=4, min_score=0.999, observe=layers.append, progress=progress)
    assert told == [(2, "detecting")]
    assert len(layers) == 2 * len(model.neuron_names)
    assert all(len(d) == 0 for d in found.values())
