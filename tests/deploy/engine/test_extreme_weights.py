"""Finite but extreme weights: the int8 network is refused where its sums would not be exact, and computed otherwise."""

import pytest
import torch
from calibrated import calibrated, random_cube

from spiking_centernet.deploy.engine import compile
from spiking_centernet.deploy.engine.quantize import reference
from spiking_centernet.errors import ConfigError


def network():
    return calibrated("nano", random_cube((64, 64)))


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("factor", [1e7, pytest.param(1e20, marks=pytest.mark.slow), 1e37])
def test_a_channel_far_above_the_others_is_refused(name, factor):
    model = network()
    with torch.no_grad():
        getattr(model.encoder.stem.norm, name)[3] += factor
    for make in (lambda: compile(model, precision="int8"), lambda: reference(model)):
        with pytest.raises(ConfigError, match=r"channel 3 .* its sums are not exact.*fp32"):
            make()


def test_a_decoder_block_far_apart_is_refused():
    model = network()
    with torch.no_grad():
        model.decoder.blocks[0].expand_norm.bias[0] = 1e12
    with pytest.raises(ConfigError, match=r"int8.*fp32"):
        compile(model, precision="int8")


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 30.0])
def test_weights_that_are_small_or_large_within_reason_give_what_the_reference_gives(factor):
    model, cube = network(), random_cube((61, 90))
    with torch.no_grad():
        model.encoder.stem.norm.weight[3] *= factor
    wanted, _ = reference(model)(cube, keep_state=False)
    found, _ = compile(model, precision="int8", decoder="merged")(cube, keep_state=False)
    for part, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(part, other, atol=1e-4, rtol=1e-4)
