"""Join the training and validation splits of several folders by links: ``mixed_data.py OUT FOLDER FOLDER ...``

A recording is called ``FOLDER-NAME`` there. Nothing is copied; test splits stay apart, each to be scored by itself. A
folder may have no validation split.
"""

import argparse
import os
from pathlib import Path


def main() -> None:
    """Link every file of both splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to make or to add to")
    parser.add_argument("folders", type=Path, nargs="+", help="folders with train, and val or none")
    given = parser.parse_args()
    count = 0
    for folder in given.folders:
        for split in ("train", "val"):
            if not (folder / split).is_dir():
                if split == "train":
                    parser.error(f"{folder} has no folder {split}")
                continue
            (given.out / split).mkdir(parents=True, exist_ok=True)
            for file in sorted((folder / split).iterdir()):
                link = given.out / split / f"{folder.name}-{file.name}"
                if not link.exists():
                    os.symlink(file.resolve(), link)
                    count += 1
    print(f"{given.out}: {count} files linked")


if __name__ == "__main__":
    main()
