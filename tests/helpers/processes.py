"""A function run in processes that can exchange tensors, and the end of a process."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fbr_plugin.processes import process_context

WORLD = 2


def launch(worker: Callable[[int], Any], folder: Path, world: int = WORLD) -> list[Any]:
    """Run a function of the rank in gloo processes, two unless told; what each returned, in rank order."""
    method = process_context().get_start_method()
    mp.start_processes(_process, (worker, str(folder), world), nprocs=world, start_method=method)
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(world)]


def meet_in_pairs(number: int, folder: Path) -> int:
    """Let four processes that have met part, and meet again as two pairs; the rank in the new pair."""
    dist.barrier()
    dist.destroy_process_group()
    pair, own = divmod(number, WORLD)
    store = f"file://{folder}/pair_{pair}"
    dist.init_process_group("gloo", init_method=store, rank=own, world_size=WORLD)
    return own


def _process(number: int, worker: Callable[[int], Any], folder: str, world: int) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=number, world_size=world)
    try:
        torch.save(worker(number), f"{folder}/{number}.pt")
    finally:
        dist.destroy_process_group()


def ended(process: int, seconds: int = 10) -> bool:
    """Whether a process ends within some seconds; afterwards it has in any case."""
    for _ in range(20 * seconds):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    return False
