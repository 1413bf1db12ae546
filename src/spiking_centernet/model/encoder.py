"""The encoder: ResNet-18 without identity additions, any neuron."""

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float, Num
from torch import Tensor, nn

from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.layers import ConvNeuron, MakeNeuron
from spiking_centernet.ops.pooling import max_pool


class Encoder(nn.Module):
    """Stem (7x7 stride 2, 3x3 max-pool stride 2) and stages of 3x3 convolutions, each convolution with its neuron.

    The paper drops ResNet's identity additions because a sum of spikes is not binary; a max over spikes is an OR and
    stays binary (arXiv 2402.01287, section III). Its 12.97 M parameters leave no room for 1x1 downsampling.

    Args:
        in_channels: channels of the voxel cube (polarities x micro bins).
        widths: channels of every stage; stage ``i`` computes at stride ``4 * 2**i``.
        convs_per_stage: convolutions in every stage, 4 in ResNet-18.
        make_neuron: builds one neuron layer.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], convs_per_stage: int, make_neuron: MakeNeuron):
        super().__init__()
        self.stem = ConvNeuron.make(in_channels, widths[0], make_neuron, kernel=7, stride=2)
        self.stages = nn.ModuleList()
        previous = widths[0]
        for i, width in enumerate(widths):
            stage = nn.ModuleList()
            for j in range(convs_per_stage):
                stage.append(ConvNeuron.make(previous, width, make_neuron, stride=2 if i > 0 and j == 0 else 1))
                previous = width
            self.stages.append(stage)

    def forward(
        self, x: Num[Tensor, "T B C H W"], context: ForwardContext, *, num_steps: int | None = None
    ) -> list[Float[Tensor, "S N _ _ _"]]:
        """Return the spikes of every stage, finest first; N = B unless unrolled.

        Args:
            x: the cube; with ``num_steps`` one picture [1, B, C, H, W].
            context: of the forward pass.
            num_steps: how many steps the neurons of the stem see the same picture; None takes a step of ``x`` each.
        """

        def stem(x: Tensor, context: ForwardContext) -> Tensor:
            spikes = self.stem(x, context) if num_steps is None else self.stem.repeated(x[0], num_steps, context)
            return max_pool(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])

        def run(stage: nn.Module, x: Tensor, context: ForwardContext) -> Tensor:
            for block in stage:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, context)
            return x

        x = context.run_stage(stem, x, stage=self.stem)
        features = []
        for stage in self.stages:
            x = context.run_stage(partial(run, stage), x, stage=stage)
            features.append(x)
        return features
