"""Reads from a compiled program what crosses between devices, and in which loop.

Bytes are those of one device's operand.
"""

import re
from typing import NamedTuple

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
KINDS = "all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter|ragged-all-to-all"


class Collective(NamedTuple):
    """One exchange between devices, as it stands in the program."""

    kind: str
    sizes: tuple[int, ...]  # numbers in each of its operands
    num_bytes: int  # of all
    loops: tuple[str, ...]  # bodies of the loops around it, from the outermost


def collectives(text: str) -> list[Collective]:
    """All of a program in HLO's text form, `compiled.as_text()`."""
    bodies = dict(_computations(text))
    called_from = {
        name: caller
        for caller, lines in bodies.items()
        for line in lines
        for name in re.findall(r"(?:body|condition|to_apply|calls|\w+_computation)=%?([\w.\-]+)", line)
    }
    called_from |= {
        name.strip(" %"): caller
        for caller, lines in bodies.items()
        for line in lines
        for names in re.findall(r"branch_computations=\{([^}]*)\}", line)
        for name in names.split(",")
    }
    loops = set(re.findall(r"body=%?([\w.\-]+)", text))

    def around(name):
        outer = around(called_from[name]) if name in called_from else ()
        return (*outer, name) if name in loops else outer

    found = []
    for name, lines in bodies.items():
        for line in lines:
            told = re.search(rf"= (\(.*?\)|\S+) ({KINDS})(-start)?\(", line)
            if told:
                arrays = re.findall(r"(\w+)\[([\d,]*)\]", told[1])
                sizes = tuple(_product(shape) for _, shape in arrays)
                total = sum(size * BYTES[kind] for size, (kind, _) in zip(sizes, arrays, strict=True))
                found.append(Collective(told[2], sizes, total, around(name)))
    return found


def _computations(text):
    """(name, lines) of each."""
    for block in re.split(r"\n(?=(?:ENTRY )?%?[\w.\-]+ \()", text):
        head = re.match(r"(?:ENTRY )?%?([\w.\-]+) \(", block)
        if head:
            yield head[1], block.splitlines()[1:]


def _product(shape):
    size = 1
    for number in filter(None, shape.split(",")):
        size *= int(number)
    return size
