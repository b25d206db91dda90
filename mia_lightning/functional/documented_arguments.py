"""What docstrings of this package say of arguments, read without importing what they document."""

import ast
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import docstring_parser


def documented_arguments(module: str, *names: str) -> dict[str, str]:
    """Descriptions of the arguments of a class or function, read from its docstring without importing the module."""
    spec = find_spec(f"mia_lightning.{module}")
    assert spec is not None
    assert spec.origin is not None
    node: ast.AST = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for name in names:
        body = getattr(node, "body", ())
        node = next(n for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == name)
    assert isinstance(node, (ast.ClassDef, ast.FunctionDef))
    parsed = docstring_parser.parse(ast.get_docstring(node) or "")
    return {p.arg_name: " ".join((p.description or "").split()) for p in parsed.params}


def beginning_of(text: str) -> str:
    """The first sentence of a description, as far as it fits two lines."""
    sentence = re.split(r"(?<=\w\w[.)]) |; ", text)[0].replace("``", "").rstrip(".")
    return textwrap.shorten(f"{sentence}.", 90, placeholder=" ...")
