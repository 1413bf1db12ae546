"""What a camera recorded: event files, box files, windows, voxel cubes and folders of them."""

from spiking_centernet.events.augment import Augmentation as Augmentation
from spiking_centernet.events.augment import augment as augment
from spiking_centernet.events.augment import flip as flip
from spiking_centernet.events.augment import zoom as zoom
from spiking_centernet.events.boxes import boxes_at as boxes_at
from spiking_centernet.events.boxes import clean_boxes as clean_boxes
from spiking_centernet.events.boxes import label_instants as label_instants
from spiking_centernet.events.boxes import read_boxes as read_boxes
from spiking_centernet.events.boxes import write_boxes as write_boxes
from spiking_centernet.events.corrupt import CORRUPTIONS as CORRUPTIONS
from spiking_centernet.events.corrupt import Fault as Fault
from spiking_centernet.events.corrupt import corrupt as corrupt
from spiking_centernet.events.dat import DatFile as DatFile
from spiking_centernet.events.dat import DatHeader as DatHeader
from spiking_centernet.events.dat import DatWriter as DatWriter
from spiking_centernet.events.dat import read_header as read_header
from spiking_centernet.events.dat import write_dat as write_dat
from spiking_centernet.events.dataset import FolderDataset as FolderDataset
from spiking_centernet.events.dataset import LabelledRecording as LabelledRecording
from spiking_centernet.events.dataset import collate as collate
from spiking_centernet.events.recording import DatRecording as DatRecording
from spiking_centernet.events.recording import Recording as Recording
from spiking_centernet.events.recording import Window as Window
from spiking_centernet.events.recording import open as open
from spiking_centernet.events.voxel import voxelize as voxelize
from spiking_centernet.events.voxel import voxelize_dat as voxelize_dat
