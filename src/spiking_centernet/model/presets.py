"""Networks by name: the paper's, and smaller ones of its kind."""

from spiking_centernet.model.config import DecoderConfig, DetectorConfig, EncoderConfig, HeadConfig

PRESETS: dict[str, DetectorConfig] = {
    "paper": DetectorConfig(),
    "small": DetectorConfig(
        encoder=EncoderConfig(widths=(32, 64, 128, 256)), decoder=DecoderConfig(num_blocks=3), head=HeadConfig(width=64)
    ),
    "nano": DetectorConfig(
        encoder=EncoderConfig(widths=(16, 32, 64, 128)),
        decoder=DecoderConfig(num_blocks=3, expansion=0.5),
        head=HeadConfig(width=32),
    ),
    "nano-classify": DetectorConfig(
        tasks=("classify",),
        encoder=EncoderConfig(widths=(16, 32, 64, 128)),
        decoder=DecoderConfig(num_blocks=0, expansion=0.5),
        head=HeadConfig(width=32),
    ),
}
