"""ROS bags with events: ROS 1 ``.bag``, ROS 2 ``.db3`` and ``.mcap``.

The library ``rosbags`` reads the containers; the messages are unpacked here, since building a Python object an event
would take minutes. Understood are ``dvs_msgs/EventArray`` and ``prophesee_event_msgs/EventArray`` (x, y, time,
polarity; rows from the top), and ``event_camera_msgs/EventPacket`` in the encodings ``evt3`` and ``mono``
(https://github.com/ros-event-camera/event_camera_msgs). Events are decoded once into a temporary file that vanishes
with the recording.
"""

import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spiking_centernet.data._kernels import PAIRED_DTYPE
from spiking_centernet.data.formats.columns import ColumnRecording
from spiking_centernet.data.formats.evt import ENCODINGS, decode_evt3
from spiking_centernet.data.formats.indexed import open_bytes
from spiking_centernet.errors import EventFileError, need, one_line
from spiking_centernet.structures import EVENT_DTYPE

ARRAYS = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
PACKETS = ("event_camera_msgs/msg/EventPacket", "event_array_msgs/msg/EventArray")
ROS1_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
CDR_BYTES = 16
"""From one event of a ROS 2 array to the next: members stand at multiples of their own size."""


class RosbagRecording(ColumnRecording):
    """The events of a bag as a recording; its clock is moved to 0 at the first event."""

    def __init__(
        self, path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None, topic: str | None = None
    ):
        """Open a bag.

        Args:
            path: the file, or the folder of a ROS 2 bag.
            size_hw: height and width of the sensor in pixels, if the messages say them wrong.
            topic: which topic to read, where several hold events.

        Raises:
            EventFileError: the bag holds no events, those of several topics, or an encoding we do not know; or see
                ``BlockRecording``.
        """
        path = Path(path)
        if not path.is_dir():
            with open_bytes(path):
                pass
        highlevel = need("rosbags.highlevel", f"reading {path}", "formats")
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115  mapped below, closed with the recording
        try:
            with highlevel.AnyReader([path]) as reader:
                connection = _choose(path, reader.connections, topic)
                unpack = _Unpacker(path, connection, is_ros1=path.suffix.lower() == ".bag")
                count = 0
                for _, stamp_ns, raw in reader.messages(connections=[connection]):
                    for events in unpack(bytes(raw), stamp_ns):
                        count += len(events)
                        self._spool.write(events.tobytes())
        except EventFileError:
            raise
        except Exception as error:  # the library raises whatever the damaged bytes run into
            raise EventFileError(
                f"{path}: cannot be read as a ROS bag ({one_line(error)}); copy or record it again"
            ) from error
        self._spool.flush()
        mapped = np.memmap(self._spool, EVENT_DTYPE, "r", shape=(count,)) if count else np.empty(0, EVENT_DTYPE)
        columns = {field: mapped[field] for field in "txyp"}
        super().__init__(
            path, columns, kind=f"ROS bag, {connection.msgtype}, {connection.topic}", size_hw=size_hw or unpack.size_hw
        )


def _choose(path: Path, connections: list[Any], topic: str | None) -> Any:
    """Return the connection to read."""
    found = [c for c in connections if c.msgtype in (*ARRAYS, *PACKETS) and topic in (None, c.topic)]
    if not found:
        held = ", ".join(sorted({f"{c.topic} ({c.msgtype})" for c in connections})) or "nothing"
        raise EventFileError(f"{path}: holds {held}, but no events in {', '.join((*ARRAYS, *PACKETS))}")
    if len({c.topic for c in found}) > 1:
        topics = ", ".join(sorted(c.topic for c in found))
        raise EventFileError(
            f"{path}: holds events of several cameras ({topics}); name one: RosbagRecording(topic=...)"
        )
    return found[0]


class _Reader:
    """Takes values one after another from a serialized message; ROS 2 aligns each to its own size."""

    def __init__(self, raw: bytes, is_ros1: bool):
        self.raw, self.is_ros1, self.at = raw, is_ros1, 0 if is_ros1 else 4

    def take(self, code: str) -> Any:
        """Return one number by its ``struct`` code."""
        size = struct.calcsize(code)
        if not self.is_ros1:
            self.at += -(self.at - 4) % size
        (value,) = struct.unpack_from(f"<{code}", self.raw, self.at)
        self.at += size
        return value

    def text(self) -> str:
        """Return a string; its length stands before it."""
        length = self.take("I")
        value = self.raw[self.at : self.at + length]
        self.at += length
        return value.rstrip(b"\0").decode("utf-8", "replace")

    def header(self) -> None:
        """Pass over a ``std_msgs/Header``."""
        for _ in range(3 if self.is_ros1 else 2):
            self.take("I")
        self.text()


class _Unpacker:
    """Turns a message into events."""

    def __init__(self, path: Path, connection: Any, *, is_ros1: bool):
        self._path, self._is_ros1 = path, is_ros1
        self._is_array = connection.msgtype in ARRAYS
        self.size_hw: tuple[int, int] | None = None
        self._state = np.zeros(6, np.int64)

    def __call__(self, raw: bytes, stamp_ns: int) -> Iterator[np.ndarray]:
        """Yield the events of a message, EVENT_DTYPE."""
        if not self._is_ros1 and raw[:2] not in (b"\0\1", b"\0\0"):
            raise EventFileError(
                f"{self._path}: a message is not in plain CDR; record it again with the default settings"
            )
        if not self._is_ros1 and raw[1] == 0:
            raise EventFileError(f"{self._path}: its messages are big-endian, which is not supported")
        reader = _Reader(raw, self._is_ros1)
        reader.header()
        height, width = reader.take("I"), reader.take("I")
        if height and width:
            self.size_hw = (height, width)
        yield self._array(reader) if self._is_array else self._packet(reader)

    def _array(self, reader: _Reader) -> np.ndarray:
        count, at, raw = reader.take("I"), reader.at, reader.raw
        events = np.empty(count, EVENT_DTYPE)
        if self._is_ros1:
            stored = np.frombuffer(raw, ROS1_EVENT, count, at)
            seconds, nanoseconds = stored["s"].astype(np.int64), stored["ns"].astype(np.int64)
            events["x"], events["y"], events["p"] = stored["x"], stored["y"], stored["p"] != 0
        elif count:
            # The first event starts at a multiple of four and has no gap before its time.
            if at + CDR_BYTES * count - 3 > len(raw):
                raise EventFileError(f"{self._path}: a message claims {count} events and is too short for them")
            index = np.arange(count) * CDR_BYTES + at
            data = np.frombuffer(raw, np.uint8)

            def field(offset: np.ndarray, size: int) -> np.ndarray:
                parts = data[offset[:, None] + np.arange(size)].astype(np.int64)
                return (parts << 8 * np.arange(size)).sum(1)

            later = np.minimum(np.arange(count), 1) * 2
            events["x"], events["y"] = field(index - later, 2), field(index + 2 - later, 2)
            seconds, nanoseconds = field(index + 4, 4), field(index + 8, 4)
            events["p"] = data[index + 12] != 0
        else:
            return events
        events["t"] = seconds * 1_000_000 + nanoseconds // 1000
        return events

    def _packet(self, reader: _Reader) -> np.ndarray:
        reader.take("Q")
        base_ns = reader.take("Q")
        encoding = reader.text()
        reader.take("?")
        count = reader.take("I")
        data = reader.raw[reader.at : reader.at + count]
        if len(data) < count:
            raise EventFileError(
                f"{self._path}: a packet claims {count} bytes and holds {len(data)}; copy the bag again"
            )
        if encoding == "evt3":
            words = np.frombuffer(data, "<u2", len(data) // 2)
            out = np.empty(len(words) * ENCODINGS["3.0"].max_events, PAIRED_DTYPE)
            found, at, bad = decode_evt3(words, out, self._state)
            if bad:
                raise EventFileError(
                    f"{self._path}: word {at} of a packet is no EVT3 word; the bag is damaged: copy it again"
                )
            return out[:found].view(EVENT_DTYPE).copy()
        if encoding == "mono":
            word = np.frombuffer(data, "<u8", len(data) // 8)
            events = np.empty(len(word), EVENT_DTYPE)
            events["t"] = (base_ns + (word & 0xFFFFFFFF)).astype(np.int64) // 1000
            events["x"], events["y"], events["p"] = word >> 32 & 0xFFFF, word >> 48 & 0x7FFF, word >> 63
            return events
        raise EventFileError(
            f"{self._path}: its packets are encoded as {encoding!r}; known: evt3, mono. Convert them with "
            "event_camera_tools"
        )
