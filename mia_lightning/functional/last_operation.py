"""Which operation made a tensor, seen through reshapes, casts and resizing: by watching a function, or by a graph.

A network's last operation says what its output means where values cannot: a sigmoid's are probabilities, a
convolution's logits, also where all of them happen to lie in [0, 1].
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

Role = Literal[
    "linear",
    "sigmoid",
    "softmax",
    "mixture",
    "log_softmax",
    "log_sigmoid",
    "tanh",
    "shifted",
    "discrete",
    "constant",
    "other",
]


@dataclass(frozen=True)
class Operation:
    """What made a tensor.

    Attributes:
        role: ``"linear"`` for convolutions, matrix products and normalisation layers, and sums and scalings of them;
            ``"mixture"`` for sums, products and parts of probabilities, such as the mean over flipped copies;
            ``"log_sigmoid"`` also for logarithms of mixtures; ``"shifted"`` for probabilities of which a number was
        subtracted, such as 2p - 1; ``"discrete"`` for comparisons, roundings and class
            numbers; ``"constant"`` for tensors made from nothing; ``"other"`` for all else.
        name: Its name, as torch or ONNX has it, such as ``"convolution"``.
    """

    role: Role
    name: str


_SOURCES: dict[str, Role] = {
    **dict.fromkeys(
        ("convolution", "conv1d", "conv2d", "conv3d", "conv", "conv_transpose2d", "convtranspose", "qlinearconv",
         "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution", "cudnn_convolution_transpose",
         "miopen_convolution", "thnn_conv2d", "slow_conv_dilated2d", "slow_conv_transpose2d", "conv_depthwise2d",
         "slow_conv3d", "slow_conv_dilated3d", "slow_conv_transpose3d", "conv_transpose3d",
         "conv_depthwise3d", "addmm", "addmv", "mm", "bmm", "baddbmm", "addbmm", "linear", "matmul", "einsum", "gemm",
         "qlinearmatmul", "qgemm", "mkldnn_linear", "linear_pointwise", "convolution_pointwise", "native_batch_norm",
         "native_batch_norm_legit", "native_batch_norm_legit_no_training", "batch_norm", "batch_norm_with_update",
         "cudnn_batch_norm", "miopen_batch_norm", "batchnormalization", "native_group_norm", "group_norm",
         "groupnormalization", "native_layer_norm", "layer_norm", "layernormalization", "instance_norm",
         "instancenormalization", "logit"),
        "linear",
    ),
    **dict.fromkeys(("sigmoid", "hardsigmoid", "special_expit", "qlinearsigmoid"), "sigmoid"),
    **dict.fromkeys(("softmax", "special_softmax", "safe_softmax"), "softmax"),
    **dict.fromkeys(("log_softmax", "special_log_softmax", "logsoftmax"), "log_softmax"),
    **dict.fromkeys(("log_sigmoid", "log_sigmoid_forward", "logsigmoid"), "log_sigmoid"),
    "tanh": "tanh",
    **dict.fromkeys(
        ("argmax", "argmin", "gt", "ge", "lt", "le", "eq", "ne", "greater", "greaterorequal", "less", "lessorequal",
         "equal", "round", "sign", "bucketize", "heaviside", "one_hot", "onehot", "logical_not", "logical_and",
         "logical_or", "not", "and", "or"),
        "discrete",
    ),
    **dict.fromkeys(
        ("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros",
         "new_ones", "new_full", "new_empty", "empty_strided", "new_empty_strided", "arange", "linspace",
         "scalar_tensor", "zero", "fill", "constant", "constantofshape", "range", "shape", "size"),
        "constant",
    ),
}  # fmt: skip

# What their first operand is stays what it is: the same numbers in another shape, place or format, or means of them.
_PASSING = frozenset({
    "view", "unsafe_view", "reshape", "reshape_alias", "permute", "transpose", "t", "squeeze", "unsqueeze", "expand",
    "slice", "select", "narrow", "index", "index_select", "gather", "clone", "contiguous", "alias", "detach",
    "to_copy", "to", "lift", "lift_fresh", "as_strided", "unfold", "flip", "roll", "rot90", "split", "chunk", "unbind",
    "split_with_sizes", "repeat", "movedim", "swapaxes", "flatten", "dropout", "native_dropout", "identity", "cast",
    "castlike", "tile", "gathernd", "dequantizelinear", "quantizelinear", "dequantize", "quantize_per_tensor",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "depthtospace", "spacetodepth", "nan_to_num", "mean",
    "reducemean", "avg_pool2d", "avg_pool3d", "averagepool", "adaptive_avg_pool2d", "max_pool2d_with_indices",
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_nearest_exact2d",
    "upsample_nearest_exact3d", "upsample_bilinear2d", "upsample_bilinear2d_aa", "upsample_bicubic2d",
    "upsample_bicubic2d_aa", "upsample_trilinear3d", "upsample_linear1d", "interpolate", "resize", "upsample",
    "gridsample", "grid_sampler_2d", "grid_sampler_3d", "grid_sampler", "cudnn_grid_sampler", "constant_pad_nd",
    "pad", "reflection_pad2d", "replication_pad2d", "reflection_pad3d", "replication_pad3d", "max_pool3d_with_indices",
    "masked_fill", "lift_fresh_copy", "view_copy", "permute_copy",
    "slice_copy", "expand_copy", "unsqueeze_copy", "squeeze_copy",
})  # fmt: skip
# Parts that are put side by side.
_JOINING = frozenset({
    "cat", "concat", "concatenate", "stack", "where", "maximum", "minimum", "index_put", "scatter", "slice_scatter",
    "select_scatter", "masked_scatter", "index_copy", "scatternd", "scatterelements",
})  # fmt: skip
_ARITHMETIC = frozenset({
    "add", "sub", "rsub", "mul", "div", "divide", "multiply", "subtract", "neg", "lerp", "sum", "reducesum",
    "addcmul", "addcdiv", "index_add", "scatter_add", "true_divide",
})  # fmt: skip
_QUOTIENTS, _RATIO = frozenset({"div", "divide", "true_divide"}), "ratio"
# Bounds of a probability leave it one; a bounded logit may stand for a probability.
_BOUNDING = frozenset({"clamp", "clamp_min", "clamp_max", "clip"})
_PROBABILITY: frozenset[Role] = frozenset({"sigmoid", "softmax", "mixture"})
_LOGARITHM: dict[Role, Role] = {"softmax": "log_softmax", "sigmoid": "log_sigmoid", "mixture": "log_sigmoid"}
_EXPONENTIAL: dict[Role, Role] = {"log_softmax": "softmax", "log_sigmoid": "mixture"}


def operation_of(name: str, operands: Sequence[Operation | None]) -> Operation | None:
    """What made the result of an operation.

    Args:
        name: The operation's name in torch (``aten::_softmax``) or ONNX (``Softmax``).
        operands: What made its tensors, in order; None for those that nobody knows, such as inputs and weights.

    Returns:
        What made the result; None where nothing is known of any operand and the operation does not tell either.

    Example:
        >>> logits = operation_of("aten::convolution", [None, None])
        >>> operation_of("aten::mean", [operation_of("aten::_softmax", [logits])]).role
        'softmax'
    """
    name = name.rsplit("::", 1)[-1].strip("_").lower()
    if name in _SOURCES:
        return Operation(_SOURCES[name], name)
    if name == "where":
        condition, operands = operands[:1], operands[1:]
        if condition and condition[0] is not None and all(o is None or o.role == "constant" for o in operands):
            return condition[0]  # two numbers, chosen by a comparison
    known = [o for o in operands if o is not None and o.role != "constant"]
    if known:
        return _made_of(name, operands, known) or Operation("other", name)
    made_of_nothing = bool(operands) and all(o is not None for o in operands)
    return Operation("constant", name) if made_of_nothing else None


def _made_of(name: str, operands: Sequence[Operation | None], known: Sequence[Operation]) -> Operation | None:
    """What made the result where something is known of its operands; None where that does not tell."""
    first, roles, complete = known[0], {o.role for o in known}, all(o is not None for o in operands)
    if name in _PASSING or (name in _BOUNDING and roles <= _PROBABILITY):
        return operands[0]
    if name in _JOINING and (complete or roles == {"discrete"}):
        mixed = Operation("mixture", f"{name} of {first.name}") if roles <= _PROBABILITY else None
        return first if len(roles) == 1 else mixed
    if name in _ARITHMETIC:
        # A bias, a temperature, a residual.
        if roles in ({"linear"}, {"shifted"}) or (complete and roles == {"discrete"}):
            return first
        if name == "add" and roles == {"linear", "other"}:  # the last convolution of a residual unit
            return next(o for o in known if o.role == "linear")
        if not complete or not roles <= _PROBABILITY:
            return None
        if name in ("sub", "subtract") and len(known) == 1 and operands[0] is first:
            return Operation("shifted", f"{name} of {first.name}")
        ratio = name in _QUOTIENTS and len(known) == 2  # probabilities that are normalised, or odds
        return Operation("mixture", f"{_RATIO if ratio else name} of {first.name}")
    table = {"log": _LOGARITHM, "exp": _EXPONENTIAL}.get(name, {})
    role = table.get(first.role) if len(known) == 1 and not first.name.startswith(_RATIO) else None
    return None if role is None else Operation(role, f"{name} of {first.name}")


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types neither this nor its dictionaries
    """Notes what made each tensor, as long as the tensor lives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.operations: Any = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        try:
            self._note(func._schema, args, kwargs or {}, result)
        except Exception:
            self.operations = WeakTensorKeyDictionary()
        return result

    def _note(self, schema: Any, args: Any, kwargs: Any, result: Any) -> None:
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        operands = [self.operations.get(t) for t in tensors]
        name = schema.name.rsplit("::", 1)[-1]
        if name == "copy_":  # into a tensor, or a part of one
            self._write(tensors[0], operands[-1] if len(tensors) > 1 else None)
            return
        operation = operation_of(name, operands)
        if name.endswith("_") and tensors:
            self._write(tensors[0], operation)
            return
        for tensor in _tensors([result]):
            made = operation
            if operation is not None and operation.role != "constant" and not tensor.is_floating_point():
                made = operation if operation.role == "discrete" else Operation("discrete", name.strip("_"))
            if made is not None:
                self.operations[tensor] = made

    def _write(self, target: Tensor, operation: Operation | None) -> None:
        """Note what was written into a tensor, and into those that share its memory."""
        memory = target.untyped_storage().data_ptr()
        for other in list(self.operations):
            if other is not target and other.untyped_storage().data_ptr() == memory:
                self.operations[other] = operation_of("cat", [self.operations[other], operation]) or Operation(
                    "other", "copy"
                )
        self.operations[target] = operation or Operation("other", "copy")


class _Watching(threading.local):
    watch: _Watch | None = None


_watching = _Watching()
Result = TypeVar("Result")


def watched(function: Callable[[], Result]) -> tuple[Result, Callable[[Tensor], Operation | None]]:
    """Call a function, and note which operations it makes; numbers are those of a plain call.

    Python code, TorchScript and ``torch.export`` programs can be watched; what runs elsewhere says itself what it did,
    with :func:`declare`, or is not known.

    Returns:
        What the function returns; and a function that tells what made a tensor that it returned, None where that is not
        known.

    Example:
        >>> import torch
        >>> logits, operation = watched(lambda: torch.nn.Conv2d(1, 2, 1)(torch.ones(1, 1, 4, 4)))
        >>> operation(logits)
        Operation(role='linear', name='convolution')
    """
    watch = _Watch()
    before, _watching.watch = _watching.watch, watch
    try:
        with watch:
            result = function()
    finally:
        _watching.watch = before

    def operation(tensor: Tensor) -> Operation | None:
        found = watch.operations.get(tensor)
        return None if found is None or found.role == "constant" else found

    return result, operation


def declare(tensor: Tensor, operation: Operation | None) -> None:
    """Say what made a tensor that was computed out of torch's sight, to whoever watches."""
    if _watching.watch is not None and operation is not None:
        _watching.watch.operations[tensor] = operation


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
