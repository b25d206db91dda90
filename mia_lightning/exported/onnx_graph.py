"""Which operation makes an output of an ONNX graph; read from the file, without a library for the format."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from mia_lightning.functional.last_operation import Operation, operation_of

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5  # fields of ModelProto, and of GraphProto
_INPUT, _OUTPUT, _KIND, _DOMAIN = 1, 2, 4, 7  # fields of NodeProto
_NAME = 8  # of TensorProto
_WIDTHS = {1: 8, 5: 4}  # bytes of numbers that are written at full width


def last_operations(path: Path) -> dict[str, Operation]:
    """What makes each tensor of a graph, by the tensor's name; what is not known is left out.

    Raises:
        ValueError: If the file is not written as the format says.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # Weights are passed over: only names are read.
        view = memoryview(content)
        try:
            return _operations(view)
        except IndexError as error:
            raise ValueError(f"{path} is not written as ONNX files are; export it again.") from error
        finally:
            view.release()


def _operations(content: memoryview) -> dict[str, Operation]:
    found: dict[str, Operation] = {}
    for graph in _fields(content, _GRAPH):
        for weights in _fields(graph, _INITIALIZER):
            for name in _texts(weights, _NAME):
                found[name] = Operation("constant", "initializer")
        for node in _fields(graph, _NODE):
            kinds, domains = _texts(node, _KIND), _texts(node, _DOMAIN)
            own = not any(domain not in ("", "ai.onnx", "com.microsoft") for domain in domains)
            operands = [found.get(name) for name in _texts(node, _INPUT) if name]
            made = operation_of(kinds[0], operands) if kinds and own else Operation("other", "".join(kinds))
            for name in _texts(node, _OUTPUT):
                if made is not None:
                    found[name] = made
    return {name: made for name, made in found.items() if made.role != "constant"}


def _texts(message: memoryview, number: int) -> list[str]:
    return [bytes(text).decode() for text in _fields(message, number)]


def _fields(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values with a length, of one number, of a message of protocol buffers."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        form = key & 7
        if form == 2:
            size, place = _varint(message, place)
            if key >> 3 == number:
                yield message[place : place + size]
            place += size
        elif form == 0:
            _, place = _varint(message, place)
        else:
            place += _WIDTHS[form] if form in _WIDTHS else len(message)


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
