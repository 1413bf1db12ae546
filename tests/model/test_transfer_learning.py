"""Weights of another network: what fits is taken over, classes go by name, another network is refused."""

import logging

import pytest
import torch

import spiking_centernet as scn
from spiking_centernet.errors import ConfigError, WeightsError
from spiking_centernet.model.heads.centernet import HEATMAP_BIAS
from spiking_centernet.model.weights import save

SHAPE = {"encoder.widths": [4, 4, 8, 8], "encoder.convs_per_stage": 1, "head.width": 4}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    return save(scn.build("nano", **SHAPE), tmp_path_factory.mktemp("weights") / "old.safetensors")


def fresh(seed=1, **changes):
    torch.manual_seed(seed)
    return scn.build("nano", **(SHAPE | changes))


def equal(model, other, *, but=()):
    theirs = other.state_dict()
    return all(torch.equal(v, theirs[k]) for k, v in model.state_dict().items() if not k.startswith(tuple(but)))


def test_equal_networks_take_everything(path):
    model = fresh()
    result = scn.transfer(model, path)
    assert equal(model, scn.load(path))
    assert result.num_taken == result.num_parameters == sum(p.numel() for p in model.parameters())
    assert (dict(result.classes), result.fresh_classes, dict(result.fresh)) == (
        {"car": "car", "pedestrian": "pedestrian"}, (), {},
    )  # fmt: skip
    assert str(result).startswith(f"took {result.num_parameters:,} of {result.num_parameters:,} parameters from ")


def test_channels_of_classes_go_by_name_and_synonym_and_others_start_fresh(path, caplog):
    model, start, old = (
        fresh(classes=["bicycle", "person", "car"]),
        fresh(classes=["bicycle", "person", "car"]),
        scn.load(path),
    )
    with caplog.at_level(logging.INFO, "spiking_centernet"):
        result = scn.transfer(model, path)
    assert equal(model, old, but=["heads.heatmap.out."])
    out, before, there = model.heads["heatmap"].out, start.heads["heatmap"].out, old.heads["heatmap"].out
    assert torch.equal(out.weight[1:], there.weight[[1, 0]])
    assert torch.equal(out.bias[1:], there.bias[[1, 0]])
    assert torch.equal(out.weight[0], before.weight[0])
    assert out.bias[0] == torch.tensor(HEATMAP_BIAS)
    assert result.classes == {"person": "pedestrian", "car": "car"}
    assert result.fresh_classes == ("bicycle",)
    assert result.num_parameters - result.num_taken == 4 + 1
    assert "kept the classes person (there pedestrian), car; start fresh: bicycle" in caplog.text


def test_a_class_of_equal_name_goes_before_a_synonym(path):
    model = fresh(classes=["vehicle", "car"])
    assert scn.transfer(model, path).classes == {"car": "car"}


def test_anchors_keep_the_logits_of_shared_classes(tmp_path):
    torch.manual_seed(0)
    old = scn.build("nano", **SHAPE, **{"head.kind": "ssd"})
    save(old, tmp_path / "ssd")
    model = fresh(**{"head.kind": "ssd", "classes": ["bus", "truck", "car"]})
    scn.transfer(model, tmp_path / "ssd.safetensors")
    name = next(iter(model.heads))
    own = model.heads[name].out.weight.view(6, 1 + 3 + 4, -1)  # [anchors, background + classes + deltas, width]
    their = old.heads[name].out.weight.view(6, 1 + 2 + 4, -1)
    assert torch.equal(own[:, [0, 3, 4, 5, 6, 7]], their[:, [0, 1, 3, 4, 5, 6]])
    assert not (own[:, 1:3, None] == their[:, None]).all(-1).any()


def test_another_head_starts_fresh_on_the_same_encoder_and_decoder(path):
    model, start = fresh(**{"head.kind": "ssd", "head.width": 5}), fresh(**{"head.kind": "ssd", "head.width": 5})
    result = scn.transfer(model, path)
    assert equal(model, start, but=["encoder", "decoder"])
    old = scn.load(path)
    assert equal(model.encoder, old.encoder)
    assert equal(model.decoder, old.decoder)
    assert set(result.fresh.values()) == {"the weights do not have it"}


def test_a_head_of_another_width_starts_fresh(path):
    model, start = fresh(**{"head.width": 5}), fresh(**{"head.width": 5})
    result = scn.transfer(model, path)
    assert equal(model, start, but=["encoder", "decoder"])
    assert equal(model.decoder, scn.load(path).decoder)
    assert set(result.fresh.values()) == {"it is 5 channels wide, 4 there"}


def test_of_a_layer_that_is_there_the_new_tensor_alone_is_named(path):
    result = scn.transfer(fresh(**{"head.step_weights": "learned"}), path)
    assert dict(result.fresh) == {
        f"heads.{name}.step_logits": "the weights do not have it" for name in ("heatmap", "wh", "offset")
    }
    assert result.num_parameters - result.num_taken == 3 * 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"encoder.widths": [4, 4, 8, 9]},
            r"encoder\.widths is \[4, 4, 8, 8\] there, \[4, 4, 8, 9\] here \(its layers",
        ),
        ({"decoder.num_blocks": 2}, "decoder.num_blocks is 3 there, 2 here .the output has another stride"),
        ({"decoder.kind": "inner"}, "decoder.kind is 'merged' there, 'inner' here"),
        ({"neuron.kind": "lif"}, "neuron.kind is 'plif' there, 'lif' here"),
        ({"voxels.bins": 1}, "voxels.bins is 2 there, 1 here .the layers learned from other cubes"),
    ],
)
def test_another_network_is_refused_with_the_reason_and_left_alone(path, changes, message):
    model, start = fresh(**changes), fresh(**changes)
    with pytest.raises(WeightsError, match=message):
        scn.transfer(model, path)
    assert equal(model, start)


def test_the_encoder_alone_is_offered_where_it_fits(path):
    classifier = {"tasks": ["classify"], "decoder.num_blocks": 0}
    with pytest.raises(WeightsError, match="the encoder alone is taken over with weights_parts: encoder"):
        scn.transfer(fresh(**classifier), path)
    model = fresh(**classifier)
    scn.transfer(model, path, parts="encoder")
    assert equal(model.encoder, scn.load(path).encoder)
    with pytest.raises(WeightsError, match=r"encoder\.widths is .* or leave out the weights$"):
        scn.transfer(fresh(**classifier, **{"encoder.widths": [4, 4, 8, 9]}), path)


def test_a_spiking_network_starts_from_its_ann_counterpart_and_not_the_other_way_round(tmp_path, path):
    pictures = {"voxels.mode": "direct", "voxels.colors": 1, "voxels.frame_hw": [32, 64]}
    ann = fresh(**pictures, **{"neuron.kind": "relu", "voxels.num_steps": 1})
    model = fresh(2, **pictures, **{"voxels.num_steps": 4})
    result = scn.transfer(model, save(ann, tmp_path / "ann.safetensors"))
    theirs = ann.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in model.state_dict().items() if key in theirs)
    assert result.num_taken == sum(p.numel() for p in ann.parameters())
    assert result.fresh
    assert all(name.endswith(".neuron") for name in result.fresh)
    with pytest.raises(WeightsError, match=r"neuron\.kind is 'plif' there, 'relu' here"):
        scn.transfer(fresh(**{"neuron.kind": "relu"}), path)
    with pytest.raises(WeightsError, match=r"voxels\.num_steps is 1 there"):  # events of another length are others
        scn.transfer(fresh(), save(fresh(**{"neuron.kind": "relu", "voxels.num_steps": 1}), tmp_path / "e.safetensors"))


def test_numbers_of_spikes_start_from_plif_and_its_leaks_and_not_the_other_way_round(tmp_path, path):
    start, model = scn.load(path), fresh(**{"neuron.kind": "ilif", "neuron.levels": 2})
    result = scn.transfer(model, path)
    assert (result.num_taken, result.fresh) == (result.num_parameters, {})
    assert equal(model, start)
    with pytest.raises(WeightsError, match=r"neuron\.kind is 'ilif' there, 'plif' here"):
        scn.transfer(fresh(), save(model, tmp_path / "ilif.safetensors"))
    with pytest.raises(WeightsError, match=r"neuron\.tau is 2\.0 there"):
        scn.transfer(fresh(**{"neuron.kind": "ilif", "neuron.tau": 3.0}), path)


def test_build_takes_the_network_of_the_weights(path):
    model = scn.build(weights=path, classes=["truck", "car"])
    assert (model.config.encoder.widths, model.config.classes) == ((4, 4, 8, 8), ("truck", "car"))
    assert equal(model, scn.load(path), but=["heads.heatmap.out."])
    with pytest.raises(WeightsError, match=r"encoder\.widths"):
        scn.build("small", weights=path)
    with pytest.raises(ConfigError, match="unknown preset"):
        scn.build("nan", weights=path)
