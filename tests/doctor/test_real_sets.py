"""The doctor on copies of real data sets: each planted fault is named, and nothing else is."""

import io
import shutil
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from doctor.ccp_faults import CCP
from doctor.faults import MASK
from doctor.planted import LACKS, Planted
from doctor.voc_faults import MASKS, VOC, split
from helpers.tiny import command

from fbr_plugin.doctor.findings import Report, table

SETS = {"ccp5": CCP, "voc12": VOC}
KNOWN = {
    "ccp5": ("photos of train that are nearly the same in val", "0722 ~ 0594"),
    "voc12": (LACKS, "2011_001621 (tvmonitor)"),
}
VOC_DATA = ("--data", "fbr_plugin.data.VOCDataModule", "--photos", "false")


class Checked(NamedTuple):
    """A run of the doctor: the exit code, what it prints, and its findings."""

    code: int
    text: str
    report: Report

    def found(self) -> dict[str, list[str]]:
        """The cases of each finding."""
        return {finding.what: sorted(finding.cases) for finding in self.report.findings}


def doctor(root: Path, *words: object) -> Checked:
    """Run `fbr-plugin doctor` on a folder."""
    report, code = Report(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.setattr("fbr_plugin.cli.doctor.Report", lambda: report)
        try:
            command("doctor", *words, "--data.root", root, "--workers", 1)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Checked(code, out.getvalue(), report)


def contents(root: Path) -> dict[str, str]:
    """A digest of each file."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in files}


class Copy(NamedTuple):
    """A copy of a data set with all faults of a table, and the doctor on it with --fix."""

    root: Path
    options: tuple[str, ...]
    before: dict[str, str]
    checked: Checked


Copies = Callable[[str], Copy]


@pytest.fixture(scope="module")
def copies(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Copies:
    """Copies of the data sets, made once, each with all faults of its table; of VOC 400 images are listed."""

    @cache
    def make(name: str) -> Copy:
        root = tmp_path_factory.mktemp(name) / name
        shutil.copytree(real_data / name, root)
        if name == "voc12":
            split(root)
        for fault in SETS[name].values():
            fault.plant(root)
        options = (*VOC_DATA, "--data.lists.train", "train") if name == "voc12" else ()
        before = contents(root)
        return Copy(root, options, before, doctor(root, *options, "--fix", "--all"))

    return make


each_set = pytest.mark.parametrize("name", SETS)


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, faults in SETS.items() for fault in faults]
)
def test_a_planted_fault_is_named_with_its_remedy(name: str, fault: str, copies: Copies):
    copy = copies(name)
    planted: Planted = SETS[name][fault]
    (finding,) = (each for each in copy.checked.report.findings if each.what == planted.what)
    assert planted.case in finding.cases
    assert planted.remedy in finding.remedy


@each_set
def test_nothing_is_found_but_the_faults(name: str, copies: Copies):
    copy = copies(name)
    expected = defaultdict(list)
    for what, case in (KNOWN[name], *(pair for each in SETS[name].values() for pair in each.findings())):
        expected[what].append(case)
    assert copy.checked.found() == {what: sorted(cases) for what, cases in expected.items()}


@each_set
def test_errors_end_with_1_and_all_cases_are_printed(name: str, copies: Copies):
    copy = copies(name)
    assert copy.checked.code == 1
    assert copy.checked.text.startswith(table(copy.checked.report, every_case=True))
    assert "..." not in copy.checked.text.partition("\n\n")[2]


@each_set
def test_mended_copies_lie_beside_the_files_and_are_never_replaced(name: str, copies: Copies):
    copy = copies(name)
    written = contents(copy.root).keys() - copy.before.keys()
    folders = {file.partition(".fixed")[0].rpartition("/")[2] for file in written if ".fixed" in file}
    labels, masks = ("labels", MASK) if name == "ccp5" else ("cls_labels", MASKS)
    assert folders == {"train", "val", labels, masks}
    assert all(".fixed" in file for file in written)
    after = contents(copy.root)
    assert {file: after[file] for file in copy.before} == copy.before

    again = doctor(copy.root, *copy.options, "--fix", "--photos", "false")
    assert again.text.count("not written: ") == 4
    assert contents(copy.root) == after


@each_set
def test_mended_copies_have_fewer_faults(name: str, copies: Copies):
    copy = copies(name)
    mended = ("--data.mask_dir", f"{MASK if name == 'ccp5' else MASKS}.fixed")
    lists = ("--data.lists.train", "train.fixed", "--data.lists.val", "val.fixed")
    found = doctor(copy.root, *copy.options, *lists, *mended, "--photos", "false").found()
    gone = (
        *("empty lines in a list", "lists with characters", "ids listed twice", "ids with a suffix"),
        *("ids both in train and in val", "ids spelled unlike", "ids without a photo"),
        *(
            "ids without image labels",
            "masks whose values are VOC's colours",
            "masks whose palette has VOC's colours",
        ),
    )
    assert [what for what in found if what.startswith(gone)] == []


@pytest.mark.slow
@each_set
def test_sound_sets_have_no_fault_but_the_known_ones(name: str, real_data: Path):
    scored = ("--data.lists.train", "train", "--data.lists.val", "train")
    checked = doctor(real_data / name, *((*VOC_DATA, *scored) if name == "voc12" else ()))
    what, case = KNOWN[name]
    assert (checked.code, checked.found()) == (0, {what: [case]})
    agreed = "600 of 600" if name == "ccp5" else "1463 of 1464"
    assert f"image labels and masks agree in {agreed} images" in checked.text
