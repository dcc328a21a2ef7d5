"""Speed and memory beside the released code, as ratios within one run: `python -m benchmarks`.

Each line runs in a process of its own, on one core and one thread, on the CPU. Both arms take turns on the
same inputs; times are processor seconds. The released code is fetched by git for the run, or taken from
`--released`; no part of it is kept. Its packages that are missing leave lines out, with the reason:
`pip install imageio pandas pydensecrf2 scikit-image scikit-learn`.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# Before NumPy and torch are imported, here and in the processes of the lines.
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
os.environ.update({**dict.fromkeys(ONE_THREAD, "1"), "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"})

from benchmarks.speed import report  # noqa: E402
from benchmarks.speed.lines import LINES, growths, measure_line, shares  # noqa: E402
from benchmarks.speed.released import COMMITS, fetch  # noqa: E402
from benchmarks.speed.timing import one_core  # noqa: E402
from fbr_plugin.files import write_text  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "speed.json"
DOCS = Path(__file__).parents[1] / "docs"


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    clones = (
        "folder with clones of the released code, named FBR, AMN, irn, wseg and BAS; missing ones are fetched"
    )
    parser.add_argument("--released", type=Path, metavar="FOLDER", help=clones)
    photos = "folder of JPEG files for the lines that read photos; default: made-up ones"
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help=photos)
    parser.add_argument("--only", metavar="WORDS", default="", help="lines whose title has these words")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds")
    parser.add_argument("--seconds", type=float, help="for the rounds of a line; default: 20, quick 2")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    document = "write docs/performance.json, and its tables into docs/performance.md"
    parser.add_argument("--document", action="store_true", help=document)
    return parser.parse_args()


def alone(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The result of a function in a process of its own, with the load of the machine before."""
    load = os.getloadavg()[0]
    with ProcessPoolExecutor(1, get_context("spawn"), one_core) as pool:
        try:
            found = pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            found = {"not measured": "its process was killed, as for lack of memory"}
    return {**found, "load": round(load, 2)}


def main() -> None:
    """Measure, print and write."""
    given = options()
    began = time.perf_counter()
    seconds = given.seconds or (2.0 if given.quick else 20.0)
    chosen = {n: line for n, line in enumerate(LINES) if given.only.lower() in line.title.lower()}
    result: dict[str, Any] = {"machine": report.machine(), "quick": given.quick, "lines": []}
    with tempfile.TemporaryDirectory() as scratch:
        clones = given.released or Path(scratch, "released")
        wanted = {line.repository for line in chosen.values()}
        reasons = {name: fetch(clones, name) for name in COMMITS if name in wanted}
        for reason in filter(None, reasons.values()):
            print(f"not measured: {reason}", flush=True)
        print(report.head(), flush=True)
        for number, line in chosen.items():
            reason = reasons[line.repository]
            root = Path(tempfile.mkdtemp(dir=scratch))
            folder = None if reason else clones.resolve()
            found = alone(measure_line, number, folder, given.photos, seconds, given.quick, root)
            described = {"title": line.title, "released": line.repository, "note": line.note}
            result["lines"].append({**described, **({"not measured": reason} if reason else {}), **found})
            print(report.row(result["lines"][-1]), flush=True)
    if not given.only:
        result["shares"] = alone(shares, given.quick)
        result["growth"] = alone(growths, given.quick)
        print(f"\n{report.others(result)}")
    result["minutes"] = round((time.perf_counter() - began) / 60, 1)
    result["load at the end"] = os.getloadavg()[0]
    write_text(given.out, json.dumps(result, indent=2) + "\n")
    if given.document:
        report.document(DOCS, result)


if __name__ == "__main__":
    main()
