"""What the graph of a ``torch.export`` archive may hold: operators, names and arithmetic, nothing that runs code.

``torch.export.load`` hands symbolic sizes to ``sympy.sympify``, which evaluates Python, executes guards, writes names
into generated source, imports modules that output structures name, and calls any function below ``torch`` that a node
asks for. An archive from a stranger must therefore be read before it is loaded.
"""

import ast
import json
import keyword
import re
from typing import Any

import torch


class Refused(Exception):  # noqa: N818 - not an error of the program: the archive's
    """Why an archive is not loaded, in words that end a sentence."""


_TEXT = re.compile(r"[\w.@+\-]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.(\w+)\.(\w+)", re.ASCII)
_PLAIN_OPERATORS = re.compile(
    r"torch\._?sym_[a-z]\w*|math\.[a-z]\w*|torch\.ops\.higher_order\."
    r"(cond|map_impl|scan|while_loop|wrap_with_set_grad_enabled|wrap_with_autocast)|_operator\."
    r"(abs|add|and_|eq|floordiv|ge|getitem|gt|index|inv|invert|le|lshift|lt|mod|mul|ne|neg|not_|or_|pos|pow|rshift|sub|"
    r"truediv|xor)",
    re.ASCII,
)
_CALLS = frozenset({
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Abs", "Mod", "PythonMod",
    "FloorDiv", "CeilDiv", "CleanDiv", "ModularIndexing", "Where", "CeilToInt", "FloorToInt", "TruncToInt",
    "TruncToFloat", "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "LShift", "RShift", "PowByNatural",
    "FloatPow", "FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan", "And", "Or", "Not",
    "floor", "ceiling", "Infinity", "NegativeInfinity", "oo", "int_oo", "true", "false", "BooleanTrue",
    "BooleanFalse", "Zero", "One", "NegativeOne", "Half", "sym_max", "sym_min", "sym_not", "sym_float", "sym_ite",
    "sym_int", "sym_sum", "max", "min", "abs",
})  # fmt: skip
_SYMBOL = re.compile(r"[A-Za-z]{1,4}\d*", re.ASCII)
_ATTRIBUTES = frozenset({"size", "stride", "storage_offset"})
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
    ast.Constant, ast.Name, ast.Load, ast.Call, ast.keyword, ast.Subscript, ast.Attribute, ast.IfExp,
)  # fmt: skip
_STRUCTURES = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")


def check_graph(content: dict[str, Any]) -> dict[str, Any]:
    """Check everything that a serialised graph, ``models/model.json`` of an archive, holds.

    Returns:
        The graph without its metadata (stack traces and names of source files), which nothing needs.

    Raises:
        Refused: If it holds anything but operators, names and arithmetic.
    """
    cleaned: dict[str, Any] = _walk(content, "")
    return cleaned


def _walk(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        for name in value:
            if not _TEXT.fullmatch(name):
                raise Refused(f"it has a name that is none, {name!r}")
        return {name: {} if name == "metadata" else _walk(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, key) for item in value]
    if isinstance(value, str):
        _check_text(value, key)
    return value


def _check_text(text: str, key: str) -> None:
    if key in ("target", "as_operator"):
        _check_operator(text)
    elif key in ("expr_str", "guards_code"):
        _check_expression(text)
    elif key in ("in_spec", "out_spec"):
        _check_structure(json.loads(text)[1])
    elif key in ("name", "as_name", "forward_arg_names"):
        # These become names in generated source.
        if not _NAME.fullmatch(text) or keyword.iskeyword(text):
            raise Refused(f"it has a name that is none, {text!r}")
    elif key not in ("as_string", "as_strings") and not _TEXT.fullmatch(text):
        # Texts among an operator's arguments are quoted and stay texts.
        raise Refused(f"its {key} holds {text!r}, which is no name")


def _check_operator(target: str) -> None:
    if _PLAIN_OPERATORS.fullmatch(target):
        return
    found = _OPERATOR.fullmatch(target)
    if found is None:
        raise Refused(f"it calls {target!r}, which is no operator of torch")
    try:
        operator = getattr(getattr(getattr(torch.ops, found[1]), found[2]), found[3])
    except AttributeError:
        operator = None
    if not isinstance(operator, torch._ops.OpOverload):
        raise Refused(f"it calls {target!r}, an operator that torch {torch.__version__} does not know here")
    if any(argument.name == "filename" for argument in operator._schema.arguments):
        raise Refused(f"it calls {target!r}, which opens files")


def _check_expression(text: str) -> None:
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Refused(f"it has a size that is no arithmetic, {text!r}") from None
    calls = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if not isinstance(node, _ARITHMETIC) or not _is_harmless(node, id(node) in calls):
            raise Refused(f"it has a size that is no arithmetic, {text!r}")


def _is_harmless(node: ast.AST, called: bool) -> bool:
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, (str, bytes)) or _is_text(node.value)
    if isinstance(node, ast.Name):
        symbol = node.id in ("L", "torch", "math") or _SYMBOL.fullmatch(node.id) is not None
        return node.id in _CALLS or (symbol and not called)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _is_small(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and "Pow" in node.func.id:
        return len(node.args) == 2 and _is_small(node.args[1])
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in ("torch", "math"):
            return node.attr in _CALLS
        return called and node.attr in _ATTRIBUTES
    return not isinstance(node, ast.Call) or isinstance(node.func, (ast.Name, ast.Attribute))


def _is_small(exponent: ast.expr) -> bool:
    # A tower of powers would be computed for ever.
    inner = exponent.args[0] if isinstance(exponent, ast.Call) and len(exponent.args) == 1 else exponent
    try:
        return ast.literal_eval(inner) in range(-64, 65)
    except (ValueError, TypeError):
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None


def _check_structure(spec: Any) -> None:
    if spec["type"] not in _STRUCTURES:
        raise Refused(
            f"its inputs or outputs are of the class {spec['type']}; tensors, tuples, lists and dicts are read"
        )
    keys = json.loads(spec["context"]) if isinstance(spec["context"], str) else spec["context"]
    if keys is not None and not (isinstance(keys, list) and all(isinstance(k, int) or _is_text(k) for k in keys)):
        raise Refused(f"its inputs or outputs have keys that are no names, {keys!r}")
    for child in spec["children_spec"]:
        _check_structure(child)
