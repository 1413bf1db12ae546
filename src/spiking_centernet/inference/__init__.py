"""Events in, detections out: a detector run over a recording, packets of events, or a camera."""

from spiking_centernet.inference.runner import StreamDetections as StreamDetections
from spiking_centernet.inference.runner import Summary as Summary
from spiking_centernet.inference.runner import as_line as as_line
from spiking_centernet.inference.runner import detect_windows as detect_windows
from spiking_centernet.inference.sources import Camera as Camera
from spiking_centernet.inference.sources import EventSource as EventSource
from spiking_centernet.inference.sources import Replay as Replay
from spiking_centernet.inference.sources import Udp as Udp
from spiking_centernet.inference.streaming import Stream as Stream
from spiking_centernet.inference.streaming import stream as stream
from spiking_centernet.inference.windows import Packet as Packet
