"""A training loop that takes one step at a time, so that it can take turns with another."""

import math
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from torch import Tensor


class _Left(BaseException):
    """Ends a training loop whose steps are no longer wanted."""


class Loop:
    """A training loop that runs in a thread and takes one step for each call.

    The loop reads its batches from this object, which hands out the same one at every call and waits. So the
    time of a call is that of all that the loop does between two batches.

    Args:
        run: the loop; its argument takes the place of a data loader.
        batch: what each step gets.
    """

    def __init__(self, run: Callable[["Loop"], object], batch: Any) -> None:
        self.batch = batch
        self.loss = math.nan  # of the last step
        self._asked: SimpleQueue[BaseException | None] = SimpleQueue()
        self._given: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)
        self._thread.start()
        self._wait()  # until it asks for its first batch

    def __len__(self) -> int:
        return 10**6

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._asked.put(None)
        if not self._given.get():
            raise _Left
        return self.batch

    def __call__(self) -> float:
        """The loss of one more step."""
        tensors: Any = Tensor
        plain = tensors.backward

        def noting(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self.loss = float(loss.detach())
            plain(loss, *args, **kwargs)

        tensors.backward = noting
        try:
            self._given.put(True)
            self._wait()
        finally:
            tensors.backward = plain
        return self.loss

    def close(self) -> None:
        """End the loop."""
        while self._thread.is_alive():  # the released loops ask once more when they could not be served
            self._given.put(False)
            self._thread.join(0.1)

    def _run(self, run: Callable[["Loop"], object]) -> None:
        try:
            run(self)
            self._asked.put(RuntimeError("the training loop came to its end"))
        except _Left:
            pass
        except BaseException as error:  # is raised where the step was asked for
            self._asked.put(error)

    def _wait(self) -> None:
        error = self._asked.get()
        if error is not None:
            raise error
