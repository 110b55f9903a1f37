"""What the instructions of a compiled program are, and the products they do, from its text."""

import math
import re
from typing import NamedTuple

import numpy as np

_HEADER = re.compile(r"(?:ENTRY )?%([\w.-]+) \(.*\{$")
_LINE = re.compile(r"\s+(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\(([^)]*)\)(.*)")
_CALLS = r"calls=%([\w.-]+)"
_COUNTED = ("dot", "convolution")
# Parts of a traced path that name JAX's own plumbing.
_PLUMBING = {"jit(step)", "cond", "while", "body", "closed_call", "checkpoint"}


class Instruction(NamedTuple):
    """shape: of the result, as in "f32[128,10]". text: what follows the operands."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    text: str


class Operation(NamedTuple):
    """what: opcode and shapes. where: the part of the model. flops: of products, of one call."""

    what: str
    where: str
    flops: float


def operations(text: str) -> dict[str, Operation]:
    """Return the instructions of an optimised program's text (`compiled.as_text()`), by name.

    Those in a fusion are left out: they run as one. FLOPs are those of matrix products and
    convolutions, two for a multiplication and its addition; multiplications by padding or by the
    zeros of a dilation are no work. A fusion does what it holds; a loop, a branch or a call does
    nothing itself, as what it holds runs as instructions.
    """
    computations = parse(text)
    shapes = {i.name: i.shape for held in computations.values() for i in held}

    def described(instruction: Instruction) -> Operation:
        held = [instruction]
        if instruction.opcode == "fusion":
            held = computations[_attribute(instruction, _CALLS)]
        work = [(flops(one, shapes), one) for one in held if one.opcode in _COUNTED]
        total = sum(count for count, _ in work)
        # A product says the most by its operands; anything else by what it makes.
        what = _product(max(work)[1], shapes) if work else _short(instruction.shape)
        kind = instruction.opcode
        if kind == "fusion":
            kind = _attribute(instruction, r"kind=k(\w+)").lower() + " fusion"
        what = what if kind == "dot" else f"{kind} {what}"
        return Operation(what, path(_attribute(instruction, r'op_name="([^"]*)"')), total)

    fused = {_attribute(i, _CALLS) for held in computations.values() for i in held}
    alone = [held for name, held in computations.items() if name not in fused]
    return {i.name: described(i) for held in alone for i in held}


def parse(text: str) -> dict[str, list[Instruction]]:
    """Return the instructions of each computation, by its name."""
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = found.setdefault(header[1], [])
        elif match := _LINE.match(line):
            name, shape, opcode, operands, rest = match.groups()
            names = tuple(re.findall(r"%([\w.-]+)", operands))
            current.append(Instruction(name, shape, opcode, names, rest))
    return found


def flops(instruction: Instruction, shapes: dict[str, str]) -> float:
    """Return the operations of one matrix product or convolution; shapes: by instruction."""
    result = sizes(instruction.shape)
    first, second = (sizes(shapes[name]) for name in instruction.operands)
    if instruction.opcode == "dot":
        axes = _attribute(instruction, r"lhs_contracting_dims=\{([\d,]*)\}")
        contracted = math.prod(first[int(axis)] for axis in axes.split(",") if axis)
        return 2.0 * math.prod(result) * contracted
    labels = re.split("_|->", _attribute(instruction, r"dim_labels=([\w?]+_[\w?]+->[\w?]+)"))
    lhs, rhs, out = (
        dict(zip(label, size, strict=True))
        for label, size in zip(labels, (first, second, result), strict=True)
    )
    window = dict(re.findall(r"(\w+)=(\S+)", _attribute(instruction, r"window=\{([^}]*)\}")))
    pairs = 1
    for axis in sorted(set(labels[0]) & set("0123456789")):

        def along(key: str, default: str, axis: str = axis) -> str:
            return window[key].split("x")[int(axis)] if key in window else default

        places = np.arange(out[axis])[:, None] * int(along("stride", "1"))
        places = places + np.arange(rhs[axis]) * int(along("rhs_dilate", "1"))
        places = places - int(along("pad", "0_0").split("_")[0])
        dilation = int(along("lhs_dilate", "1"))
        inside = (places >= 0) & (places <= (lhs[axis] - 1) * dilation)
        pairs *= int((inside & (places % dilation == 0)).sum())
    return 2.0 * out["b"] * out["f"] * rhs["i"] * pairs


def sizes(shape: str) -> tuple[int, ...]:
    """Return the axes of "f32[128,10]{1,0}": (128, 10).

    >>> sizes("f32[128,10]{1,0}")
    (128, 10)
    """
    inside = shape.partition("[")[2].partition("]")[0]
    return tuple(int(size) for size in inside.split(",") if size)


def path(name: str) -> str:
    """Return where a traced operation stands in the model, in few words.

    >>> path("jit(step)/transpose(jvp(CNN))/Conv_1/cond/branch_0_fun/dot_general")
    'CNN/Conv_1/dot_general, backward'
    """
    parts = [part for part in name.split("/") if part not in _PLUMBING]
    parts = [part for part in parts if not re.fullmatch(r"branch_\d+_fun", part)]
    backward = any(part.startswith("transpose(") for part in parts)
    parts = [re.sub(r"^(?:\w+\()*([^()]*)\)*$", r"\1", part) for part in parts]
    words = [part for part, before in zip(parts, ["", *parts], strict=False) if part != before]
    return "/".join(words) + (", backward" if backward else "")


def _attribute(instruction: Instruction, pattern: str) -> str:
    match = re.search(pattern, instruction.text)
    return match[1] if match else ""


def _product(instruction: Instruction, shapes: dict[str, str]) -> str:
    operands = ", ".join(_short(shapes[name]) for name in instruction.operands)
    label = "conv" if instruction.opcode == "convolution" else "dot"
    return f"{label} {operands} -> {_short(instruction.shape)}"


def _short(shape: str) -> str:
    if shape.startswith("("):
        return f"({shape.count('[')} arrays)"
    kind, _, rest = shape.partition("[")
    return f"{'' if kind == 'f32' else kind}[{rest.partition(']')[0]}]"
