"""Networks that see pictures: one convolution of the picture, as many steps of neurons; what they count and refuse."""

import pytest
import torch

from spiking_centernet.data.voxel import voxelize
from spiking_centernet.deploy.engine import compile as compile_detector
from spiking_centernet.deploy.export.contract import contract_of
from spiking_centernet.errors import ConfigError, ExportError
from spiking_centernet.evaluation.energy.counting import count_ops
from spiking_centernet.evaluation.energy.models import horowitz45
from spiking_centernet.model import Detector, Memory, build
from spiking_centernet.model.config_dict import config_from_dict, config_to_dict
from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.detector import FRAME_MEAN, FRAME_STD
from spiking_centernet.model.firing_rate import FiringRates

TINY = {"encoder.widths": (8, 8, 8, 16), "head.width": 8, "encoder.convs_per_stage": 1, "neuron.threshold": 0.3}
DIRECT = TINY | {"voxels.mode": "direct", "voxels.num_steps": 4}


def awake(**changes) -> Detector:
    """Return a network whose batch norms have seen the pictures, so that its neurons spike."""
    torch.manual_seed(0)
    model = build("nano", **(DIRECT | changes))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(some_pictures())
    return model.eval()


def some_pictures(num=2, colors=3):
    return torch.randint(
        0, 256, (1, num, colors, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


def test_channels_are_colors_or_polarities():
    assert build("nano", **DIRECT).encoder.stem.conv.in_channels == 3
    assert build("nano", **(DIRECT | {"voxels.colors": 1})).encoder.stem.conv.in_channels == 1
    assert build("nano", **(TINY | {"voxels.mode": "difference"})).encoder.stem.conv.in_channels == 2
    assert build("nano", **(TINY | {"voxels.mode": "rate"})).encoder.stem.conv.in_channels == 3
    with pytest.raises(ConfigError, match="colors must be 3"):
        build("nano", **(DIRECT | {"voxels.colors": 2}))
    with pytest.raises(ConfigError, match="frame_hw"):
        build("nano", **(DIRECT | {"voxels.frame_hw": (240,)}))


@pytest.mark.parametrize("changes", [{}, {"neuron.kind": "relu"}, {"neuron.kind": "lif"}], ids=str)
@pytest.mark.parametrize("fused", [False, True])
def test_one_picture_equals_as_many_copies(changes, fused):
    model = awake(**changes)
    model = model.fuse() if fused else model
    pictures = some_pictures()
    output, state = model(pictures)
    context = ForwardContext()
    copies = ((pictures.float() / 255 - FRAME_MEAN) / FRAME_STD).repeat(4, 1, 1, 1, 1)
    levels = model.decoder.levels(model.encoder(copies, context), context)
    wanted = model.head.forward(model.heads, levels, context)
    for ours, theirs in zip(output, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert state.keys() == context.new_state.keys()


def test_every_layer_sees_as_many_steps():
    model = awake()
    steps = {}
    model(some_pictures(), observe=lambda name, spikes: steps.update({name: len(spikes)}))
    assert set(steps.values()) == {4 * 2}
    rates = FiringRates(model.neuron_names)
    model(some_pictures(), observe=rates)
    assert 0 < rates.overall() < 1
    assert model.num_steps(some_pictures()) == 4


def test_a_cube_of_events_is_refused():
    with pytest.raises(ConfigError, match=r"takes one picture, cube \[1, B, C, H, W\], got 4"):
        awake()(some_pictures().repeat(4, 1, 1, 1, 1))


@pytest.mark.parametrize("memory", [Memory(), Memory("uint8"), Memory("uint8", True), Memory(checkpoint_stages=True)])
def test_training_in_less_memory_changes_no_gradient(memory):
    gradients = []
    for kept in (None, memory):
        model = awake().train()
        output, _ = model(some_pictures(), keep_state=False, memory=kept)
        sum(field.square().sum() for field in output).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert gradients[0][0].abs().sum() > 0
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_norm_of_the_first_layer_sees_a_picture_once():
    model = awake().train()
    norm = model.encoder.stem.norm
    before = norm.num_batches_tracked.item()
    pictures = some_pictures()
    model(pictures)
    assert norm.num_batches_tracked.item() == before + 1
    convolved = model.encoder.stem.conv((pictures[0].float() / 255 - FRAME_MEAN) / FRAME_STD)
    torch.testing.assert_close(norm.running_mean, convolved.mean((0, 2, 3)))


def test_the_first_layer_s_multiplications_count_once():
    model = awake().fuse()
    one = count_ops(model, some_pictures())
    stem, *others = one.convolutions
    assert stem.name == "encoder.stem.conv"
    assert not stem.binary
    assert all(layer.binary for layer in others)
    assert not one.fully_spiking
    assert stem.padded == 2 * 7 * 7 * 3 * 8 * 32 * 48  # a picture each, not a step
    assert one.num_steps == 4
    assert (stem.times, others[0].times) == (2, 2 * 4)
    assert one.neurons[0].updates == 2 * 4 * 8 * 32 * 48
    energy = horowitz45(one)
    assert energy.first_layer == pytest.approx(stem.dense * 4.6 / 2)
    # Another number of steps: the same multiplications.
    two = build("nano", **(DIRECT | {"voxels.num_steps": 2}))
    two.load_state_dict(awake().state_dict())
    assert count_ops(two.fuse(), some_pictures()).convolutions[0].padded == stem.padded


def test_rate_and_difference_are_fully_spiking():
    model = awake(**{"voxels.mode": "rate", "voxels.num_steps": 1}).fuse()
    assert count_ops(model, (some_pictures() > 128).to(torch.uint8).repeat(3, 1, 1, 1, 1)).fully_spiking


def test_events_are_refused():
    spec = build("nano", **DIRECT).config.voxels
    with pytest.raises(ConfigError, match="sees pictures, not events"):
        voxelize(torch.zeros(0).numpy().astype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]),
                 stop_us=1000, size_hw=(4, 4), spec=spec)  # fmt: skip


def test_the_engine_and_export_say_why_not():
    model = build("nano", **DIRECT)
    with pytest.raises(ConfigError, match=r"voxels\.mode='direct'"):
        compile_detector(model)
    with pytest.raises(ExportError, match=r"voxels\.mode='direct'"):
        contract_of(model, (64, 96))


def test_a_configuration_of_before_has_the_new_settings():
    values = config_to_dict(build("nano").config)
    for name in ("colors", "frame_hw"):
        del values["voxels"][name]
    assert config_from_dict(values) == build("nano").config
