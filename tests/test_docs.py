"""The pages are true: figures come from results, links lead somewhere, code runs, commands parse.

Python blocks of a page run one after another in one namespace, in a folder with ``drive_td.dat`` (the real clip),
``roads`` (a tiny data set with train and val) and the weights ``nano``. A block that cannot run here is marked by
a line ``<!-- not run: reason -->`` before it.
"""

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
import toy_roads

from spiking_centernet.cli import parser
from spiking_centernet.data.io import sample
from spiking_centernet.model import build
from spiking_centernet.model.weights import bundled, save
from spiking_centernet.training import recipes

ROOT = Path(__file__).resolve().parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n+)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


def load_script(name: str):
    sys.path.insert(0, str(ROOT / "docs"))  # where a script finds its neighbors
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill, stage, check_site = map(load_script, ("fill", "stage", "check_site"))


def of_page(pages=PAGES):
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def python_blocks(page: Path) -> list[str]:
    return [m["code"] for m in FENCE.finditer(page.read_text()) if m["kind"] == "python" and not m["reason"]]


def command_lines(page: Path) -> list[str]:
    """Return the commands of console blocks: continued lines joined, compound lines split, loops run once."""
    code = "\n".join(m["code"] for m in FENCE.finditer(page.read_text()) if m["kind"] == "console" and not m["reason"])
    lines = []
    for line in code.replace("\\\n", " ").splitlines():
        loop = re.match(r"for (\w+) in (\S+)[^;]*; do (.*); done$", line)
        if loop:
            line = loop[3].replace(f"${loop[1]}", loop[2])
        lines += [part.strip() for part in re.split(r"&&|;", line.split(" # ")[0])]
    return [line for line in lines if line and not line.startswith("#")]


COMMANDS = [(page, line) for page in PAGES for line in command_lines(page)]
PROGRAMS = {"cp", "mkdir", "scn", "make", "python", "pip", "torchrun", "sbatch", ".venv/bin/pre-commit"}


def starting_with(word: str):
    lines = [
        pytest.param(line, id=f"{page.name}: {line[:60]}") for page, line in COMMANDS if line.startswith(f"{word} ")
    ]
    assert lines, f"no page shows a command {word}"
    return pytest.mark.parametrize("line", lines)


@of_page()
def test_every_block_says_its_language_and_every_command_is_known(page):
    kinds = {match["kind"] for match in FENCE.finditer(page.read_text())}
    assert kinds <= {"python", "console", "text", "json", "yaml"}
    assert {shlex.split(line)[0] for line in command_lines(page)} <= PROGRAMS


@pytest.mark.slow
def test_every_figure_is_that_of_the_results(capsys):
    assert fill.main(["--check"]) == 0, capsys.readouterr().out


def test_no_block_shows_the_expression_of_a_figure_instead_of_it():
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for _, kind, name, body, _ in fill.BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind == "results":
                assert not re.search(r"\{\w+[\[(.]", body), f"{page.name}: {name}"


@pytest.fixture
def small_tree(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- code:protocols -->\nold\n<!-- /code -->\nafter\n")
    return page


def test_a_stale_block_is_named_and_then_written(small_tree, capsys):
    assert fill.main(["--check"], small_tree.parent) == 1
    assert "README.md: protocols is stale" in capsys.readouterr().out
    assert "old" in small_tree.read_text()
    assert fill.main([], small_tree.parent) == 0
    text = small_tree.read_text()
    assert text.startswith("before\n<!-- code:protocols -->\n| name |")
    assert text.endswith("|\n<!-- /code -->\nafter\n")
    assert "| `prophesee` | 0.5 s | 30 / 10 | 60 / 20 | with a box left |" in text
    assert fill.main(["--check"], small_tree.parent) == 0


def test_a_missing_result_is_said_instead_of_a_number(small_tree):
    small_tree.write_text("<!-- results:small_scores -->\n0.99\n<!-- /results -->\n")
    fill.main([], small_tree.parent)
    assert "0.99" not in small_tree.read_text()
    assert "Not measured yet: there is no `results/small_roads.json`" in small_tree.read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<!-- code:protocol -->\n<!-- /code -->\n", "no block is called 'protocol'.*protocols"),
        ("<!-- results:small_scores -->\n", "not closed"),
        ("<!-- results:small_scores -->\n<!-- /code -->\n", "not closed"),
    ],
)
def test_a_wrong_marker_is_refused(small_tree, text, told):
    small_tree.write_text(text)
    with pytest.raises(SystemExit, match=f"README.md: .*{told}"):
        fill.main(["--check"], small_tree.parent)


def test_every_field_of_the_recipe_is_explained():
    text = fill.BLOCKS["recipe"](fill.Results(ROOT / "results"))
    assert "| `learning_rate` | `0.002` | peak learning rate of AdamW. |" in text
    assert "| `num_workers` | `null` |" in text


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@of_page()
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text())
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}, which has no such heading"


@pytest.fixture
def reader_folder(tmp_path, monkeypatch):
    shutil.copy(sample("sample-real"), tmp_path / "drive_td.dat")
    toy_roads.write_folder(tmp_path / "roads")
    if "nano" not in bundled():
        torch.manual_seed(0)
        save(build("nano"), tmp_path / "nano" / "best.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@of_page([page for page in PAGES if python_blocks(page)])
def test_python_runs(page, reader_folder):
    for name in ("mine/train", "found"):
        (reader_folder / name).mkdir(parents=True)
    namespace = {"__name__": "reader"}
    for number, code in enumerate(python_blocks(page), start=1):
        exec(compile(code, f"{page.name}, python block {number}", "exec"), namespace)


@starting_with("scn")
def test_scn_commands_parse(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(recipes, "_num_labeled_frames", lambda data: 30)
    words = shlex.split(line, comments=True)
    command, _ = parser.parse(words[1:])
    assert command == words[1]


@starting_with("make")
def test_make_targets_exist(line):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in (word for word in shlex.split(line, comments=True)[1:] if "=" not in word):
        assert target in targets


@starting_with("python")
def test_scripts_exist(line):
    assert (ROOT / shlex.split(line, comments=True)[1]).is_file()


@pytest.mark.parametrize(
    ("source", "text", "staged"),
    [
        ("README.md", "", ""),
        ("README.md", "![a](docs/images/drive.webp)", "![a](images/drive.webp)"),
        ("README.md", "[a](docs/training.md#on-a-gpu)", "[a](training.md#on-a-gpu)"),
        ("docs/training.md", "[a](../README.md)", "[a](index.md)"),
        ("docs/tutorials/detect.md", "[a](../formats.md)", "[a](../formats.md)"),
        ("docs/tutorials/train_gen1.md", "[a](../../recipes/nano_nir.yaml)", "[a](../files/recipes/nano_nir.yaml.md)"),
        ("docs/training.md", "[a](https://arxiv.org) [b](#top)", "[a](https://arxiv.org) [b](#top)"),
        ("docs/training.md", "```text\n[a](x.md)\n```", "```text\n[a](x.md)\n```"),
        ("docs/training.md", "<!-- results:zoo -->\n| a |\n", "\n| a |\n"),
    ],
)
def test_links_lead_to_pages_of_the_site(source, text, staged):
    pages = stage.Stage()
    assert pages.convert(text, source) == staged
    assert pages.shown <= {"recipes/nano_nir.yaml"}


def test_a_file_that_a_page_links_to_is_shown_on_the_site():
    page = stage.Stage().file_page("recipes/nano_nir.yaml")
    assert page.startswith("# recipes/nano_nir.yaml\n\n````yaml\n# ")
    assert "- `nano_nir.yaml`" in stage.Stage().file_page("recipes")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<a href='b.html#here'>b</a>", None),
        ("<a href='c.html'>c</a>", "a.html: c.html leads nowhere"),
        ("<a href='b.html#there'>b</a>", "a.html: b.html#there names no heading"),
        ("<script src='//cdn.example/x.js'></script>", "a.html: loads //cdn.example/x.js from elsewhere"),
    ],
)
def test_a_broken_link_of_the_site_is_named(body, problem, tmp_path):
    (tmp_path / "a.html").write_text(body)
    (tmp_path / "b.html").write_text("<h2 id='here'>b</h2>")
    found = [line for line in check_site.problems(tmp_path) if line.startswith("a.html")]
    assert found == ([] if problem is None else [problem])
