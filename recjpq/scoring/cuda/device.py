"""What the GPU scorer asks of a device: the seam under which the tests put an emulated one."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Arguments = npt.NDArray[np.int64]
"""The fields of `Search` in `kernels.cu`, in its order."""


class Memory(Protocol):
    """Memory of the device, given back when nothing refers to it any more."""

    @property
    def address(self) -> int:
        """Where it starts, as the kernels see it; a multiple of 256."""
        ...

    @property
    def size_bytes(self) -> int:
        """How much there is."""
        ...


class Queue(Protocol):
    """Does its work in order, and returns at once; for one thread at a time.

    What it is given must live, and stay as it is, until `wait`.
    """

    def write(self, target: Memory, offset: int, source: npt.NDArray[Any]) -> None:
        """Copy a C-contiguous array to the device."""
        ...

    def read(self, source: Memory, offset: int, target: npt.NDArray[Any]) -> None:
        """Copy from the device to a C-contiguous array."""
        ...

    def copy(self, source: Memory, target: Memory, size_bytes: int) -> None:
        """Copy from the start of one to the start of another."""
        ...

    def launch(
        self, kernel: Any, grid: tuple[int, int], threads: int, shared_bytes: int, arguments: Arguments
    ) -> None:
        """Run a kernel in blocks of so many threads, each with so much dynamic shared memory."""
        ...

    def wait(self) -> None:
        """Return when everything is done, without the GIL meanwhile."""
        ...


class Device(Protocol):
    """One GPU; safe from many threads."""

    @property
    def name(self) -> str:
        """What it is, for messages."""
        ...

    @property
    def shared_bytes(self) -> int:
        """The dynamic shared memory that one block may have."""
        ...

    def activate(self) -> None:
        """Make this the calling thread's device, before anything else is asked of it.

        Raises:
            BackendUnavailableError: this process was forked from the one that opened the device.
        """
        ...

    def kernels(self, num_words: int) -> dict[str, Any]:
        """Return the kernels by name, compiled for items of so many words, once per process.

        Raises:
            BackendUnavailableError: they cannot be compiled here.
        """
        ...

    def resident_blocks(self, kernel: Any, threads: int, shared_bytes: int) -> int:
        """Return how many such blocks run at the same time."""
        ...

    def allocate(self, size_bytes: int) -> Memory:
        """Return memory whose content is undefined.

        Raises:
            BackendUnavailableError: there is not that much.
        """
        ...

    def staging(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """Return an array of the host from which, and to which, the device copies fast."""
        ...

    def queue(self) -> Queue:
        """Return a new queue."""
        ...
