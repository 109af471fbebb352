# SPDX-License-Identifier: Apache-2.0
"""What `include/spectrumkv.h` declares: functions, constants, structs, handles. Standard library only.

The header keeps to a small part of C on purpose (docs/abi.md), which this reads completely: a declaration it does not
understand is an error that names it, never a silent omission.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

SCALARS = ("int32_t", "int64_t", "uint8_t", "uint32_t", "uint64_t", "size_t", "float", "double", "char")


class HeaderError(Exception):
    """A declaration of the header that is not of the kind the bindings can express."""


@dataclass(frozen=True)
class Type:
    """A C type: ``const skv_cache*`` has base ``skv_cache``, 1 star, const."""

    base: str
    stars: int
    const: bool

    def __str__(self) -> str:
        return ("const " if self.const else "") + self.base + "*" * self.stars


@dataclass(frozen=True)
class Parameter:
    type: Type
    name: str


@dataclass(frozen=True)
class Function:
    name: str
    result: Type
    parameters: tuple[Parameter, ...]

    @property
    def fallible(self) -> bool:
        return bool(self.parameters) and self.parameters[-1].type == Type("skv_error", 1, False)

    def __str__(self) -> str:
        return f"{self.result} {self.name}({', '.join(f'{p.type} {p.name}' for p in self.parameters) or 'void'})"


@dataclass(frozen=True)
class Constant:
    name: str
    value: int
    text: str  # the comment behind it


@dataclass(frozen=True)
class Field:
    type: Type
    name: str
    length: int | None
    text: str


@dataclass(frozen=True)
class Struct:
    name: str
    fields: tuple[Field, ...]


@dataclass
class Header:
    functions: list[Function] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    structs: list[Struct] = field(default_factory=list)
    handles: list[str] = field(default_factory=list)
    callbacks: list[str] = field(default_factory=list)  # types of functions that the caller gives

    def constant(self, name: str) -> int:
        for constant in self.constants:
            if constant.name == name:
                return constant.value
        raise HeaderError(f"the header does not define {name}")

    @property
    def version(self) -> str:
        return ".".join(str(self.constant(f"SKV_VERSION_{part}")) for part in ("MAJOR", "MINOR", "PATCH"))


def _type(text: str, known: set[str], where: str) -> Type:
    const = bool(re.search(r"\bconst\b", text))
    match = re.fullmatch(r"\s*(\w+)\s*((?:\*\s*)*)", re.sub(r"\bconst\b", "", text))
    if match is None or match[1] not in known:
        raise HeaderError(f"{where}: a type that no binding knows: {text.strip()!r}")
    return Type(match[1], match[2].count("*"), const)


def _value(text: str, where: str) -> int:
    text = text.strip()
    while text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    match = re.fullmatch(r"(-?(?:0x[0-9a-fA-F]+|\d+))[uUlL]*", text)
    if match is None:
        raise HeaderError(f"{where}: not an integer constant: {text!r}")
    return int(match[1], 0)


def _comment(text: str) -> str:
    return " ".join(re.sub(r"^\s*\*", "", line).strip() for line in text.split("\n")).strip()


def read(path: Path) -> Header:
    """The header's declarations, in its order. Raises `HeaderError`."""
    text = path.read_text()
    found = Header()
    define = re.compile(r"^#define (SKV_\w+)[ \t]+([^\n/]+?)[ \t]*(?:/\*(.*?)\*/[ \t]*)?$", re.MULTILINE | re.DOTALL)
    for name, value, comment in define.findall(text):
        if name != "SKV_API":
            found.constants.append(Constant(name, _value(value, name), _comment(comment)))
    bare = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    defined = set(re.findall(r"^\s*#define (SKV_\w+)[ \t]+\S", bare, re.MULTILINE)) - {"SKV_API"}
    missing = defined - {constant.name for constant in found.constants}
    if missing:
        raise HeaderError(f"constants that were not understood: {', '.join(sorted(missing))}")

    found.handles = [name for tag, name in re.findall(r"typedef struct (skv_\w+) (skv_\w+);", bare) if tag == name]
    aliases = {name: base for base, name in re.findall(r"typedef (\w+) (skv_\w+);", bare)}
    found.callbacks = re.findall(r"typedef void \(\*(skv_\w+)\)\(", bare)
    known = {*SCALARS, "void", *aliases, *found.handles, *found.callbacks}
    body = re.compile(r"typedef struct (\w+) \{(.*?)\}\s*(\w+);", re.DOTALL)
    for _tag, fields, name in body.findall(text):
        known.add(name)
        lines = re.finditer(r"^\s*([\w ]+?[\s*]+)(\w+)(?:\[(\d+)\])?;[ \t]*(?:/\*(.*?)\*/)?", fields, re.M | re.S)
        members = [
            Field(_type(line[1], known, name), line[2], int(line[3]) if line[3] else None, _comment(line[4] or ""))
            for line in lines
        ]
        if len(members) != re.sub(r"/\*.*?\*/", " ", fields, flags=re.DOTALL).count(";"):
            raise HeaderError(f"struct {name}: fields that were not understood")
        found.structs.append(Struct(name, tuple(members)))

    for result, name, parameters in re.findall(r"SKV_API\s+([\w\s*]+?)\s*\b(skv_\w+)\s*\(([^;]*)\)\s*;", bare):
        items = []
        for parameter in [] if parameters.strip() == "void" else parameters.split(","):
            match = re.fullmatch(r"(.*?[\s*])(\w+)\s*", parameter, re.DOTALL)
            if match is None:
                raise HeaderError(f"{name}: a parameter that was not understood: {parameter.strip()!r}")
            items.append(Parameter(_type(match[1], known, name), match[2]))
        found.functions.append(Function(name, _type(result, known, name), tuple(items)))
    declared = len(re.findall(r"^SKV_API\b", bare, re.MULTILINE))
    if declared != len(found.functions):
        raise HeaderError(f"{declared} SKV_API declarations, {len(found.functions)} understood")
    return found
