"""Convolution, batch norm and neuron as one block, and the folding of its batch norm."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from spiking_centernet.model.context import ForwardContext
from spiking_centernet.model.neurons import ILIF, PLIF, Neuron
from spiking_centernet.ops import plif

MakeNeuron = Callable[[], Neuron]


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one convolution equal to ``norm(conv(x))`` in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = conv.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return weight.float(), bias.float()


def convolution(weight: Tensor, bias: Tensor, *, stride: int, padding: int, groups: int = 1) -> nn.Conv2d:
    """Return a convolution layer with the given weight [O, I / groups, K, K] and bias [O]."""
    out_channels, in_channels, kernel = weight.shape[:3]
    conv = nn.Conv2d(in_channels * groups, out_channels, kernel, stride, padding, groups=groups, device=weight.device)
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)  # pyright: ignore[reportOptionalMemberAccess]
    return conv


class ConvNeuron(nn.Module):
    """``neuron(norm(conv(x)))`` on time-major tensors; once fused, the norm lives in the convolution.

    In training, where nobody asks for the membranes, batch norm and neurons run as one kernel that keeps only the
    convolution's output for the backward pass.

    Attributes:
        name: of the neuron layer in its network, under which membrane and spikes are known; see :func:`name_layers`.
        virtual_steps: how many inputs of the batch axis the convolution adds up to one, see ``unroll``.
    """

    virtual_steps: int = 1

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, neuron: Neuron, *, name: str = ""):
        super().__init__()
        self.name = name
        self.conv = conv
        self.norm = norm
        self.neuron = neuron

    @staticmethod
    def make(
        in_channels: int, out_channels: int, make_neuron: MakeNeuron, *, kernel: int = 3, stride: int = 1
    ) -> "ConvNeuron":
        """Return a block whose output is ``ceil(size / stride)``."""
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        return ConvNeuron(conv, nn.BatchNorm2d(out_channels), make_neuron())

    def forward(self, x: Num[Tensor, "T B C H W"], context: ForwardContext) -> Float[Tensor, "T N K h w"]:
        """Return the spikes of every step, N = B unless unrolled; the membrane of the last step goes to ``context``."""
        steps_batch = x.shape[0], x.shape[1] // self.virtual_steps
        y = self.conv(x.flatten(0, 1)) if context.saver is None else context.saver.convolve(self.conv, x)
        return self.norm_and_fire(y, steps_batch, context)

    def repeated(
        self, x: Float[Tensor, "B C H W"], num_steps: int, context: ForwardContext
    ) -> Float[Tensor, "T N K h w"]:
        """Return the spikes of steps that all receive the same input: convolution and norm are computed once."""
        y = self.conv(x)
        y = y if self.norm is None else self.norm(y)
        shown = torch.cat([y] * num_steps).unflatten(0, (num_steps, len(x)))
        spikes, v = self.neuron(shown, context.membrane(self.name, y.shape))
        return context.emit(self.name, spikes, v)

    def norm_and_fire(self, y: Tensor, steps_batch: tuple[int, int], context: ForwardContext) -> Tensor:
        """Return the spikes for a convolution's output [T * B, K, h, w]."""
        v = context.membrane(self.name, (steps_batch[1], *y.shape[1:]))
        in_one = v is None and not context.keep_state and plif.supports_norm(self.norm)
        if in_one and isinstance(self.neuron, PLIF | ILIF) and self.neuron.has_kernel(y):
            assert self.norm is not None
            spikes = plif.batch_norm_plif(
                y, self.norm, self.neuron.w, num_steps=steps_batch[0], leaky=self.neuron.leaky,
                options=self.neuron.options,
            )  # fmt: skip
            return context.emit(self.name, spikes.unflatten(0, steps_batch), None)
        y = y if self.norm is None else self.norm(y)
        spikes, v = self.neuron(y.unflatten(0, steps_batch), v)
        return context.emit(self.name, spikes, v)

    def fused(self) -> "ConvNeuron":
        """Return the same block with its batch norm folded into the convolution."""
        assert self.norm is not None
        weight, bias = fold_batch_norm(self.conv, self.norm)
        settings = {"stride": self.conv.stride[0], "padding": int(self.conv.padding[0]), "groups": self.conv.groups}
        conv = convolution(weight, bias, **settings)
        return ConvNeuron(conv, None, self.neuron, name=self.name)


def name_layers(network: nn.Module) -> None:
    """Give every :class:`ConvNeuron` of a network its path in there as its name, for example "encoder.stages.0.2"."""
    for name, module in network.named_modules():
        if isinstance(module, ConvNeuron):
            module.name = name
