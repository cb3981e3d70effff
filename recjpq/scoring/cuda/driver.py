"""The real device: CUDA's driver interface through NVIDIA's `cuda-bindings`, which is in the extra `gpu`."""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from recjpq.errors import BackendUnavailableError
from recjpq.scoring.cuda.compile import compile_kernels, import_bindings
from recjpq.scoring.cuda.device import Arguments, Memory

KERNELS = ("collect", "prepare_narrow", "prepare_wide", "scan_narrow", "scan_wide", "finish")
OLDEST_DRIVER = 13000  # CUDA 13.0, of which the compiler and ONNX Runtime's libraries are


class CudaDevice:
    """The first GPU that the process may see; see `Device`.

    It works in the device's primary context, as ONNX Runtime does.
    """

    def __init__(self) -> None:
        """Open the device.

        Raises:
            BackendUnavailableError: no bindings, driver or device.
        """
        self._cu = _import_driver()
        self._process = os.getpid()
        self._device = self._ask(self._cu.cuDeviceGet, 0)
        self._context = self._ask(self._cu.cuDevicePrimaryCtxRetain, self._device)
        self.activate()

        def attribute(name: str) -> int:
            key = getattr(self._cu.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
            return int(self._ask(self._cu.cuDeviceGetAttribute, key, self._device))

        self.name = self._ask(self._cu.cuDeviceGetName, 256, self._device).split(b"\0")[0].decode()
        self._multiprocessors = attribute("MULTIPROCESSOR_COUNT")
        self.shared_bytes = attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        major, minor = attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")
        self.architecture = f"sm_{major}{minor}"
        self._kernels: dict[int, dict[str, Any]] = {}
        self._loading = threading.Lock()

    def activate(self) -> None:
        """See `Device.activate`."""
        if os.getpid() != self._process:
            raise BackendUnavailableError(
                f"backend 'cuda': found process {os.getpid()}, forked from {self._process}, which opened the "
                "GPU; a GPU does not survive a fork: build the scorer in the child, or start it by 'spawn'"
            )
        self._ask(self._cu.cuCtxSetCurrent, self._context)

    def kernels(self, num_words: int) -> dict[str, Any]:
        """See `Device.kernels`."""
        with self._loading:
            if num_words not in self._kernels:
                self._kernels[num_words] = self._load(compile_kernels(self.architecture, num_words))
            return self._kernels[num_words]

    def resident_blocks(self, kernel: Any, threads: int, shared_bytes: int) -> int:
        """See `Device.resident_blocks`."""
        count = self._cu.cuOccupancyMaxActiveBlocksPerMultiprocessor
        return self._multiprocessors * int(self._ask(count, kernel, threads, shared_bytes))

    def allocate(self, size_bytes: int) -> "CudaMemory":
        """See `Device.allocate`."""
        address = int(self._ask(self._cu.cuMemAlloc, max(1, size_bytes)))
        return CudaMemory(address, size_bytes, self._releaser(self._cu.cuMemFree, address))

    def staging(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """See `Device.staging`: page-locked memory."""
        address = int(self._ask(self._cu.cuMemAllocHost, max(1, size_bytes)))
        memory = (ctypes.c_uint8 * size_bytes).from_address(address)  # lives as long as any view of the array
        weakref.finalize(memory, self._releaser(self._cu.cuMemFreeHost, address)).atexit = False
        return np.ctypeslib.as_array(memory)

    def queue(self) -> "CudaQueue":
        """See `Device.queue`."""
        stream = self._ask(self._cu.cuStreamCreate, self._cu.CUstream_flags.CU_STREAM_NON_BLOCKING)
        queue = CudaQueue(self._cu, self._ask, stream)
        weakref.finalize(queue, self._releaser(self._cu.cuStreamDestroy, stream)).atexit = False
        return queue

    def time(self, queue: "CudaQueue", work: Callable[[], object]) -> float:
        """Return the seconds of the device from before to after what `work` puts on the queue."""
        events = [self._ask(self._cu.cuEventCreate, 0) for _ in range(2)]  # 0: with timing
        self._ask(self._cu.cuEventRecord, events[0], queue.stream)
        work()
        self._ask(self._cu.cuEventRecord, events[1], queue.stream)
        self._ask(self._cu.cuEventSynchronize, events[1])
        elapsed_ms = float(self._ask(self._cu.cuEventElapsedTime, *events))
        for event in events:
            self._ask(self._cu.cuEventDestroy, event)
        return elapsed_ms / 1e3

    def _load(self, code: bytes) -> dict[str, Any]:
        module = self._ask(self._cu.cuModuleLoadData, code)  # for the life of the process
        kernels = {name: self._ask(self._cu.cuModuleGetFunction, module, name.encode()) for name in KERNELS}
        most = self._cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        for name in ("scan_narrow", "scan_wide"):
            self._ask(self._cu.cuFuncSetAttribute, kernels[name], most, self.shared_bytes)
        return kernels

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the driver and return what it gives beside its status."""
        return ask(self._cu, function, *arguments)

    def _releaser(self, function: Callable[..., Any], handle: Any) -> Callable[[], None]:
        """Return what gives a resource back, from any thread, also after the device object is gone."""
        cu, context, process = self._cu, self._context, self._process

        def release() -> None:
            if os.getpid() == process:  # a forked child has none of its own
                cu.cuCtxSetCurrent(context)
                function(handle)  # the status does not matter: at worst the driver is gone, and all with it

        return release


class CudaMemory:
    """Memory of the device; see `Memory`."""

    def __init__(self, address: int, size_bytes: int, release: Callable[[], None]) -> None:
        self.address, self.size_bytes = address, size_bytes
        weakref.finalize(self, release).atexit = False


class CudaQueue:
    """A stream; see `Queue`."""

    def __init__(self, cu: Any, ask: Callable[..., Any], stream: Any) -> None:
        self._cu, self._ask, self.stream = cu, ask, stream

    def write(self, target: Memory, offset: int, source: npt.NDArray[Any]) -> None:
        """See `Queue.write`."""
        if source.nbytes:
            self._ask(
                self._cu.cuMemcpyHtoDAsync,
                target.address + offset,
                source.ctypes.data,
                source.nbytes,
                self.stream,
            )

    def read(self, source: Memory, offset: int, target: npt.NDArray[Any]) -> None:
        """See `Queue.read`."""
        if target.nbytes:
            self._ask(
                self._cu.cuMemcpyDtoHAsync,
                target.ctypes.data,
                source.address + offset,
                target.nbytes,
                self.stream,
            )

    def copy(self, source: Memory, target: Memory, size_bytes: int) -> None:
        """See `Queue.copy`."""
        self._ask(self._cu.cuMemcpyDtoDAsync, target.address, source.address, size_bytes, self.stream)

    def launch(
        self, kernel: Any, grid: tuple[int, int], threads: int, shared_bytes: int, arguments: Arguments
    ) -> None:
        """See `Queue.launch`; the driver copies the arguments before it returns."""
        # The kernel has one parameter, the structure: an array of one pointer to it.
        parameters = np.array([arguments.ctypes.data], dtype=np.uint64)
        self._ask(
            self._cu.cuLaunchKernel,
            kernel,
            *(grid[0], grid[1], 1),
            *(threads, 1, 1),
            shared_bytes,
            self.stream,
            parameters.ctypes.data,
            0,
        )

    def wait(self) -> None:
        """See `Queue.wait`."""
        self._ask(self._cu.cuStreamSynchronize, self.stream)


def ask(cu: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the driver and return what it gives beside its status: nothing, a value, or several.

    Raises:
        BackendUnavailableError: the status is not success.
    """
    status, *values = function(*arguments)
    if status != cu.CUresult.CUDA_SUCCESS:
        raise BackendUnavailableError(
            f"backend 'cuda': {function.__name__} found {status.name}; see nvidia-smi for the state of the "
            "driver, the GPU and its memory, or use 'cpu' or 'auto'"
        )
    return values[0] if len(values) == 1 else tuple(values)


def _import_driver() -> Any:
    """Return the bindings of a driver that is new enough and has a device."""
    driver = import_bindings("driver")
    try:
        ask(driver, driver.cuInit, 0)
        version = ask(driver, driver.cuDriverGetVersion)
        count = ask(driver, driver.cuDeviceGetCount)
    except RuntimeError as error:  # how the bindings say that they do not find the library
        raise BackendUnavailableError(
            f"backend 'cuda': found no NVIDIA driver ({error}); install one, or use 'cpu' or 'auto'"
        ) from error
    if version < OLDEST_DRIVER:
        raise BackendUnavailableError(
            f"backend 'cuda': found a driver for CUDA {version // 1000}.{version % 1000 // 10}, expected "
            f"{OLDEST_DRIVER // 1000}.0 or later; update the NVIDIA driver, or use 'cpu' or 'auto'"
        )
    if not count:
        raise BackendUnavailableError(
            "backend 'cuda': found a driver but no GPU, expected one; see what CUDA_VISIBLE_DEVICES hides, "
            "or use 'cpu' or 'auto'"
        )
    return driver
