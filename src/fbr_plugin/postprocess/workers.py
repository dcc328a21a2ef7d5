"""Worker processes that refine masks."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor

import torch

from fbr_plugin.postprocess.refine import Method
from fbr_plugin.processes import start_pool


def refining_workers(method: Method | None) -> int:
    """The number of processes for a refinement: a device's share of the cores for a CRF, otherwise none."""
    if method in (None, "pamr"):
        return 0  # PAMR runs on the device itself
    return max(1, (os.cpu_count() or 1) // max(1, torch.cuda.device_count()))


def start_workers(workers: int) -> ProcessPoolExecutor:
    """A pool of processes that leave Ctrl-C to their owner; see `start_pool`."""
    return start_pool(workers, _ignore_interrupts)


def _ignore_interrupts() -> None:
    """Initialise a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
