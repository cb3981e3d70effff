"""The encoder: codes of a history in, score tables out, on ONNX Runtime."""

import logging
from collections.abc import Collection
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from recjpq.artifact import ModelDescription
from recjpq.errors import ArtifactDtypeError, ArtifactShapeError
from recjpq.scoring import DeviceTables, ScoreTables
from service.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    from types import ModuleType

Device = Literal["auto", "cpu", "cuda"]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")

CUDA_OPTIONS = {
    # TensorFloat-32 has 10 bits: tables would differ from those exported by more than the replay allows.
    "use_tf32": "0",
    # Memory grows by what is asked for and not to the next power of two: the scorer has the rest.
    "arena_extend_strategy": "kSameAsRequested",
}

_log = logging.getLogger(__name__)


class Encoder(Protocol):
    """Turns histories into score tables; safe from many threads, and releases the GIL while it works."""

    @property
    def providers(self) -> list[str]:
        """The execution providers in use, the preferred first."""
        ...

    def encode(
        self, item_codes: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return score tables (B, M, V) of histories (B, L, M), the newest item of each at `lengths - 1`."""
        ...

    def encode_in_place(
        self, item_codes: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]
    ) -> ScoreTables:
        """As `encode`, for a scorer that works where the encoder does: a GPU's tables stay there."""
        ...


class OnnxEncoder:
    """An artifact's `encoder.onnx` in an ONNX Runtime session; see `Encoder`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.providers: list[str] = session.get_providers()

    @classmethod
    def open(cls, path: Path, model: ModelDescription, device: Device, threads: int) -> Self:
        """Load the graph and check that it is the encoder of `model`.

        Args:
            path: `encoder.onnx`.
            model: what the manifest says of it.
            device: `auto` prefers a GPU and falls back to the CPU; `cuda` insists.
            threads: inside one call; the callers bring their own threads.

        Raises:
            RuntimeUnavailableError: no usable ONNX Runtime, or no usable GPU where one was asked for.
            ArtifactShapeError, ArtifactDtypeError: the graph is not the encoder of such a model.
        """
        runtime = _import_runtime()
        session = _open_session(runtime, path, device, threads)
        _check_graph(path, session, model)
        return cls(session)

    def encode(
        self, item_codes: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """See `Encoder.encode`."""
        inputs = {"item_codes": item_codes, "lengths": lengths}
        tables: npt.NDArray[np.float32] = self._session.run(["score_tables"], inputs)[0]  # (B, M, V)
        return tables

    def encode_in_place(
        self, item_codes: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]
    ) -> ScoreTables:
        """See `Encoder.encode_in_place`."""
        if self.providers[0] != _CUDA:
            return self.encode(item_codes, lengths)
        return encode_on(self._session, "cuda", item_codes, lengths)


def encode_on(
    session: Any, device: str, item_codes: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]
) -> DeviceTables:
    """Run a session with its output bound to memory of the device that it runs on.

    The inputs, a few kilobytes, are copied there as part of the run; the output is the runtime's own memory,
    which it takes back when nothing refers to the tables any more.
    """
    binding = session.io_binding()
    binding.bind_cpu_input("item_codes", item_codes)
    binding.bind_cpu_input("lengths", lengths)
    binding.bind_output("score_tables", device)
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()  # the scorer works on a stream of its own
    (tables,) = binding.get_outputs()
    return DeviceTables(tables.data_ptr(), tuple(tables.shape()), tables.numpy)


def check_distributions(installed: Collection[str]) -> None:
    """Refuse an environment in which the two builds of ONNX Runtime overwrite each other's files.

    Raises:
        RuntimeUnavailableError: both are among the names of the installed distributions.
    """
    if all(name in installed for name in _RUNTIMES):
        raise RuntimeUnavailableError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; run "
            "'pip uninstall -y onnxruntime onnxruntime-gpu', then install recjpq[cpu] or recjpq[gpu]"
        )


def check_device(device: Device, providers: list[str]) -> None:
    """Refuse a session that does not run where it was told to.

    Raises:
        RuntimeUnavailableError: a GPU was asked for and the session has none.
    """
    if device == "cuda" and _CUDA not in providers:
        raise RuntimeUnavailableError(
            f"device 'cuda': ONNX Runtime uses {', '.join(providers)}, so there is no usable GPU; install "
            "recjpq[gpu] on a machine with an NVIDIA driver, or set RECJPQ_DEVICE to auto or cpu"
        )


def _import_runtime() -> "ModuleType":
    check_distributions({(each.metadata["Name"] or "").lower() for each in distributions()})
    try:
        return import_module("onnxruntime")  # optional: `--help` and the tests of this check do without
    except ImportError as error:
        raise RuntimeUnavailableError(
            "ONNX Runtime cannot be imported; install recjpq[cpu], or recjpq[gpu] for an NVIDIA GPU"
        ) from error


def _open_session(runtime: Any, path: Path, device: Device, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take the cores that the other workers and the scorer need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    providers = _wanted_providers(runtime, device)
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the runtime's errors have no common class of their own
        reason = str(error).splitlines()[0]
        raise ArtifactShapeError(
            f"{path}: ONNX Runtime {runtime.__version__} cannot load this graph ({reason}); export it again"
        ) from error
    check_device(device, session.get_providers())
    return session


def _wanted_providers(runtime: Any, device: Device) -> list[Any]:
    """Return what to ask for; what is then used, only the session knows."""
    if device == "cpu" or _CUDA not in runtime.get_available_providers():
        return [_CPU]
    if hasattr(runtime, "preload_dlls"):  # finds the CUDA libraries that pip installed
        runtime.preload_dlls()
    return [(_CUDA, CUDA_OPTIONS), _CPU]


def _check_graph(path: Path, session: Any, model: ModelDescription) -> None:
    M, V = model.num_splits, model.num_sub_ids
    expected = {
        "item_codes": ("tensor(uint8)", (None, None, M)),
        "lengths": ("tensor(int64)", (None,)),
        "score_tables": ("tensor(float)", (None, M, V)),
    }
    found = {node.name: node for node in (*session.get_inputs(), *session.get_outputs())}
    if found.keys() != expected.keys():
        raise ArtifactShapeError(f"{path}: has {sorted(found)}, expected {sorted(expected)}; export it again")
    for name, (dtype, shape) in expected.items():
        if found[name].type != dtype:
            raise ArtifactDtypeError(f"{path}: {name} is {found[name].type}, expected {dtype}")
        if not _fits(found[name].shape, shape):
            raise ArtifactShapeError(
                f"{path}: {name} has shape {found[name].shape}, expected {list(shape)} (None: any size)"
            )


def _fits(found: list[int | str | None], expected: tuple[int | None, ...]) -> bool:
    """Say whether a graph's shape has a free size (a name or None) wherever one is expected.

    A size that is free in the graph and fixed in the manifest is left to the golden replay.
    """
    return len(found) == len(expected) and all(
        not isinstance(size, int) if wanted is None else not isinstance(size, int) or size == wanted
        for size, wanted in zip(found, expected, strict=True)
    )
