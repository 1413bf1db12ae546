"""Imports go down only: the floors below are the house's plan (docs/architecture.md)."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "spiking_centernet"
TABLE = Path(__file__).parents[1] / "docs" / "architecture.md"
ROW = re.compile(r"^\| (\d+) \| `(\w+)(?:\.py|/)` \|", re.MULTILINE)
FLOORS = {room: int(floor) for floor, room in ROW.findall(TABLE.read_text())}
NEIGHBOURS = {("draw", "evaluate")}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            if node.module == "spiking_centernet":
                names = [f"spiking_centernet.{alias.name}" for alias in node.names]
            else:
                names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("spiking_centernet."):
                yield name.split(".")[1], node.lineno


def test_the_table_is_the_house():
    assert set(FLOORS) == {room_of(path) for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    room = room_of(path)
    assert room in FLOORS, f"{room} has no floor: add it to the table of docs/architecture.md"
    for other, line in imported_rooms(path):
        if other == room:
            continue
        assert other in FLOORS, f"{path}:{line} imports {other}, which has no floor"
        assert FLOORS[other] < FLOORS[room] or (room, other) in NEIGHBOURS, f"{path}:{line}: {room} imports {other}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_outgrows_its_room(path):
    assert len(path.read_text().splitlines()) <= 420
