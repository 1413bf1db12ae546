"""Labels and recordings of other tools: Prophesee, COCO, YOLO and MOT files, and conversion between them."""

from spiking_centernet.data.convert.conversion import Conversion as Conversion
from spiking_centernet.data.convert.conversion import convert_file as convert_file
from spiking_centernet.data.convert.labels import Labels as Labels
