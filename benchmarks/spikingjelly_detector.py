"""The detector as a user of SpikingJelly writes it: its layers, neurons and defaults; the same weights fit both."""

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from spiking_centernet.nn import DetectorConfig, DetectorOutput


def conv(in_channels, out_channels, kernel, stride=1, padding=0, groups=1, bias=False):
    return layer.Conv2d(
        in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias, step_mode="m"
    )  # fmt: skip


def norm(channels):
    return layer.BatchNorm2d(channels, step_mode="m")


class Block(nn.Module):
    def __init__(self, config, in_channels, out_channels, kernel=3, stride=1):
        super().__init__()
        self.conv = conv(in_channels, out_channels, kernel, stride, kernel // 2)
        self.norm = norm(out_channels)
        self.neuron = neuron.ParametricLIFNode(
            init_tau=config.tau, decay_input=True, v_threshold=config.threshold, v_reset=0.0,
            surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m",
        )  # fmt: skip

    def forward(self, x):
        return self.neuron(self.norm(self.conv(x)))


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.stem = Block(config, config.in_channels, config.widths[0], 7, 2)
        self.pool = layer.MaxPool2d(3, 2, 1, step_mode="m")
        self.stages, previous = nn.ModuleList(), config.widths[0]
        for i, width in enumerate(config.widths):
            blocks = []
            for j in range(config.convs_per_stage):
                blocks.append(Block(config, previous, width, stride=2 if i and not j else 1))
                previous = width
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x):
        x, features = self.pool(self.stem(x)), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class DecoderBlock(nn.Module):
    def __init__(self, config, in_channels, skip_channels):
        super().__init__()
        joined = in_channels + skip_channels
        hidden = max(1, round(config.expansion * joined))
        self.expand, self.expand_norm = conv(joined, hidden, 1), norm(hidden)
        self.filter, self.filter_norm = conv(hidden, hidden, 3, groups=hidden), norm(hidden)
        self.project = Block(config, hidden, joined // 2, 1)

    def forward(self, x, skip):
        up = F.interpolate(x.flatten(0, 1), scale_factor=2, mode="nearest").unflatten(0, x.shape[:2])
        joined = torch.cat([up[..., : skip.shape[-2], : skip.shape[-1]], skip], 2)
        joined = F.pad(joined, (1, 1, 1, 1))
        return self.project(self.filter_norm(self.filter(self.expand_norm(self.expand(joined)))))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.blocks, self.out_channels = nn.ModuleList(), config.widths[-1]
        for skip_channels in config.widths[-2 : -2 - config.decoder_blocks : -1]:
            self.blocks.append(DecoderBlock(config, self.out_channels, skip_channels))
            self.out_channels = (self.out_channels + skip_channels) // 2

    def forward(self, features):
        x = features[-1]
        for block, skip in zip(self.blocks, features[-2::-1], strict=False):
            x = block(x, skip)
        return x


class Head(nn.Module):
    def __init__(self, config, in_channels, out_channels):
        super().__init__()
        self.block = Block(config, in_channels, config.head_width)
        self.out = conv(config.head_width, out_channels, 1, bias=True)

    def forward(self, x):
        return self.out(self.block(x)).float().mean(0)


class Detector(nn.Module):
    """The modules have the names of ours, so that ``load_state_dict`` takes our weights."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        sizes = {"heatmap": config.num_classes, "wh": 2, "offset": 2}
        self.heads = nn.ModuleDict({k: Head(config, self.decoder.out_channels, v) for k, v in sizes.items()})

    def forward(self, cube):
        x = self.decoder(self.encoder(cube.float()))
        return DetectorOutput(**{name: head(x) for name, head in self.heads.items()})

    def start_at_rest(self):
        functional.reset_net(self)
