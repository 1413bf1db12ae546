"""Networks where their weights lie: fused on whatever device, and on a GPU, where there is one, equal to the CPU."""

import numpy as np
import pytest
import torch

from spiking_centernet.model import build
from spiking_centernet.structures import Boxes

SIZE_HW = (48, 64)
NETWORKS = {
    "spiking": {},
    "float": {"neuron.kind": "relu", "voxels.num_steps": 1},
    "inner": {"decoder.kind": "inner"},
    "transposed": {"decoder.kind": "transposed"},
    "or": {"decoder.skips": "or"},
    "identity": {"encoder.identity": True},
    "ssd": {"head.kind": "ssd"},
}


def network(**options):
    return build("nano", encoder={"widths": (8, 8, 8, 8)}, head={"width": 8}, **options)


def cube_of(config, device, batch=2):
    made = torch.Generator().manual_seed(0)
    cube = torch.rand(config.voxels.num_steps, batch, config.voxels.channels, *SIZE_HW, generator=made) < 0.2
    return cube.to(torch.uint8).to(device)


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_fused_network_lies_where_its_weights_do(options):
    with torch.device("meta"):
        model = network(**options)
    fused = model.eval().fuse()
    assert {x.device.type for x in [*fused.parameters(), *fused.buffers()]} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_gpu_detects_and_learns_as_the_cpu_does(options, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    boxes = [Boxes(np.array([[8, 8, 40, 30]], np.float32), np.array([b]), np.array([1])) for b in range(2)]
    losses, gradients, answers = [], [], []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = network(**options).to(device)
        cube = cube_of(model.config, device)
        output, _ = model(cube, keep_state=False)
        loss = model.head.loss(output, boxes).total
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.stack([p.grad.norm().cpu() for p in model.parameters() if p.grad is not None]))
        with torch.inference_mode():
            answer, _ = model.eval().fuse()(cube, keep_state=False)
        answers.append(answer[0].float().cpu())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    torch.testing.assert_close(gradients[0].sum(), gradients[1].sum(), rtol=0.1, atol=0.0)
    # A spike that rounding decides may differ; most of the answers do not.
    assert ((answers[0] - answers[1]).abs() < 1e-3).float().mean() > 0.95


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_fused_network_computes_in_bfloat16_on_a_gpu():
    model = network().cuda().eval()
    cube = cube_of(model.config, "cuda")
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        output, _ = model.fuse()(cube, keep_state=False)
    assert output.heatmap.is_cuda
    assert torch.isfinite(output.heatmap).all()
