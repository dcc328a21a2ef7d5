"""The cost sheet of the recipes: what is counted, the rule for hours, and that no recipe is left out."""

import argparse
import csv
import json

import pytest
import torch
from helpers.recipes import LOCALIZATIONS, RECIPES, settings, trainings
from helpers.tiny import EXAMPLES
from torch import nn

from benchmarks.recipe_cost import networks, photos, sheet
from benchmarks.recipe_cost.networks import Cost, counted
from benchmarks.recipe_cost.sheet import EFFICIENCY, PEAK, Part, Sheet

DOCS = EXAMPLES.parent / "docs"
TABLE = (DOCS / "recipes.md").read_text().partition("## Cost")[2].splitlines()
OPTIONS = argparse.Namespace(device="cpu", images=1, repeats=1)
SECOND = Cost(flops=PEAK / 2)  # takes a second at half the peak


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constants in place of what is measured."""
    for name in ("training_cost", "prediction_cost"):
        monkeypatch.setattr(sheet, name, lambda *_: Cost(1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    names = ("reading_seconds", "crf_seconds", "walk_seconds", "instance_seconds", "metrics_seconds")
    for name in (*names, "mask_bytes"):
        monkeypatch.setattr(photos, name, lambda *_, **__: 1)


def written(recipe: str) -> list[dict[str, str]]:
    """The lines of a recipe in the file of the sheet."""
    with (DOCS / "recipe_cost.csv").open() as file:
        return [line for line in csv.DictReader(file) if line["recipe"] == recipe]


@pytest.mark.parametrize("trained", [False, True])
def test_operations_and_saved_bytes_of_a_convolution(trained: bool) -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    image = torch.randn(2, 3, 10, 12, requires_grad=trained)
    forward = 2 * 2 * 8 * 10 * 12 * 3 * 3 * 3  # multiplications and additions
    assert counted(lambda: layer(image)) == (forward, 4 * (image.numel() + layer.weight.numel()))
    flops, saved = counted(lambda: layer(image).sum().backward(), layer.parameters())
    assert flops == forward * (3 if trained else 2)  # the weight's gradient, and the image's if it needs one
    assert saved == 4 * image.numel()


def test_tensors_that_share_memory_are_counted_once() -> None:
    value = torch.rand(5, requires_grad=True)
    assert counted(lambda: (value.view(5, 1) * value.view(1, 5)).sum()) == (0, 4 * 5)


@pytest.mark.slow
def test_cost_of_a_training_step_is_that_of_an_image() -> None:
    spec = '{"class_path": "fbr_plugin.baselines.CAM", "init_args": {"num_classes": 3, "encoder": "small"}}'
    one, three = (networks.training_cost(spec, 32, number, "cpu", 1) for number in (1, 3))
    assert one.flops == three.flops > 0
    assert one.saved == pytest.approx(three.saved, rel=0.05)
    model = networks.build(spec)
    parameters = networks.size_of(model.parameters())
    buffers = networks.size_of(model.buffers())
    assert (one.weights, one.state) == (parameters + buffers, 0)  # SGD without momentum
    assert one.fixed == 2 * parameters + buffers
    prediction = networks.prediction_cost(spec, "", (32, 32), 0, "cpu")
    assert prediction.flops > 0


def test_hours_of_a_training() -> None:
    part = Part("classifier", SECOND, times=360, batch=10, at_once=5)
    assert part.computing(0.5) == 1.0
    assert part.hours(1, 0.5) == 1.0
    assert part.hours(4, 0.5) == pytest.approx(0.3 / EFFICIENCY)  # one GPU has 3 of 10 images
    assert part._replace(reading=2.0).hours(1, 0.5) == 2.0
    assert part._replace(cost=Cost(0.0, seconds=3.0)).hours(1, 0) == 3.0


def test_hours_of_a_prediction() -> None:
    part = Part("masks", SECOND, times=3600)
    assert part.hours(1, 0.5) == 1.0
    assert part.hours(8, 0.5) == pytest.approx(1 / 8 / EFFICIENCY)
    assert part._replace(pooled=2.0 * sheet.CORES).hours(1, 0.5) == 2.0
    assert part._replace(serial=2.0).hours(1, 0.5) == 3.0


def test_memory() -> None:
    part = Part("segmentation", Cost(1.0, saved=2.0, fixed=7.0), times=1, batch=10, at_once=5)
    assert [part.memory(devices) for devices in (1, 4, 8)] == [17.0, 13.0, 11.0]


@pytest.mark.usefixtures("unmeasured")
def test_parts_of_a_pipeline() -> None:
    found = [(part.name, part.times, part.batch) for part in Sheet("voc/amn_fbr", OPTIONS).parts()]
    assert found == [
        ("classifier", 3305, 16),
        ("classifier: scores", 1464, 1),
        ("labels", 10582, 1),
        ("baseline", 3305, 16),
        ("baseline: scores", 1464, 1),
        ("affinity", 10582, 1),
        ("irn", 990, 32),
        ("masks: walk", 10582, 1),
        ("masks", 10582, 1),
        ("segmentation", 30000, 10),
        ("predictions", 1449, 1),
    ]


@pytest.mark.usefixtures("unmeasured")
def test_parts_of_a_pipeline_of_instances() -> None:
    found = [(part.name, part.times, part.batch) for part in Sheet("voc/irn", OPTIONS).parts()]
    assert found == [
        ("classifier", 3305, 16),
        ("classifier: scores", 1464, 1),
        ("affinity", 10582, 1),
        ("irn", 990, 32),
        ("instances: walks", 10582, 1),
        ("instances", 10582, 1),
        ("masks: walk", 10582, 1),
        ("masks", 10582, 1),
        ("instance_network", 11237, 16),
        ("instance_predictions", 1449, 1),
    ]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_in_the_table_and_the_file(recipe: str) -> None:
    assert sheet.RECIPES == RECIPES
    parts = {part.name: part.times for part in Sheet(recipe, OPTIONS).parts()}
    assert {line["part"]: int(line["steps or photos"]) for line in written(recipe)} == parts
    (row,) = [line for line in TABLE if line.startswith(f"| `{recipe}` |")]
    first = row.split("|")[2].split(",")[0].replace(" ", "")
    assert first == f"{next(iter(parts))}{next(iter(parts.values()))}"


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_trainings_are_those_of_the_command(recipe: str) -> None:
    own, known = Sheet(recipe, OPTIONS), trainings(recipe)
    until = recipe not in LOCALIZATIONS and settings(recipe)["until"]
    names = [*known][: 1 + [*known].index(until)] if until else [*known]
    trained = [part for part in own.parts() if part.at_once]
    assert [part.name for part in trained] == names
    for part in trained:
        training, spec = known[part.name], json.loads(own.spec(part.name))
        assert spec["class_path"].rpartition(".")[2] == training["model"]["class_path"].rpartition(".")[2]
        assert part.at_once == training["data"]["loading"]["batch_size"]
        assert training["trainer"].get("max_steps", -1) in (-1, part.times)
        given = training["model"]["init_args"]
        assert {name: given[name] for name in ("encoder", "scales") if name in spec["init_args"]} == {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in spec["init_args"].items()
            if name in ("encoder", "scales")
        }
