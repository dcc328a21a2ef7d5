"""The folder of a run."""

from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.files import make_folder


def run_folder(given: str | None, class_path: str) -> str:
    """A folder for a run, by default `runs/<model>/<time>`, with a number if that already holds a run.

    The first process creates it; Lightning sends its name to the others.
    """
    default = Path("runs", class_path.rpartition(".")[-1], datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    base = folder = Path(given or default)
    if is_rank_zero():
        make_folder(base.parent)
        for number in count(2):
            with suppress(FileExistsError):
                folder.mkdir(parents=True)  # atomic: another run may start in the same second
                break
            if given and not (folder / "config.yaml").exists():
                break
            folder = base.with_name(f"{base.name}_{number}")
        make_folder(folder)
        if given and folder != base:
            print(f"{base} already holds a run: this one is in {folder}")
    return str(folder)
