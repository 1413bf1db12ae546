"""``python -m spiking_centernet`` is the command ``scn``."""

import sys

from spiking_centernet.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
