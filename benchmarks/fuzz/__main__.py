"""Damaged and hostile files for every reader, in a process with limits of time and memory.

`python -m benchmarks.fuzz --reader NAME --inputs 2000 --minutes 20` damages valid files, which it makes
itself. A damaged file that reaches new lines of our code is damaged further. A reader must read what it is
given or raise a user's error of one bounded line that names a file; everything else is a finding: another
error, too much memory, a program that is started, a hang, a crash. It runs on Linux.
"""

import argparse
import json
import multiprocessing
import os
import random
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.fuzz.child import Outcome, serve
from benchmarks.fuzz.mutations import damaged
from benchmarks.fuzz.readers import READERS, Reader
from fbr_plugin.data.readers.limits import MAX_PIXELS
from fbr_plugin.files import write_text

FINDINGS = ("unnamed", "memory", "started", "hang", "crash")
PATIENCE = 6  # times the limit of time that a file may take without taking the CPU
PIXELS = 20_000_000  # of an image, for which the memory of a file suffices
SHOWN = 12  # findings of a reader that are printed


class Child:
    """The process that reads, started again where it hangs or ends."""

    def __init__(self, reader: Reader, root: Path, seconds: float, memory: int) -> None:
        self.reader, self.root, self.seconds, self.memory = reader, root, seconds, memory
        self.start()

    def start(self) -> None:
        """Start the process."""
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        given = (self.reader.read, self.root, other, self.memory)
        self.process = context.Process(target=serve, args=given, daemon=True)
        self.process.start()
        other.close()

    def read(self, path: Path) -> Outcome:
        """What becomes of a file; one that takes long is waited for while others use the CPU."""
        pipe: Connection[Any, Any] = self.pipe
        pipe.send(path)
        before, waits = self._cpu(), PATIENCE
        try:
            while not pipe.poll(self.seconds):
                waits -= 1
                if not waits or self._cpu() - before > self.seconds / 2:
                    break
            else:
                outcome: Outcome = pipe.recv()
                return outcome
            outcome = Outcome("hang", f"more than {self.seconds:.0f} s")
        except (EOFError, ConnectionError):
            outcome = Outcome("crash", "the process ended")
        self.end()
        self.start()
        return outcome

    def _cpu(self) -> float:
        """Seconds of the CPU that the process has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def fuzz(reader: Reader, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Damage the files of a reader; count what becomes of them.

    Args:
        reader: what is read.
        options: of the command.
        folder: an empty folder for the files.
    """
    reader.write(folder)
    chance = random.Random(options.seed)
    valid = {name: (folder / name).read_bytes() for name in reader.files}
    corpus = {name: [data] for name, data in valid.items()}
    child = Child(reader, folder, options.timeout, options.memory * 2**20)
    counts: Counter[str] = Counter()
    findings: dict[str, dict[str, Any]] = {}
    for name in reader.files:
        if (outcome := child.read(folder / name)).kind != "read":
            raise SystemExit(f"{name} should be valid: {outcome}")
    start, number = perf_counter(), 0
    while number < options.inputs or perf_counter() - start < 60 * options.minutes:
        name = chance.choice(reader.files)
        own = corpus[name]
        data = damaged(chance.choice(own), Path(name).suffix, valid[name], chance, own)
        (folder / name).write_bytes(data)
        outcome = child.read(folder / name)
        (folder / name).write_bytes(valid[name])
        number += 1
        counts[outcome.kind] += 1
        if outcome.new and outcome.kind in ("read", "named"):
            own.append(data)
        if outcome.kind in FINDINGS:
            key = f"{name}: {outcome.kind} {outcome.detail}"
            if key not in findings and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{len(findings)}_{outcome.kind}_{Path(name).name}").write_bytes(data)
            findings.setdefault(key, {"inputs": 0, "first": outcome.message})["inputs"] += 1
    child.end()
    minutes = (perf_counter() - start) / 60
    kept = sum(map(len, corpus.values())) - len(corpus)
    return {"inputs": number, **{kind: counts[kind] for kind in ("read", "named", *FINDINGS)}} | {
        "kept": kept,
        "minutes": minutes,
        "findings": findings,
    }


def main() -> None:
    """Fuzz, print a table and the findings, and write both."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--reader", nargs="+", choices=READERS, default=[*READERS], metavar="NAME", help=", ".join(READERS)
    )
    parser.add_argument("--inputs", type=int, default=2000, help="at least this many; default: %(default)s")
    parser.add_argument(
        "--minutes", type=float, default=0, help="of each reader, at least; default: %(default)s"
    )
    parser.add_argument(
        "--timeout", type=float, default=10, metavar="SECONDS", help="of a file; default: %(default)s"
    )
    parser.add_argument(
        "--memory", type=int, default=1024, metavar="MB", help="for a file; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where to write a file for each finding")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file of the results")
    options = parser.parse_args()
    os.environ.setdefault(MAX_PIXELS, str(PIXELS))
    results = {}
    heads = ("inputs", "read", "named", *FINDINGS, "kept")
    print(f"{'reader':<12}{''.join(f'{head:>9}' for head in heads)}{'minutes':>9}", flush=True)
    for name in options.reader:
        with TemporaryDirectory() as folder:
            results[name] = fuzz(READERS[name], options, Path(folder))
        cells = "".join(f"{results[name][head]:>9}" for head in heads)
        print(f"{name:<12}{cells}{results[name]['minutes']:>9.1f}", flush=True)
        found = sorted(results[name]["findings"].items(), key=lambda each: -each[1]["inputs"])
        for finding, each in found[:SHOWN]:
            print(f"    {each['inputs']:5}  {finding}: {each['first']!r}", flush=True)
    if options.out:
        write_text(options.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
