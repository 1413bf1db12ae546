"""The whole detector: encoder, decoder, head; fusing for inference."""

import copy
import os
import warnings
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spiking_centernet.errors import ConfigError, did_you_mean
from spiking_centernet.model.config import AS_IT_IS, DetectorConfig
from spiking_centernet.model.config_dict import with_changes
from spiking_centernet.model.context import ForwardContext, Observe, State, check_names
from spiking_centernet.model.decoder import Decoder, DecoderBlock
from spiking_centernet.model.encoder import Encoder
from spiking_centernet.model.heads import make_head
from spiking_centernet.model.heads.base import BranchModule, Head
from spiking_centernet.model.layers import ConvNeuron, name_layers
from spiking_centernet.model.neurons import make_neuron
from spiking_centernet.model.presets import PRESETS
from spiking_centernet.model.recurrent import GatedMemory
from spiking_centernet.model.unroll import UnrolledILIF, round_to_exact_sums, unroll_branch, unroll_layer
from spiking_centernet.model.variants import add_identities, block_maker
from spiking_centernet.ops import event_conv
from spiking_centernet.ops.memory_saving import Memory

FRAME_MEAN, FRAME_STD = 0.45, 0.225
"""Mean and spread of intensities in [0, 1] that mode "direct" normalizes with: about those of photographs (ImageNet's
are 0.449 and 0.226 over its three colors), the same for every color so that gray pictures need no others."""


class AnyDetector(Protocol):
    """What detects: a :class:`Detector`, or one compiled for a CPU."""

    @property
    def config(self) -> DetectorConfig:
        """What the network was built from."""
        ...

    @property
    def head(self) -> Head:
        """What decodes the raw output."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the cubes must go."""
        ...

    @property
    def neuron_names(self) -> list[str]:
        """The neuron layers in the order in which they compute."""
        ...

    @property
    def max_spikes(self) -> int:
        """Most spikes that one value of an observed output stands for."""
        ...

    def fuse(self) -> "AnyDetector":
        """Return the detector for inference."""
        ...

    def __call__(
        self, cube: Tensor, state: State | None = None, *, observe: Observe | None = None, keep_state: bool = True
    ) -> tuple[Any, State]:
        """Return the raw output and the membranes; see :meth:`Detector.forward`."""
        ...


class Detector(nn.Module):
    """Spiking CenterNet (arXiv 2402.01287): voxel cubes in, heatmap, sizes and offsets out, state explicit."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.config = config
        widths, neuron = config.encoder.widths, partial(make_neuron, config.neuron)
        self.encoder = Encoder(config.voxels.channels, widths, config.encoder.convs_per_stage, neuron)
        if config.encoder.identity:
            add_identities(self.encoder, neuron)
        if (config.decoder.kind, config.decoder.skips) == ("merged", "concat"):
            make_block = partial(DecoderBlock, expansion=config.decoder.expansion, make_neuron=neuron)
        else:
            make_block = block_maker(config.decoder, neuron)
        self.decoder = Decoder(widths, config.decoder.num_blocks, make_block)
        level_channels = [widths[-1], *(int(block.out_channels) for block in self.decoder.blocks)]  # pyright: ignore
        self.recurrent = None if not config.has_memory else GatedMemory(
            level_channels[-1], config.recurrent, threshold=config.neuron.threshold, surrogate=config.neuron.surrogate
        )  # fmt: skip
        self.head = make_head(config)
        self.heads = nn.ModuleDict()
        num_steps = config.head.readout_steps or config.voxels.num_steps
        learned_steps = num_steps if config.head.step_weights == "learned" else 0
        for name, branch in self.head.branches.items():
            in_channels, width = level_channels[branch.level], config.head.width * branch.width
            block = ConvNeuron.make(in_channels, width, neuron)
            module = BranchModule(
                width, branch.out_channels, block, readout_steps=config.head.readout_steps, learned_steps=learned_steps
            )
            if branch.bias is not None:
                with torch.no_grad():
                    module.out.bias.copy_(torch.as_tensor(branch.bias))  # pyright: ignore[reportOptionalMemberAccess]
            self.heads[name] = module
        name_layers(self)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        cube: Tensor,
        state: State | None = None,
        *,
        observe: Observe | None = None,
        keep_state: bool = True,
        memory: Memory | None = None,
        answers: int = 1,
    ) -> tuple[Any, State]:
        """Detect in one window, or continue from the state of the window before.

        Args:
            cube: [T, B, C, H, W], any number of steps, any size; uint8 or float. Of a network of mode "direct" the
                pictures [1, B, C, H, W] from 0 to 255, which every step sees.
            state: what the last call returned; None, and a layer that is missing, are zero-initialized.
            observe: called with the name and the output [T * B, K, h, w] of every neuron layer as it is computed.
            keep_state: False returns no membranes, which lets training take its fused kernel.
            memory: what training keeps for the backward pass; None keeps everything as it was computed.
            answers: how many answers to give, the last at the window's end and each ``head.readout_steps`` after the
                one before; they take the place of the batch axis, the B of the oldest answer first.

        Returns:
            The head's output averaged over the T steps, or the last ``head.readout_steps``, for CenterNet a
            :class:`~spiking_centernet.model.DetectorOutput`, and the membranes after the last step by layer, none
            of an ANN.

        Raises:
            ConfigError: if the cube does not fit the network, or the state another network or cube.
        """
        if cube.ndim != 5 or cube.shape[2] != self.config.voxels.channels:
            raise ConfigError(
                f"the network takes cubes [T, B, {self.config.voxels.channels}, H, W], got {list(cube.shape)}; "
                "add the batch axis with cube[:, None]"
            )
        shows_pictures = self.config.voxels.mode == "direct"
        if shows_pictures and len(cube) != 1:
            raise ConfigError(
                f"a network of mode direct takes one picture, cube [1, B, C, H, W], got {len(cube)} steps"
            )
        if memory is not None and memory.spikes == "uint8":
            self._refuse_bytes(cube)
        if state is not None:
            check_names(state, [layer.name for layer in self._neuron_layers() if layer.neuron.spiking])
        if answers > 1:
            self._refuse_answers(answers, self.num_steps(cube))
        context = ForwardContext(state, observe, keep_state=keep_state, memory=memory, answers=answers)
        if shows_pictures:
            x = self._in_precision((cube.float() / 255 - FRAME_MEAN) / FRAME_STD, context)
            features = self.encoder(x, context, num_steps=self.config.voxels.num_steps)
            return self._answer(features, context)
        by_events = event_conv.supports(cube, self.encoder.stem.conv) and event_conv.is_faster(cube)
        x = cube if by_events else self._in_precision(cube, context)
        return self._answer(self.encoder(x, context), context)

    def _answer(self, features: list[Tensor], context: ForwardContext) -> tuple[Any, State]:
        levels = self.decoder.levels(features, context)
        if self.recurrent is not None:
            levels = [*levels[:-1], self.recurrent(levels[-1], context)]
        return self.head.forward(self.heads, levels, context), context.new_state

    def _in_precision(self, cube: Tensor, context: ForwardContext) -> Tensor:
        """Return the cube in the convolutions' type and memory format; ``context`` remembers it as it was."""
        device = cube.device.type
        mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if mixed else self.encoder.stem.conv.weight.dtype
        stored = cube.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, cube.shape[:2])
        x = stored.to(dtype)
        if stored.dtype == torch.uint8 and context.saver is not None:
            context.saver.remember(x, stored)
        return x

    def _refuse_answers(self, answers: int, num_steps: int) -> None:
        each = self.config.head.readout_steps
        if not each or not self.head.is_dense or answers * each > num_steps:
            raise ConfigError(
                f"{answers} answers need a head of maps and {answers} x head.readout_steps (here {each}) of "
                f"{num_steps} steps; set head.readout_steps, or ask for fewer"
            )

    def _refuse_bytes(self, cube: Tensor) -> None:
        if not self.config.neuron.is_spiking or cube.dtype != torch.uint8:
            raise ConfigError("spikes: uint8 keeps whole numbers: it needs spiking neurons and a cube of type uint8")

    def num_steps(self, cube: Tensor) -> int:
        """Return how many steps the neurons compute for a cube: one per step of the cube, or those of a picture."""
        return self.config.voxels.num_steps if self.config.voxels.mode == "direct" else len(cube)

    @property
    def device(self) -> torch.device:
        """Where the weights lie and the cubes must go."""
        return next(self.parameters()).device

    @property
    def neuron_names(self) -> list[str]:
        """The neuron layers in the order in which they compute, for example "encoder.stages.0.2"."""
        return [layer.name for layer in self._neuron_layers()]

    @property
    def max_spikes(self) -> int:
        """Most spikes that one value of an observed output stands for: 1, but the levels of I-LIF not unrolled."""
        return self.encoder.stem.neuron.max_spikes

    def _neuron_layers(self) -> list[ConvNeuron]:
        return [m for m in self.modules() if isinstance(m, ConvNeuron)]

    def predict(self, source: Any, **options: Any) -> Any:
        """Detect in a recording, a folder, arrays, cubes or a live source; see :func:`spiking_centernet.predict`."""
        # The one way up through the layers: a shortcut that the public package resolves when it is called.
        import spiking_centernet

        return spiking_centernet.predict(source, self, **options)

    def fuse(self) -> "Detector":
        """Return a copy for inference: batch norms folded, every decoder block merged into one convolution.

        The outputs equal the original's up to rounding; a spike can differ only where a membrane lies within rounding
        of the threshold. The neuron layers keep their names. Where the configuration puts neurons between the decoder's
        convolutions nothing can be merged: their batch norms are folded, the convolutions stay apart, and a
        warning says so.
        """
        if self.config.decoder.kind != "merged":
            warnings.warn(
                f"the decoder {self.config.decoder.kind!r} has neurons between its convolutions and cannot be merged "
                "into one per block; only its batch norms are folded",
                stacklevel=2,
            )
        fused = copy.deepcopy(self).eval()
        if fused.encoder.stem.norm is None:
            return fused
        fused.encoder.stem = fused.encoder.stem.fused()
        for stage in fused.encoder.stages:
            for i, block in enumerate(stage):  # pyright: ignore[reportArgumentType]
                stage[i] = block.fused()  # pyright: ignore[reportIndexIssue]
        for i, block in enumerate(fused.decoder.blocks):
            fused.decoder.blocks[i] = block.fused()  # pyright: ignore[reportCallIssue]
        for head in fused.heads.values():
            head.block = head.block.fused()  # pyright: ignore
        return fused.to(memory_format=torch.channels_last).requires_grad_(False)  # pyright: ignore[reportCallIssue]

    def with_exact_sums(self) -> "Detector":
        """Return a copy for inference, as of :meth:`fuse`, whose weights are rounded so that sums of spikes are exact.

        Each output channel's weights become multiples of a power of two, the finest that leaves every sum of a
        convolution exact in float32, whatever the order. Of the bundled weights none moves by more than 1e-4 of its
        layer's largest. Where sums are exact, :meth:`unrolled` agrees to the bit. The first convolution of mode
        "direct" sees no spikes and stays.

        Raises:
            ConfigError: The network passes on other values than a neuron's spikes.
        """
        config = self.config
        if not config.neuron.is_spiking or config.encoder.identity or config.decoder.skips == "add":
            raise ConfigError(
                "exact sums need layers that pass on a neuron's spikes, this network has "
                f"{config.variations or 'neuron.kind=relu'}; take fuse()"
            )
        exact = self.fuse()
        for layer in exact._neuron_layers():
            if layer is not exact.encoder.stem:
                round_to_exact_sums(layer.conv, config.neuron.max_spikes)
            elif config.voxels.mode != "direct":
                round_to_exact_sums(layer.conv, 255 if config.voxels.mode == "count" else 1)
        for branch in exact.heads.values():
            assert isinstance(branch, BranchModule)
            round_to_exact_sums(branch.out, config.neuron.max_spikes)
        return exact

    def unrolled(self) -> "Detector":
        """Return a copy for inference, as of :meth:`fuse`, in which I-LIF neurons pass on nothing but 0 and 1.

        Every time step becomes D virtual steps, see ``unroll``: call, state, output and names of layers stay. Integers
        and membranes are those of ``fuse()``, to the bit where sums are exact, else up to the rounding of sums in
        another order. Observers see [T * B * D, K, h, w].

        Raises:
            ConfigError: The neurons are of another kind.
        """
        if self.config.neuron.kind != "ilif":
            raise ConfigError(
                f"neuron.kind={self.config.neuron.kind!r} has no whole numbers of spikes to unroll; take fuse()"
            )
        unrolled = self.fuse()
        if isinstance(unrolled.encoder.stem.neuron, UnrolledILIF):
            return unrolled
        for layer in unrolled._neuron_layers():
            unroll_layer(layer, sees_cube=layer is unrolled.encoder.stem)
        for branch in unrolled.heads.values():
            assert isinstance(branch, BranchModule)
            unroll_branch(branch, self.config.neuron.levels)
        return unrolled


def build(
    preset: str | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    weights_parts: str = "all",
    **changes: Any,
) -> Detector:
    """Return a detector to train: a preset with single settings changed, untrained or started from other weights.

    Args:
        preset: "nano", "small" or "paper"; None takes the network of the weights, or nano.
        weights: what to start from, see :func:`spiking_centernet.transfer`; what is taken over is logged. None
            leaves the weights random.
        weights_parts: "all" of the weights that fit, or "encoder": for a network of another task.
        changes: settings of :class:`DetectorConfig` by owner, ``neuron={"kind": "relu"}``, or by dotted name,
            ``**{"neuron.kind": "relu"}``.

    Raises:
        ConfigError: If the preset or a setting is unknown, or a value is impossible.
        WeightsError: If the weights are missing or belong to another network.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}{did_you_mean(preset, PRESETS)}")
    if weights is None:
        return Detector(with_changes(PRESETS[preset or "nano"], changes))
    from spiking_centernet.model.transfer_learning import transfer
    from spiking_centernet.model.weights import config_of

    # Scores were fitted to the weights as they are.
    config = with_changes(config_of(weights), {"deployment.score_fit": AS_IT_IS}) if preset is None else PRESETS[preset]
    model = Detector(with_changes(config, changes))
    transfer(model, weights, parts=weights_parts)
    return model
