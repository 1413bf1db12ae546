"""What a network is built from: its configuration and the presets."""

from dataclasses import dataclass
from typing import Literal

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model.neurons import NEURONS
from spiking_centernet.model.variants import DECODERS, SKIPS
from spiking_centernet.ops.surrogate import SURROGATES
from spiking_centernet.structures import CLASS_NAMES

HEADS = ("centernet", "ssd")


INPUT_MODES = ("binary", "count")


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Everything that fixes a detector's shape; the defaults are the paper's network.

    Attributes:
        classes: what label 0, 1, ... is called; one heatmap channel each.
        in_channels: channels of the voxel cube, polarities x micro bins.
        num_steps: time steps of a window, for which the network is trained.
        window_us: length of the window in microseconds.
        widths: channels of the encoder's stages.
        convs_per_stage: convolutions in every encoder stage.
        decoder_blocks: 2 give output stride 8, 3 give 4.
        expansion: hidden over joined channels in the decoder blocks.
        head_width: channels of the 3x3 convolution of every head.
        neuron: "plif", "lif", "if", or "relu" for the ANN twin.
        surrogate: "atan", "sigmoid" or "rectangle".
        tau: initial time constant in steps.
        threshold: firing threshold.
        soft_reset: subtract the threshold instead of resetting to 0.
        decay_input: the leak also scales the input.
        detach_reset: no gradient flows through the reset.
        score_threshold: detections below are not shown by default; chosen on validation data after training.
        input_mode: "binary" marks a pixel of a micro bin that had an event, "count" counts its events up to 255.
        skips: how the decoder takes in the encoder's spikes: "concat", "or", "add" or "none".
        decoder: blocks "merged" into one convolution, with neurons "inner" to them, or "transposed" convolutions.
        identity: whether the encoder has ResNet's identity additions.
        head: "centernet", or "ssd" for anchors and non-maximum suppression.
    """

    classes: tuple[str, ...] = CLASS_NAMES
    in_channels: int = 4
    num_steps: int = 5
    window_us: int = 100_000
    widths: tuple[int, ...] = (64, 128, 256, 512)
    convs_per_stage: int = 4
    decoder_blocks: int = 2
    expansion: float = 0.15
    head_width: int = 256
    neuron: str = "plif"
    surrogate: str = "atan"
    tau: float = 2.0
    threshold: float = 1.0
    soft_reset: bool = False
    decay_input: bool = True
    detach_reset: bool = True
    score_threshold: float = 0.3
    input_mode: str = "binary"
    skips: str = "concat"
    decoder: str = "merged"
    identity: bool = False
    head: str = "centernet"

    def __post_init__(self):
        for name in ("in_channels", "num_steps", "window_us", "convs_per_stage", "head_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"classes must be one or more different names, got {self.classes}")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ConfigError(f"widths must be two or more positive channel counts, got {self.widths}")
        if not 0 <= self.decoder_blocks < len(self.widths):
            raise ConfigError(f"decoder_blocks must be 0..{len(self.widths) - 1}, got {self.decoder_blocks}")
        if not self.expansion > 0:
            raise ConfigError(f"expansion must be positive, got {self.expansion}")
        for name, known in (
            ("neuron", NEURONS), ("surrogate", SURROGATES), ("input_mode", INPUT_MODES), ("skips", SKIPS),
            ("decoder", DECODERS), ("head", HEADS),
        ):  # fmt: skip
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"unknown {name} {value!r}{did_you_mean(str(value), known)}")

    @property
    def num_classes(self) -> int:
        """Heatmap channels."""
        return len(self.classes)

    @property
    def stride(self) -> int:
        """Pixels of the input a pixel of the output."""
        return 2 ** (len(self.widths) + 1 - self.decoder_blocks)

    @property
    def bins(self) -> int:
        """Micro time bins of a step: two polarities share the channels."""
        return self.in_channels // 2

    @property
    def mode(self) -> Literal["binary", "count"]:
        """``input_mode`` for those who fill cubes."""
        return "count" if self.input_mode == "count" else "binary"

    @property
    def variations(self) -> str:
        """What makes this another network than the paper's kind, for example "skips='or'"; empty where nothing does."""
        names = ("input_mode", "skips", "decoder", "identity", "head")
        fields = self.__dataclass_fields__
        return ", ".join(f"{n}={getattr(self, n)!r}" for n in names if getattr(self, n) != fields[n].default)


PRESETS: dict[str, DetectorConfig] = {
    "paper": DetectorConfig(),
    "small": DetectorConfig(widths=(32, 64, 128, 256), decoder_blocks=3, head_width=64),
    "nano": DetectorConfig(widths=(16, 32, 64, 128), decoder_blocks=3, expansion=0.5, head_width=32),
}
