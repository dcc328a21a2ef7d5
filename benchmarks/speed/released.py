"""The authors' code: fetched for a run, imported from where it lies, and run on the CPU as it is."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils import model_zoo
from torchvision.models import resnet50

#: The repositories, at the commits that docs/fidelity.md compares with.
COMMITS = {
    "XuYin94/FBR": "fd1aeb850e5d704228b1d0537032d2226736e732",
    "gaviotas/AMN": "75c1999c7c1b59b776c69dc7370f93d53237c39d",
    "jiwoon-ahn/irn": "a2ece0034d0a5a9635e4e131cd4fa6e2a779d316",
    "usr922/wseg": "e96b961038e4171c5a49a0378111b47374dc5219",
    "wpy1999/BAS": "54c395ed3613157ee021bf84e3a40acd855a1577",
}
# Packages that the code imports, often without use in what is measured.
PACKAGES = ("chainercv", "imageio", "pandas", "pycococreatortools", "pydensecrf", "skimage", "tensorboardX")
SECONDS = 180  # to fetch a repository


class NotMeasuredError(Exception):
    """Why a line cannot be measured."""


def place(folder: Path, repository: str) -> Path:
    """The folder of a repository among those of the run."""
    return folder / repository.partition("/")[2]


def fetch(folder: Path, repository: str) -> str:
    """Bring a repository at its commit into a folder, by git; why not, or "" if it is there."""
    target = place(folder, repository)
    if target.is_dir():
        return _other_commit(target, COMMITS[repository])
    git = ("git", "-C", str(target))
    commands: tuple[Sequence[str], ...] = (
        ("git", "init", "-q", str(target)),
        (*git, "fetch", "-q", "--depth", "1", f"https://github.com/{repository}", COMMITS[repository]),
        (*git, "checkout", "-q", "FETCH_HEAD"),
    )
    try:
        for command in commands:
            silent = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS, env=silent)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return f"{repository} could not be fetched: {said[-1] if said else error}"
    return ""


def _other_commit(target: Path, commit: str) -> str:
    """Why a clone is not the code that is meant; a folder without .git is taken on trust."""
    if not (target / ".git").exists():
        return ""
    found = subprocess.run(
        ("git", "-C", str(target), "rev-parse", "--verify", "-q", "HEAD"), capture_output=True, text=True
    )
    head = found.stdout.strip()
    return "" if head == commit else f"{target} is at {head[:7] or 'no commit'}, expected {commit[:7]}"


class _StandIn(ModuleType):
    """A package that is not installed: it can be imported, and a call says that it is missing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> Any:
            raise NotMeasuredError(f"needs the package {self.__name__.partition('.')[0]}")

        return missing


class _StandIns:
    """Finds stand-ins for packages that nothing else finds."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        missing = package in PACKAGES and (not rest or isinstance(sys.modules[package], _StandIn))
        loader: Any = self
        return ModuleSpec(name, loader, is_package=True) if missing else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def _itself(value: Any, *_: Any, **__: Any) -> Any:
    return value


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Import and run code of a folder, on the CPU and without downloads.

    The folder comes first on the path. The working folder is a temporary one with links to all that is in it,
    since the code reads and writes there. `.cuda()` changes nothing, and networks that would download
    ImageNet's weights get random ones. Afterwards the imported modules are forgotten: those of several
    repositories share their names.
    """
    sys.dont_write_bytecode = True  # the folder stays as it is
    before, here, path = set(sys.modules), Path.cwd(), list(sys.path)
    finder: Any = _StandIns()
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        for entry in folder.resolve().iterdir():
            Path(scratch, entry.name).symlink_to(entry)
        for owner, name, value in (
            (torch.Tensor, "cuda", _itself),
            (nn.Module, "cuda", _itself),
            (torch.cuda, "device", lambda _: nullcontext()),
            (
                torch,
                "LongTensor",
                lambda values: torch.as_tensor(np.stack(values)).long(),
            ),  # of lists of floats
            (Image, "CUBIC", Image.Resampling.BICUBIC),
            (model_zoo, "load_url", lambda *_, **__: resnet50().state_dict()),
        ):
            stack.enter_context(patch.object(owner, name, value, create=True))
        stack.enter_context(patch.dict(sys.modules, {"tensorboardX": MagicMock()}))  # which only logs
        sys.path.insert(0, scratch)
        sys.meta_path.append(finder)
        os.chdir(scratch)
        try:
            yield
        finally:
            os.chdir(here)
            sys.path[:] = path
            sys.meta_path.remove(finder)
            for name in set(sys.modules) - before:
                file = getattr(sys.modules[name], "__file__", None) or ""
                if file.startswith(scratch) or isinstance(sys.modules[name], _StandIn):
                    del sys.modules[name]
