"""Labels and recordings of other tools: Prophesee, COCO, YOLO and MOT files, and conversion between them."""

from spiking_centernet.interop.convert import Conversion as Conversion
from spiking_centernet.interop.convert import convert as convert
from spiking_centernet.interop.labels import Labels as Labels
