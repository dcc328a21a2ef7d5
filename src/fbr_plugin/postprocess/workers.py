"""Worker processes that never outlive the process that started them."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread


def start_workers(workers: int) -> ProcessPoolExecutor:
    """Spawned processes; end them by `shutdown(cancel_futures=True)`.

    Left to themselves, the processes of a pool whose owner is killed wait for work forever. These end with
    it, and leave Ctrl-C to it. A script that starts them needs `if __name__ == "__main__":`.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), _begin)


def _begin() -> None:
    """What a worker does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end as well, without finishing anything."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
