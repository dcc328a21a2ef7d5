"""The lines of the benchmark: what each compares, and the sizes of the full and the quick run."""

import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from benchmarks import gate, loss
from benchmarks.speed import files, growing, losses, reading, relations, seeds, training
from benchmarks.speed.released import NotMeasuredError, place, running
from benchmarks.speed.timing import Case, DisagreementError, measured


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        title: what it compares.
        repository: of the released code, by owner and name.
        folder: in that repository, from which the code runs.
        build: makes the case, given the sizes.
        full: the arguments of a full run.
        quick: those that a quick run has in their place.
        inputs: "root" for a line that needs an empty folder, "photos" for one that reads photos too.
        note: what to know of the released arm.
    """

    title: str
    repository: str
    folder: str
    build: Callable[..., Case]
    full: dict[str, Any]
    quick: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    note: str = ""


NO_GRADIENT = "most released queries carry no gradient, ours all do"
GRID, SMALL_GRID = {"grid": (48, 64)}, {"grid": (32, 40)}
PHOTO, SMALL_PHOTO = {"size": (375, 500)}, {"size": (188, 250)}
FILES = ("root", "photos")
WITH_VIEWS = f"{NO_GRADIENT}; its function has PPC's contrast of the views as well"
DENSE = "a dense matrix, squared 8 times; its time grows with the cube of the pixels"
FORKS = "8 processes for each threshold, which read all files again; their memory is not counted"

LINES = (
    Line("AMN, training step", "gaviotas/AMN", "", training.amn, {"size": 256, "number": 2}, {"size": 128}),
    Line(
        "AMN with FBR's losses, training step",
        "XuYin94/FBR",
        "AMN",
        training.amn,
        {"size": 256, "number": 2, "fbr": True},
        {"size": 128},
        note=NO_GRADIENT,
    ),
    Line("PPC, training step", "usr922/wseg", "", training.ppc, {"size": 128, "number": 2}, {"number": 1}),
    Line(
        "PPC with FBR's losses, training step",
        "XuYin94/FBR",
        "",
        training.ppc_fbr,
        {"size": 128, "number": 2},
        note=NO_GRADIENT,
    ),
    Line("BAS, training step", "wpy1999/BAS", "CUB", training.bas, {"size": 224, "number": 2}),
    *(
        Line(
            f"{kind.upper()}, seeds at four scales",
            repository,
            "",
            seeds.seeds,
            {"kind": kind, **PHOTO},
            SMALL_PHOTO,
            ("root",),
        )
        for kind, repository in (("cam", "jiwoon-ahn/irn"), ("amn", "gaviotas/AMN"))
    ),
    Line(
        "Evaluation at 60 thresholds",
        "usr922/wseg",
        "",
        files.evaluation,
        {"number": 6, **PHOTO},
        SMALL_PHOTO,
        ("root",),
        FORKS,
    ),
    Line("CRF of labels", "jiwoon-ahn/irn", "", files.crf, PHOTO, SMALL_PHOTO, note="both call pydensecrf2"),
    Line(
        "IRN, random walk",
        "jiwoon-ahn/irn",
        "",
        relations.walk,
        GRID,
        SMALL_GRID,
        note="dense, squared 8 times",
    ),
    Line(
        "IRN, clusters of displacements",
        "jiwoon-ahn/irn",
        "",
        relations.clusters,
        {"grid": (94, 125)},
    ),
    Line("IRN, instances of a photo", "jiwoon-ahn/irn", "", relations.instances, GRID, SMALL_GRID, ("root",)),
    *(
        Line(
            f"{name}, reading for training",
            repository,
            folder,
            reading.reading,
            {"kind": kind, "number": 16},
            {"number": 6},
            FILES,
        )
        for name, kind, repository, folder in (
            ("CAM", "cam", "jiwoon-ahn/irn", ""),
            ("AMN", "amn", "gaviotas/AMN", ""),
            ("PPC", "ppc", "XuYin94/FBR", ""),
            ("BAS", "bas", "wpy1999/BAS", "CUB"),
        )
    ),
    *(
        Line(
            title,
            "XuYin94/FBR",
            folder,
            build,
            {"batch": batch, "channels": channels},
            {"batch": 4},
            note=note,
        )
        for title, folder, build, batch, channels, note in (
            ("FBR's losses for AMN", "AMN", losses.amn, 16, 2048, NO_GRADIENT),
            ("FBR's losses for AMN, 128 channels", "AMN", losses.amn, 16, 128, NO_GRADIENT),
            ("FBR's losses for PPC", "", losses.ppc, 8, 4096, WITH_VIEWS),
            ("FBR's losses for PPC, 128 channels", "", losses.ppc, 8, 128, WITH_VIEWS),
        )
    ),
)


def measure_line(
    number: int, released: Path | None, photos: Path | None, seconds: float, quick: bool, root: Path
) -> dict[str, Any]:
    """The figures of a line, or why it cannot be measured; ours alone if there is no released code."""
    line = LINES[number]
    given = {**line.full, **(line.quick if quick else {})}
    inputs = {"root": root, "photos": photos}
    given |= {name: inputs[name] for name in line.inputs}
    folder = released and place(released, line.repository) / line.folder
    found: dict[str, Any] = {}
    with redirect_stdout(StringIO()):
        if folder is not None:
            try:
                with running(folder):
                    return measured(line.build(**given), seconds, 2 if quick else 3)
            except (NotMeasuredError, DisagreementError) as error:
                found["not measured"] = str(error)
            except Exception as error:  # of any kind, as the code was written for other versions
                found["not measured"] = f"{type(error).__name__}: {error}".splitlines()[0][:150]
        with tempfile.TemporaryDirectory(dir=root) as again:
            if "root" in given:
                given["root"] = Path(again)
            try:
                return found | measured(line.build(**given, theirs=False), seconds, 2 if quick else 3)
            except NotMeasuredError as error:
                return found | {"not measured": str(error)}


def shares(quick: bool) -> dict[str, Any]:
    """The shares of FBR's losses and of the gate in a training step of AMN, and of the gate in inference."""
    batch, repeats = (1, 2) if quick else (4, 3)
    of_loss = loss.share(batch, repeats, threads=1)
    options, classes, size, _ = next(iter(gate.CASES.values()))
    seconds = gate.measure(options, classes, size, batch, repeats)
    return {"batch": batch, "losses, %": of_loss["percent"], "gate, %": gate.shares(seconds)}


def growths(quick: bool) -> dict[str, Any]:
    """How our losses grow with each size."""
    return growing.grown(quick)
