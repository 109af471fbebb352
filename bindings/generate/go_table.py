# SPDX-License-Identifier: Apache-2.0
"""Go's function table: its declaration, how cgo fills it, how purego fills it."""

from __future__ import annotations

from header import Function, Header, HeaderError, Type

MADE = "// SPDX-License-Identifier: Apache-2.0\n// Code generated from include/spectrumkv.h by scripts/generate.sh. DO NOT EDIT.\n"

SCALARS = {
    "int32_t": "int32",
    "skv_status": "int32",
    "int64_t": "int64",
    "uint8_t": "byte",
    "char": "byte",
    "uint32_t": "uint32",
    "uint64_t": "uint64",
    "size_t": "uintptr",
    "float": "float32",
    "double": "float64",
}


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.removeprefix("skv_").split("_"))


def go_type(kind: Type, found: Header, where: str) -> str:
    """The type in the table. Handles, void and functions are unsafe.Pointer."""
    if kind.base in found.callbacks:
        return "unsafe.Pointer"
    if kind.base in found.handles or (kind.base == "void" and kind.stars):
        return "*" * (kind.stars - 1) + "unsafe.Pointer"
    structs = {struct.name for struct in found.structs}
    base = camel(kind.base) if kind.base in structs else SCALARS.get(kind.base)
    if base is None:
        raise HeaderError(f"{where}: Go's table does not know {kind}")
    return "*" * kind.stars + base


def signature(function: Function, found: Header) -> str:
    parameters = ", ".join(f"{safe(p.name)} {go_type(p.type, found, function.name)}" for p in function.parameters)
    result = "" if function.result == Type("void", 0, False) else " " + go_type(function.result, found, function.name)
    return f"func({parameters}){result}"


def safe(name: str) -> str:
    return {"type": "kind", "len": "length", "range": "span", "func": "function"}.get(name, name)


def table(found: Header) -> str:
    out = [MADE, "// Package abi is the C ABI as Go functions. Either cgo fills the table, or the module purego does.",
           "package abi", "", 'import "unsafe"', ""]  # fmt: skip
    for struct in found.structs:
        out += [f"// {camel(struct.name)} is {struct.name}.", f"type {camel(struct.name)} struct {{"]
        for item in struct.fields:
            length = f"[{item.length}]" if item.length else ""
            about = f" // {item.text}" if item.text else ""
            out.append(f"\t{camel(item.name)} {length}{go_type(item.type, found, struct.name)}{about}")
        out += ["}", ""]
    out += ["// Table holds every function of the header.", "type Table struct {"]
    out += [f"\t{camel(f.name)} {signature(f, found)} // {f.name}" for f in found.functions]
    out += ["}", "", "// Handles are pointers to memory of the library's, never of Go's.", "var _ unsafe.Pointer"]
    out += [
        "",
        "// ABIVersion is what the loaded library must report.",
        f"const ABIVersion = {found.constant('SKV_ABI_VERSION')}",
    ]
    return "\n".join(out) + "\n"


def c_argument(kind: Type, name: str) -> str:
    stars = "*" * kind.stars
    if kind.base == "void":
        return name if kind.stars == 1 else f"(*unsafe.Pointer)(unsafe.Pointer({name}))"
    if kind.stars == 0:
        return f"C.{kind.base}({name})"
    return f"({stars}C.{kind.base})(unsafe.Pointer({name}))"


def cgo(found: Header) -> str:
    out = [MADE, "//go:build cgo && !spectrumkv_purego", "", "package abi", "", "/*",
           "#cgo !spectrumkv_flags pkg-config: spectrumkv", "#cgo spectrumkv_flags LDFLAGS: -lspectrumkv"]  # fmt: skip
    out += [f"#cgo nocallback {f.name}" for f in found.functions]
    out += [
        "#include <spectrumkv.h>",
        "*/",
        'import "C"',
        "",
        'import "unsafe"',
        "",
        "func init() {",
        "\tLib = &Table{",
    ]
    for f in found.functions:
        arguments = ", ".join(c_argument(p.type, safe(p.name)) for p in f.parameters)
        call = f"C.{f.name}({arguments})"
        if f.result.stars:
            call = f"return (*byte)(unsafe.Pointer({call}))"
        elif f.result.base != "void":
            call = f"return {go_type(f.result, found, f.name)}({call})"
        out.append(f"\t\t{camel(f.name)}: {signature(f, found)} {{ {call} }},")
    out += ["\t}", "}", ""]
    # What Go declares must be what C compiles, to the byte.
    out += [
        "// Sizes that must agree.",
        "var (",
    ]
    for struct in found.structs:
        out.append(f"\t_ [unsafe.Sizeof({camel(struct.name)}{{}})]byte = [C.sizeof_{struct.name}]byte{{}}")
    out += [")"]
    return "\n".join(out) + "\n"


def purego(found: Header) -> str:
    out = [MADE, "package purego", "", "// functions are the members of the table by the name of their symbol.",
           "func functions(t *abi.Table) map[string]any {", "\treturn map[string]any{"]  # fmt: skip
    out += [f'\t\t"{f.name}": &t.{camel(f.name)},' for f in found.functions]
    out += ["\t}", "}"]
    out.insert(2, "")
    return (
        "\n".join(out).replace(
            "package purego\n", 'package purego\n\nimport "MODULE/internal/abi"\n'.replace("MODULE", MODULE)
        )
        + "\n"
    )


MODULE = "github.com/spectrumkv/libspectrumkv/bindings/go"
