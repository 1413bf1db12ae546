"""Where events come from: a recording, a recording replayed at its own pace, a socket, a camera."""

import time
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from spiking_centernet.data import Recording
from spiking_centernet.errors import ConfigError, need
from spiking_centernet.inference.windows import Packet
from spiking_centernet.structures import EVENT_DTYPE

UDP_CLOCK_US = 1 << 32
"""The clock of a UDP event counts microseconds in 32 bits and starts again after 72 minutes."""


IDLE_MS = 100.0
"""How long to wait for a camera that sees nothing, before the reader may look whether it should stop."""


class EventSource(Protocol):
    """What :func:`stream` follows: an iterable of packets that knows its sensor.

    Attributes:
        size_hw: height and width of the sensor in pixels.
    """

    size_hw: tuple[int, int]

    def __iter__(self) -> Iterator[Packet | np.ndarray]:
        """Yield packets in the order of time; an empty one now and then lets a reader that was closed end."""
        ...


def packets_of(recording: Recording, packet_us: int) -> Iterator[Packet]:
    """Yield a recording's events in packets of ``packet_us``, from the one that holds the first event."""
    if not recording.num_events:
        return
    start_us = recording.start_us // packet_us * packet_us
    while start_us < recording.stop_us:
        yield Packet(recording.read(start_us, start_us + packet_us), start_us + packet_us)
        start_us += packet_us


class Replay:
    """A recording delivered as a camera would: no packet comes before its time.

    Args:
        recording: what to replay.
        speed: of the replay over real time; 0.1 is ten times slower.
        packet_us: microseconds of events in a packet.

    Raises:
        ConfigError: the speed or the packet is not positive.
    """

    def __init__(self, recording: Recording, *, speed: float = 1.0, packet_us: int = 10_000):
        if not speed > 0 or packet_us < 1:
            raise ConfigError(f"speed and packet_us must be positive, got {speed} and {packet_us}")
        self.recording, self.speed, self.packet_us = recording, speed, packet_us
        self.size_hw = recording.size_hw

    def __iter__(self) -> Iterator[Packet]:
        """Yield the packets, each when its last event is due."""
        start_us, start_s = self.recording.start_us, time.perf_counter()
        for packet in packets_of(self.recording, self.packet_us):
            assert packet.until_us is not None
            due_s = start_s + (packet.until_us - start_us) * 1e-6 / self.speed
            time.sleep(max(0.0, due_s - time.perf_counter()))
            yield packet


class Udp:
    """Events from a socket, in the format of AEStream and SPIF (needs eventcv).

    The format has no sequence numbers: a datagram that the network or a full socket buffer loses cannot be noticed.

    Args:
        address: where to listen, "host:port".
        size_hw: height and width of the sensor in pixels; events outside are dropped by the receiver.
        timestamps: the datagrams carry the sender's times; otherwise events are dated when they arrive.
        packet_us: how long to collect for a packet.
    """

    def __init__(self, address: str, size_hw: tuple[int, int], *, timestamps: bool = False, packet_us: int = 5_000):
        eventcv = need("eventcv", "receiving events", "live")
        try:
            self._receiver: Any = eventcv.UdpReceiver(address, (size_hw[1], size_hw[0]), timestamps=timestamps)
        except (ValueError, OSError, RuntimeError) as error:
            raise ConfigError(f"cannot listen at {address!r} ({error}); give host:port, as in 0.0.0.0:3333") from error
        self.size_hw, self.timestamps, self.packet_us = size_hw, timestamps, packet_us

    @property
    def address(self) -> str:
        """Where the socket listens, "host:port"."""
        return str(self._receiver.address)

    def __iter__(self) -> Iterator[Packet]:
        """Yield a packet every ``packet_us``, empty ones too, without end."""
        start_s, latest_us = time.perf_counter(), None
        while True:
            columns = self._receiver.recv(self.packet_us * 1e-3).numpy()
            now_us = round((time.perf_counter() - start_s) * 1e6)
            events = _from_columns(columns)
            if not self.timestamps:
                # Just before now, so that the packet's own promise holds.
                events["t"] = now_us - 1
                yield Packet(events, now_us)
                continue
            if len(events):
                latest_us = int(events["t"][0]) if latest_us is None else latest_us
                # Of the times that the 32 bits may mean, the one nearest to the latest so far.
                half = UDP_CLOCK_US // 2
                events["t"] = latest_us + (events["t"] - latest_us + half) % UDP_CLOCK_US - half
                latest_us = max(latest_us, int(events["t"].max()))
            yield Packet(events)


class Camera:
    """Events from a USB event camera (needs eventcv, which lists the cameras it knows).

    Use it in a ``with`` block: the camera is released at its end.

    Args:
        serial: which camera; None takes the first.
        packet_us: microseconds of events in a packet.
    """

    def __init__(self, *, serial: str | None = None, packet_us: int = 5_000):
        eventcv = need("eventcv", "an event camera", "live")
        if not eventcv.list_cameras():
            raise ConfigError("no event camera is connected, or this user may not open it (on Linux: udev rules)")
        self._camera: Any = eventcv.stream(serial, dt_us=packet_us)
        width, height = self._camera.sensor_size
        self.size_hw = (int(height), int(width))

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *failure: object) -> None:
        self._camera.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield what the camera saw, without end; nothing now and then while nothing moves.

        Warns when the driver's buffer overflowed: such events are lost before they arrive here.

        Raises:
            OSError: the camera stopped.
        """
        num_overflows = 0
        while True:
            try:
                events = self._camera.read(timeout_ms=IDLE_MS)
            except RuntimeError as error:
                raise OSError(f"the camera stopped ({error}); connect it and start again") from error
            if self._camera.n_overflows > num_overflows:
                num_overflows = self._camera.n_overflows
                warnings.warn(
                    f"the camera's buffer overflowed {num_overflows} times, and events were lost; lower its event rate",
                    stacklevel=2,
                )
            yield np.zeros(0, EVENT_DTYPE) if events is None else _from_columns(events.numpy())


def _from_columns(columns: np.ndarray) -> np.ndarray:
    """Return events from an array [N, 4] of x, y, t in microseconds and polarity."""
    events = np.zeros(len(columns), EVENT_DTYPE)
    for k, name in enumerate("xytp"):
        events[name] = columns[:, k]
    return events
