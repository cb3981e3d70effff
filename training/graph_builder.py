"""A small builder of ONNX graphs: one operator after the other, constants where they are used."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper


class GraphBuilder:
    """Collects operators and constants. A value is the name that the method which made it returned."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def floats(self, value: npt.ArrayLike) -> str:
        """Return a float32 constant."""
        return self._constant(np.asarray(value, dtype=np.float32))

    def ints(self, value: npt.ArrayLike, dtype: type[np.integer[Any]] = np.int64) -> str:
        """Return an integer constant."""
        return self._constant(np.asarray(value, dtype=dtype))

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator of one output and return that."""
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add an operator of several outputs and return them."""
        node = f"{op_type}_{len(self._nodes)}"
        made = [f"{node}:{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op_type, inputs, made, name=node, **attributes))
        return made

    def output(self, value: str, name: str) -> None:
        """Give a value the name of an output of the graph."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))

    def model(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        *,
        opset: int,
    ) -> onnx.ModelProto:
        """Return the model, checked, in the oldest form that has this opset."""
        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", opset)]
        ir_version = helper.find_min_ir_version_for(opsets)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _constant(self, array: npt.NDArray[Any]) -> str:
        """Add a constant, or find the equal one."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        name: str = self._constants[key].name
        return name
