"""The documents: programs run as they stand, commands and settings are accepted, lines of prose are short."""

import json
import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from helpers.tiny import command, write_localization, write_photos
from safetensors.torch import save_file

import fbr_plugin.data
from fbr_plugin.baselines import IRN
from fbr_plugin.data import SyntheticDataModule, read_mask, write_mask
from fbr_plugin.data.instances.files import write_instances

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
# Not run here: shell and benchmarks; the demo, which tests/cli runs; and what needs a released checkpoint.
ELSEWHERE = ("fbr-plugin demo", "fbr-plugin import-weights")
TRAINING = {"fit", "validate", "test", "predict"}
COMMAND = re.compile(r"(?:fbr-plugin|(?:torchrun|srun) .*-m fbr_plugin) (.*)")


class Block(NamedTuple):
    """A block of code, and its place among those of its page."""

    page: str
    number: int
    code: str


def blocks(language: str) -> list[Block]:
    """The blocks of a language in all documents."""
    return [
        Block(page.name, number, code)
        for page in PAGES
        for number, code in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S))
    ]


def commands() -> list[tuple[str, list[str]]]:
    """Every `fbr-plugin` command of the documents, with its page, as words."""
    lines = [
        (block.page, found[1])
        for block in blocks("bash")
        for line in block.code.replace("\\\n", " ").splitlines()
        if (found := COMMAND.match(line)) and not line.startswith(ELSEWHERE)
    ]
    return [(page, shlex.split(line, comments=True)) for page, line in lines]


def name(case: object) -> str | None:
    """A readable id of a test."""
    return " ".join(case[:4]) if isinstance(case, list) else str(case)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the documents name."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "examples").symlink_to(ROOT / "examples")
    write_photos(folder / "PHOTOS", count=20)
    write_photos(folder / "VOCdevkit" / "VOC2012", num_classes=20)
    for copy in ("MSRC", "VOC2012"):
        (folder / copy).symlink_to(folder / "PHOTOS")
    write_localization(folder / "IMAGES")
    masks, lists = folder / "PHOTOS" / "SegmentationClass", folder / "PHOTOS" / "ImageSets" / "Segmentation"
    for copy in ("masks_1", "masks_2", "CAM/masks", "AMN/masks"):
        shutil.copytree(masks, folder / copy)
    files = "deeplabv1_resnet101-coco.pth", "ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
    for weights in (*files, "squeezenet1_0.safetensors"):
        (folder / weights).touch()
    for file in ("LIST.txt", "val.txt", "drawn.txt"):
        shutil.copy(lists / "val.txt", folder / file)
    shutil.copy(lists / "val.txt", lists / "drawn.txt")
    (folder / "table.csv").write_text("image,label\n1.jpg,cat\n2.jpg,dog\n")
    images = [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 4}]
    content = {"images": images, "annotations": [{"image_id": 1, "category_id": 7}]}
    content["categories"] = [{"id": 7, "name": "cat"}]
    (folder / "instances.json").write_text(json.dumps(content))
    shutil.copytree(folder / "IMAGES" / "JPEGImages", folder / "FOLDERS" / "cat")
    (folder / "seeds").mkdir()
    for path in masks.iterdir():
        mask = read_mask(path, 2)
        maps = np.stack([mask == 1, mask == 2]).astype(np.float32)
        seed = {"keys": np.arange(2), "cam": maps[:, ::4, ::4], "high_res": maps}
        np.save(folder / "seeds" / f"{path.stem}.npy", np.array(seed, dtype=object))
        write_mask(folder / "masks" / path.name, mask % 255)
        write_mask(folder / "PHOTOS" / "SegmentationObject" / path.name, np.where(mask % 255 > 0, 1, mask))
        label = int(mask[mask < 255].max())
        found = {"masks": torch.from_numpy(mask == label)[None], "labels": torch.tensor([label])}
        write_instances(folder / "instances" / f"{path.stem}.json", {**found, "scores": torch.ones(1)})
    given = ["--predictions", folder / "instances", "--list", folder / "LIST.txt", "--coco_ids", "false"]
    command("export", "--what", "coco-instances", *given, "--output", folder / "instances_val2014.json")
    return folder


@pytest.mark.parametrize(("page", "words"), commands(), ids=name)
def test_a_command_is_accepted(
    page: str,
    words: list[str],
    workplace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for entry in workplace.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fbr_plugin.pipeline.settings.import_pydensecrf", lambda: None)  # an extra
    words = ["2" if word == "C" else word for word in words]
    if words[0] in TRAINING:
        with pytest.raises(SystemExit) as end:
            command(*words, "--print_config")
        assert end.value.code == 0
        assert yaml.safe_load(capsys.readouterr().out)["model"]
    elif words[0] in ("pipeline", "sweep"):
        command(*words, *([] if "--dry-run" in words else ["--dry-run"]))
    else:
        command(*words)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")}))
def test_programs_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "weights.md":  # which loads an imported file
        save_file(IRN(20, encoder="resnet50_irn", released=True).state_dict(), "res50_irn.safetensors")
    monkeypatch.setattr(fbr_plugin.data, "SyntheticDataModule", partial(SyntheticDataModule, num_images=50))
    names = {"__name__": "__main__"}
    for block in blocks("python"):
        if block.page == page:  # a later block may go on with what an earlier one made
            exec(compile(block.code, f"{page}, block {block.number}", "exec"), names)


def test_the_readme_has_three_programs() -> None:
    assert sum(block.page == "README.md" for block in blocks("python")) == 3


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: f"{block.page} {block.number}")
def test_settings_are_accepted(
    block: Block, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in workplace.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fbr_plugin.pipeline.settings.import_pydensecrf", lambda: None)  # an extra
    Path("given.yaml").write_text(block.code)
    settings = yaml.safe_load(block.code)
    if "training" in settings:
        Path("sweeps").mkdir()
        Path("sweeps", "given.yaml").write_text(block.code.replace("../", f"{ROOT}/examples/"))
        command("sweep", "sweeps/given.yaml", "--dry-run")
    elif "model" in settings:
        with pytest.raises(SystemExit) as end:
            command(
                "fit", "--config=given.yaml", "--data=fbr_plugin.data.SyntheticDataModule", "--print_config"
            )
        assert end.value.code == 0
    else:
        words = ["--config=examples/folder_pipeline.yaml", "--config=given.yaml", "--data.root=PHOTOS"]
        command("pipeline", *words, "--dry-run")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page: Path) -> None:
    lines = page.read_text().splitlines()
    long = [
        line for line in lines if len(line) > 120 and not line.lstrip().startswith("|") and "](" not in line
    ]
    assert long == []
