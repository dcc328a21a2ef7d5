"""Worker processes that never outlive the process that started them."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread

import torch

from fbr_plugin.postprocess.refine import Method


def refining_workers(method: Method | None) -> int:
    """The number of processes for a refinement: a device's share of the cores for a CRF, otherwise none."""
    if method in (None, "pamr"):
        return 0  # PAMR runs on the device itself
    return max(1, (os.cpu_count() or 1) // max(1, torch.cuda.device_count()))


def start_workers(workers: int) -> ProcessPoolExecutor:
    """A pool of spawned processes; end it by `shutdown(cancel_futures=True)`.

    Normally, the processes of a pool whose owner is killed wait for work forever. These end with their owner,
    and leave Ctrl-C to it. A script that starts them needs `if __name__ == "__main__":`.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), _begin)


def _begin() -> None:
    """Initialise a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the parent process, then end at once."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
