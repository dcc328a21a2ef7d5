"""Stages that are kept, resumed, and made again when anything changed."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fbr_plugin.pipeline import cache
from fbr_plugin.pipeline.cache import plan, run
from fbr_plugin.pipeline.record import RECORD, PipelineStage

Log = list[str]


@pytest.fixture
def made() -> Log:
    """The stages that were made, in order."""
    return []


def writer(name: str, made: Log, text: str = "text") -> Callable[[Path, dict[str, Path]], dict[str, float]]:
    """A stage's work: a file that holds its text and what its inputs hold."""

    def make(folder: Path, inputs: dict[str, Path]) -> dict[str, float]:
        made.append(name)
        content = text + "".join((path / "deep" / "result.txt").read_text() for path in inputs.values())
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "result.txt").write_text(content)
        return {"miou": float(len(content))}

    return make


def chain(
    made: Log, settings: int = 1, text: str = "a", order: str = "first second third"
) -> list[PipelineStage]:
    """Three stages, each of which needs the one before."""
    first, second, third = order.split()
    return [
        PipelineStage(first, {"model": {"lr": settings}}, writer(first, made, text)),
        PipelineStage(second, {}, writer(second, made), (first,)),
        PipelineStage(third, {}, writer(third, made), (second,)),
    ]


def reasons(stages: list[PipelineStage], output: Path) -> dict[str, str]:
    """The output of a dry run."""
    return {stage.name: found.reason for stage, found in plan(stages, output)}


def test_curves_and_hidden_files_belong_to_no_result(tmp_path: Path) -> None:
    made: Log = []

    def stages(curve: str) -> list[PipelineStage]:
        def train(folder: Path, _: dict[str, Path]) -> dict[str, float]:
            made.append("train")
            for name, text in (("model.ckpt", "weights"), ("curves/version_0/metrics.csv", curve)):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
            return {}

        return [
            PipelineStage("train", {"curve": curve}, train),
            PipelineStage("use", {}, writer_of_nothing, ("train",)),
        ]

    def writer_of_nothing(folder: Path, _: dict[str, Path]) -> dict[str, float]:
        made.append("use")
        return {}

    list(run(stages("3 2 1"), tmp_path))
    (tmp_path / "train" / ".DS_Store").write_text("of a file manager")
    assert set(reasons(stages("3 2 1"), tmp_path).values()) == {"cached"}
    list(run(stages("3 2"), tmp_path))
    assert made == ["train", "use", "train"]  # it came out the same


def test_a_result_is_made_again_without_an_input_that_it_no_longer_has(tmp_path: Path, made: Log) -> None:
    list(run(chain(made), tmp_path))
    first, second, _ = chain(made)
    third = PipelineStage("third", {}, writer("third", made))
    assert reasons([first, second, third], tmp_path)["third"] == "second is no longer used"


def test_stages_are_made_once(tmp_path: Path, made: Log) -> None:
    records = dict((stage.name, record) for stage, record in run(chain(made), tmp_path))
    assert made == ["first", "second", "third"]
    assert records["third"]["scores"] == {"miou": 9.0}
    assert list(records["first"]["files"]) == ["deep/result.txt"]
    assert not list(tmp_path.glob("*.partial"))
    again = dict((stage.name, record) for stage, record in run(chain(made), tmp_path))
    assert made == ["first", "second", "third"]
    assert again == records
    assert reasons(chain(made), tmp_path) == dict.fromkeys(records, "cached")


def test_a_changed_setting_is_named_and_only_what_comes_out_differently_follows(
    tmp_path: Path, made: Log
) -> None:
    list(run(chain(made), tmp_path))
    made.clear()
    changed = reasons(chain(made, settings=2), tmp_path)
    assert changed["first"] == "model.lr was 1, is 2"
    assert "first will be made" in changed["second"]
    list(run(chain(made, settings=2), tmp_path))
    assert made == ["first"]  # its result is the same, so what follows is kept
    list(run(chain(made, settings=3, text="b"), tmp_path))
    assert made == ["first", "first", "second", "third"]
    said: Log = []
    list(run(chain(made, settings=3, text="b"), tmp_path, say=said.append))
    assert said == [f"[{n}/3] {name}: cached" for n, name in enumerate(("first", "second", "third"), 1)]


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda path: path.write_text("c"), "was edited"),
        (lambda path: path.unlink(), "was removed"),
        (lambda path: path.with_name("more.txt").write_text("c"), "was added"),
    ],
)
def test_a_folder_edited_by_hand_is_made_again(
    tmp_path: Path, made: Log, edit: Callable[[Path], object], what: str
) -> None:
    list(run(chain(made), tmp_path))
    made.clear()
    edit(tmp_path / "second" / "deep" / "result.txt")
    said: Log = []
    list(run(chain(made), tmp_path, say=said.append))
    assert made == ["second"]
    assert str(tmp_path / "second" / "deep") in said[1]
    assert what in said[1]
    assert not (tmp_path / "second" / "deep" / "more.txt").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"made_of": 3}'])
def test_a_record_that_cannot_be_read_makes_the_stage_again(tmp_path: Path, made: Log, content: str) -> None:
    list(run(chain(made), tmp_path))
    made.clear()
    (tmp_path / "first" / RECORD).write_text(content)
    assert RECORD in reasons(chain(made), tmp_path)["first"]
    list(run(chain(made), tmp_path))
    assert made == ["first"]


def test_a_stage_that_was_cut_goes_on_in_its_folder(tmp_path: Path, made: Log) -> None:
    cut = True

    def make(folder: Path, inputs: dict[str, Path]) -> dict[str, float]:
        nonlocal cut
        made.append(",".join(sorted(path.name for path in folder.iterdir())))
        (folder / "half").write_text("half")
        if cut:
            raise KeyboardInterrupt
        return {}

    stages = [PipelineStage("long", {"x": 1}, make)]
    with pytest.raises(KeyboardInterrupt):
        list(run(stages, tmp_path))
    assert reasons(stages, tmp_path) == {"long": "continues an interrupted run"}
    assert not (tmp_path / "long").exists()
    cut = False
    ((_, record),) = run(stages, tmp_path)
    assert made == [RECORD, f"half,{RECORD}"]
    assert record["resumed"]
    # of other settings nothing is taken over
    cut = True
    with pytest.raises(KeyboardInterrupt):
        list(run([PipelineStage("long", {"x": 2}, make)], tmp_path))
    cut = False
    list(run([PipelineStage("long", {"x": 3}, make)], tmp_path))
    assert made[2:] == [RECORD, RECORD]


def test_a_stage_killed_before_its_last_rename_is_not_made_again(
    tmp_path: Path, made: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            list(run(chain(made), tmp_path))
    list(run(chain(made), tmp_path))
    assert made == ["first", "second", "third"]


def test_a_full_disk_leaves_what_is_finished(tmp_path: Path, made: Log) -> None:
    def full(folder: Path, inputs: dict[str, Path]) -> dict[str, float]:
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    stages = [*chain(made)[:1], PipelineStage("second", {}, full, ("first",))]
    with pytest.raises(OSError, match="No space left"):
        list(run(stages, tmp_path))
    assert not (tmp_path / "second").exists()
    list(run(chain(made), tmp_path))
    assert made == ["first", "second", "third"]


def test_another_error_is_passed_on(tmp_path: Path) -> None:
    def fails(folder: Path, inputs: dict[str, Path]) -> dict[str, float]:
        raise PermissionError(errno.EACCES, "denied")

    with pytest.raises(PermissionError, match="denied"):
        list(run([PipelineStage("only", {}, fails)], tmp_path))


def test_from_makes_a_stage_and_those_after_it_again(tmp_path: Path, made: Log) -> None:
    list(run(chain(made), tmp_path))
    made.clear()
    again = [found.reason for _, found in plan(chain(made), tmp_path, "second")]
    assert again == ["cached", *["everything from second on runs again"] * 2]
    assert made == []
    list(run(chain(made), tmp_path, "second"))
    assert made == ["second", "third"]


def test_a_dry_run_touches_nothing(tmp_path: Path, made: Log) -> None:
    assert set(reasons(chain(made), tmp_path).values()) == {"not made yet"}
    assert not list(tmp_path.iterdir())


def test_later_processes_leave_files_alone(
    tmp_path: Path, made: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(run(chain(made), tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(cache, "is_rank_zero", lambda: False)
    list(run(chain(made), tmp_path, "second"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_settings_are_compared_as_json(tmp_path: Path, made: Log) -> None:
    stage = PipelineStage("only", {"scales": (1.0, 0.5), "root": Path("x")}, writer("only", made))
    list(run([stage], tmp_path))
    assert reasons([stage], tmp_path) == {"only": "cached"}
    assert json.loads((tmp_path / "only" / RECORD).read_text())["made_of"]["settings"]["scales"] == [1.0, 0.5]


def test_two_runs_keep_out_of_each_other_s_way(tmp_path: Path, made: Log) -> None:
    running = run(chain(made), tmp_path)
    next(running)
    with pytest.raises(RuntimeError, match=r"another run uses .*: wait for its end"):
        next(run(chain(made), tmp_path))
    assert [stage.name for stage, _ in running] == ["second", "third"]
    list(run(chain(made), tmp_path))
    assert made == ["first", "second", "third"]
