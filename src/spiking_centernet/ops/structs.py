"""The structs and constants that cross the border to the native library, as ``native/*.h`` declares them.

A mistake here reads or writes foreign memory: the library says what it was compiled with (``native/abi.c``), and
:mod:`spiking_centernet.ops.library` compares when it loads it.
"""

from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_uint8, c_uint32, c_void_p, sizeof

ABI_VERSION = 3
"""``SCN_ABI_VERSION`` in ``native/abi.h``."""

LIST_SLACK = 64
"""Keys of room behind a full list of events (``native/spikes.h``)."""

STEM_LANES = 16
"""Output channels of the stem that are worked on together (``native/stem.h``)."""

MAX_SPIKES = 8
"""Most spikes of a neuron in a time step on the engine's kernels (``native/spikes.h``)."""

PLIF_FIXED_ROWS = 5
"""Rows of scratch the neurons' backward pass takes besides three a step (``native/plif.h``)."""

KERNEL_SURROGATES = ("atan", "sigmoid", "rectangle")
"""Surrogate gradients by the number that the kernels know them by (``native/plif.h``)."""


class CPlane(Structure):
    """``Plane`` of ``native/spikes.h``."""

    _fields_ = [(name, c_int64) for name in ("height", "width", "channels", "halo")] + [("bytes", POINTER(c_uint8))]


class CLayer(Structure):
    """``Layer`` of ``native/spikes.h``."""

    _fields_ = (
        [(name, POINTER(CPlane)) for name in ("input", "output")]
        + [(name, c_void_p) for name in ("dense_weights", "event_weights", "scale", "bias", "q", "threshold")]
        + [(name, c_void_p) for name in ("old_membranes", "membranes", "counts")]
        + [(name, c_int64) for name in ("num_steps", "batch", "kernel", "stride", "height", "width")]
        + [(name, c_int64) for name in ("padded_channels", "dense_block", "event_block")]
        + [(name, c_int32) for name in ("leaky", "decay_input", "soft_reset", "levels", "largest_input", "floats")]
    )


class CLists(Structure):
    """``Lists`` of ``native/spikes.h``."""

    _fields_ = [("keys", POINTER(c_uint32)), ("offsets", POINTER(c_int32))]


class CFactored(Structure):
    """``Factored`` of ``native/factored.h``."""

    _fields_ = (
        [(name, POINTER(CPlane)) for name in ("coarse", "skip")]
        + [("layer", POINTER(CLayer))]
        + [
            (name, c_void_p)
            for name in (
                "expand_coarse", "expand_skip", "expand_bias", "expand_shift", "filter", "filter_bias", "filter_shift",
                "project", "coarse_sums", "expanded", "filtered",
            )
        ]
        + [("hidden", c_int64)]
    )  # fmt: skip


class CGated(Structure):
    """``Gated`` of ``native/gated.h``."""

    _fields_ = (
        [(name, POINTER(CPlane)) for name in ("input", "output")]
        + [(name, c_void_p) for name in ("currents", "old_membranes", "membranes")]
        + [(name, c_int64) for name in ("num_steps", "batch", "height", "width", "channels")]
        + [(name, c_int64) for name in ("padded_channels", "padded_currents")]
        + [("threshold", c_float)]
    )


class CImages(Structure):
    """``Images`` of ``native/max_pool.h``."""

    _fields_ = [(name, c_int64) for name in ("num", "height", "width", "channels", "size")]


class CConvolution(Structure):
    """``Convolution`` of ``native/stem.h``."""

    _fields_ = [
        (name, c_int64)
        for name in (
            "num", "in_channels", "in_height", "in_width", "out_channels", "height", "width", "kernel", "stride",
            "padding", "size", "parts",
        )
    ]  # fmt: skip


class CPlifNeuron(Structure):
    """``PlifNeuron`` of ``native/plif.h``."""

    _fields_ = (
        [(name, c_float) for name in ("q", "threshold", "alpha")]
        + [(name, c_int32) for name in ("leaky", "decay_input", "soft_reset", "detach_reset", "surrogate", "levels")]
        + [("thresholds", c_void_p)]
    )


class CPlifLayer(Structure):
    """``PlifLayer`` of ``native/plif.h``."""

    _fields_ = (
        [(name, c_int64) for name in ("num_neurons", "num_steps", "num_channels", "tile", "parts")]
        + [(name, c_void_p) for name in ("mean", "scale", "bias")]
        + [("neuron", CPlifNeuron)]
    )


STRUCTS = (CPlane, CLayer, CLists, CFactored, CGated, CImages, CConvolution, CPlifNeuron, CPlifLayer)
"""Every struct that a kernel is handed."""


def facts() -> dict[str, int]:
    """Return what ``native/abi.c`` exports: sizes of structs and offsets of their fields, bytes, and constants."""
    found = {"LIST_SLACK": LIST_SLACK, "STEM_LANES": STEM_LANES, "MAX_SPIKES": MAX_SPIKES}
    found |= {"PLIF_FIXED_ROWS": PLIF_FIXED_ROWS}
    found |= {name.upper(): number for number, name in enumerate(KERNEL_SURROGATES)}
    for struct in STRUCTS:
        name = struct.__name__.removeprefix("C")
        found[f"sizeof({name})"] = sizeof(struct)
        for field, *_ in struct._fields_:
            found[f"offsetof({name}, {field})"] = getattr(struct, field).offset
    return found
