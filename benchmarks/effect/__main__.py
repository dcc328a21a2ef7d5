"""Measure what FBR does to seeds: `python -m benchmarks.effect --help`.

Every run is kept as it ends, so an interrupted comparison resumes where it stopped.
"""

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.effect import variants
from benchmarks.effect.figure import differences
from benchmarks.effect.runs import SCENES, STAGES, Setting, run_seed
from benchmarks.effect.summary import csv, pairs_by_variant, table
from fbr_plugin import figures
from fbr_plugin.files import write_text

COMPARISONS = {
    "final": variants.FINAL,
    "labels": {**variants.FINAL, **variants.LABELS},
    "photos": variants.PHOTOS,
    "ablation": variants.ABLATION,
    "tuning": variants.TUNING,
    "gate": variants.GATE,
}


def main() -> None:
    """Run a comparison and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.effect", description=__doc__)
    parser.add_argument("comparison", choices=COMPARISONS)
    parser.add_argument("--seeds", default="0-2", help="a-b; decisions take 0-9, a final table 100-109, once")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--variants", help="names separated by commas; all of the comparison unless given")
    parser.add_argument("--scenes", default="default", choices=SCENES)
    parser.add_argument("--data", help="a folder of your own photos in place of the scenes")
    parser.add_argument("--encoder", default="small")
    parser.add_argument("--weights", help="file of the encoder's weights, which are fine-tuned")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/effect"))
    options = parser.parse_args()
    setting = Setting(options.scenes, options.data, options.encoder, options.size, options.weights)
    chosen = COMPARISONS[options.comparison]
    names = options.variants.split(",") if options.variants else list(chosen)
    names = list(dict.fromkeys(["baseline", *names]))  # which all are compared with
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    stages = options.stages.split(",")
    if unknown := {*names} - {*chosen} | {*stages} - {*STAGES}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; variants are {', '.join(chosen)}")
    results = []
    # A seed is one job, as its stages and variants share the CAM that they start from.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=spawn) as pool:
        jobs = [pool.submit(run_seed, setting, seed, stages, names, chosen, options.output) for seed in seeds]
        for done, job in enumerate(as_completed(jobs), start=1):
            results += job.result()
            print(f"{done} of {len(jobs)} seeds", file=sys.stderr, flush=True)
    results.sort(key=lambda result: (stages.index(result["stage"]), names.index(result["name"])))
    text, target = table(results), options.output / setting.name / options.comparison
    write_text(target.with_suffix(".md"), text + "\n")
    write_text(target.with_suffix(".csv"), csv(results))
    pairs = pairs_by_variant(results)
    if any(name != "baseline" for _, name in pairs):
        figures.save(differences(pairs), target.with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
