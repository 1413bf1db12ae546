"""Events in, detections out: a detector run over a recording, packets of events, or a camera."""

from spiking_centernet.stream.answers import StreamDetections as StreamDetections
from spiking_centernet.stream.answers import detect_windows as detect_windows
from spiking_centernet.stream.collect import Packet as Packet
from spiking_centernet.stream.lines import Summary as Summary
from spiking_centernet.stream.lines import as_line as as_line
from spiking_centernet.stream.sources import Camera as Camera
from spiking_centernet.stream.sources import EventSource as EventSource
from spiking_centernet.stream.sources import Replay as Replay
from spiking_centernet.stream.sources import Udp as Udp
from spiking_centernet.stream.streaming import Stream as Stream
from spiking_centernet.stream.streaming import stream as stream
