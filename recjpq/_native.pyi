"""Types of the compiled module; see recjpq/native."""

import numpy as np
import numpy.typing as npt

def top_k(
    codes: npt.NDArray[np.uint8],
    table: npt.NDArray[np.float32],
    k: int,
    exclude: npt.NDArray[np.int32] | None,
    allow: npt.NDArray[np.int32] | None,
    bitmap: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]: ...

class IdIndex:
    def __init__(self, offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> None: ...
    def find(self, ids: list[str]) -> npt.NDArray[np.int32]: ...
    @property
    def first_duplicate(self) -> tuple[int, int] | None: ...
    @property
    def size_bytes(self) -> int: ...
