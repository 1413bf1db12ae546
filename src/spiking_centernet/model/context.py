"""What travels with a forward pass: membranes in and out, the observer, what is kept for the backward pass."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spiking_centernet.errors import ConfigError
from spiking_centernet.ops.memory_saving import Memory, MemorySaver

State = dict[str, Tensor]
"""Membrane potentials [B, C, H, W] by the name of their layer, as in ``Detector.neuron_names``.

A layer that is missing has a zero-initialized membrane.
"""

Observe = Callable[[str, Tensor], None]
"""Called with the name and the output [T * B, K, h, w] of every neuron layer as soon as it is computed."""


class ForwardContext:
    """One forward pass: hands every neuron layer its membrane, takes the new one, shows its spikes to the observer.

    Args:
        state: what the call before returned; None is zero-initialized.
        observe: sees every layer's output.
        keep_state: False collects no membranes.
        memory: what is kept for the backward pass; None keeps everything as it was computed.
        answers: how many answers the head gives, see ``Detector.forward``.

    Attributes:
        answers: as given.
        new_state: the membranes after the last step, empty without ``keep_state``.
        keep_state: as given.
        saver: keeps spikes for the backward pass as ``memory`` says; None where there will be none.
    """

    def __init__(
        self,
        state: State | None = None,
        observe: Observe | None = None,
        *,
        keep_state: bool = True,
        memory: Memory | None = None,
        answers: int = 1,
    ):
        self.answers = answers
        self.keep_state = keep_state
        self.saver = MemorySaver(memory or Memory()) if torch.is_grad_enabled() else None
        self.new_state: State = {}
        self._old_state: State = {} if state is None else state
        self._observe = observe

    def membrane(self, name: str, shape: Sequence[int]) -> Tensor | None:
        """Return a layer's membrane before the first step, None where it is zero-initialized.

        Raises:
            ConfigError: it is not of this shape [B, C, H, W].
        """
        v = self._old_state.get(name)
        if v is not None:
            check_membrane(name, v, shape)
        return v

    def emit(self, name: str, spikes: Tensor, v: Tensor | None) -> Tensor:
        """Take a layer's membrane after the last step, show its spikes [T, B, K, h, w], and return them."""
        if self.keep_state and v is not None:
            assert name not in self.new_state, f"two layers are named {name!r}"
            self.new_state[name] = v
        if self._observe is not None:
            self._observe(name, spikes.flatten(0, 1))
        return spikes

    def run_stage(self, compute: Callable[..., Tensor], *inputs: Tensor, stage: nn.Module) -> Tensor:
        """Return ``compute(*inputs, self)``, kept or computed again in the backward pass as ``memory`` says."""
        # A second computation would hand out the new membranes a second time.
        if self.keep_state or self.saver is None:
            return compute(*inputs, self)
        return self.saver.run_stage(lambda *x: compute(*x, self), *inputs, stage=stage, silence=self._unobserved)

    @contextmanager
    def _unobserved(self) -> Iterator[None]:
        observe, self._observe = self._observe, None
        try:
            yield
        finally:
            self._observe = observe


def check_names(state: State, names: Collection[str]) -> None:
    """Refuse a state of another network.

    Args:
        state: membranes by layer.
        names: the layers that have a membrane.

    Raises:
        ConfigError: it names another layer, or is no dict.
    """
    if not isinstance(state, Mapping):
        raise ConfigError(
            f"a state is a dict of membranes by layer name, got a {type(state).__name__}; "
            "pass what the last call returned, or state=None"
        )
    for name in state:
        if name not in names:
            raise ConfigError(
                f"the state has a membrane of {name!r}, but this network has no such spiking layer; "
                "pass what the last call of the same network returned, or state=None"
            )


def check_membrane(name: str, v: Tensor, shape: Sequence[int]) -> None:
    """Refuse a layer's membrane that belongs to a cube of another size or batch.

    Raises:
        ConfigError: it is not of this shape [B, C, H, W].
    """
    if tuple(v.shape) != tuple(shape):
        raise ConfigError(
            f"the state of {name} is {list(v.shape)}, this cube needs {list(shape)}; "
            "start a cube of another size or batch with state=None"
        )
