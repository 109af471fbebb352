# SPDX-License-Identifier: Apache-2.0
"""Makes the constants of the Rust and Go bindings, and Go's function tables, from `include/spectrumkv.h`.

    generate.py [--check] [HEADER]

With ``--check`` nothing is written: files that are out of date are named with the functions and constants they lack,
and the exit status is 1. Raw Rust bindings are bindgen's (`bindings/rust/generate.sh`); `scripts/generate.sh` runs both.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import go_table
import header
from header import Constant, Header

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Group:
    """Constants that become one type."""

    name: str
    prefix: str
    text: str
    only: tuple[str, ...] = ()  # names after the prefix; empty: all
    go: str = ""  # prefix of Go's names; the C name's by default


# In order: a constant belongs to the first group that takes it. What none takes stays a plain constant.
GROUPS = (
    Group("Status", "SKV_E_", "What a call returned: 0 is success, 1 is not finished, negative is an error.", go="Err"),
    Group("Status", "SKV_", "", ("OK", "IN_PROGRESS"), go=""),
    Group("Half", "SKV_", "Which half of a layer.", ("K", "V"), go=""),
    Group("DType", "SKV_", "Element types.", ("F16", "BF16", "F32"), go=""),
    Group("Tier", "SKV_TIER_", "How many bits a token's row is sent with."),
    Group("Transforms", "SKV_TRANSFORM_", "A set of transforms, one bit each, per layer and half."),
    Group("Code", "SKV_CODE_", "Quantizers."),
    Group("Security", "SKV_SECURITY_", "How the ends of a conn prove who they are."),
    Group("Verdict", "SKV_VERDICT_", "Whether tiers below 8 bits are safe for a model."),
    Group("Probe", "SKV_PROBE_", "What can find that out."),
    Group("Proof", "SKV_PROOF_", "Who allowed tiers below 8 bits."),
    Group("Pack", "SKV_PACK_", "Whether encoding packs."),
    Group("EventKind", "SKV_EVENT_", "What happened at an endpoint."),
    Group("Scored", "SKV_SCORED_", "Where a plan's scores came from."),
    Group("Plane", "SKV_PLANE_", "What carries bytes between peers."),
    Group("EngineKey", "SKV_ENGINE_", "Options of an engine."),
    Group("Target", "SKV_TARGET_", "Instruction sets of an engine's kernels."),
    Group("CacheKey", "SKV_CACHE_", "Options of a cache."),
    Group("PlanKey", "SKV_PLAN_", "Options of a plan, set before it is solved."),
    Group("PayloadKey", "SKV_PAYLOAD_", "Facts about a payload or one of its segments."),
    Group("EndpointKey", "SKV_ENDPOINT_", "Options of an endpoint, set before it listens or connects."),
    Group("ConnKey", "SKV_CONN_", "Facts about a conn."),
    Group("RequestState", "SKV_REQUEST_", "States of a request.", ("PENDING", "OFFERED", "MOVING", "ENDED")),
    Group("RequestKey", "SKV_REQUEST_", "Facts about a request."),
)
PLAIN = ("SKV_REQUEST_ID_BYTES",)
DIGITS = {"2BIT": "TWO_BIT", "4BIT": "FOUR_BIT", "6BIT": "SIX_BIT", "8BIT": "EIGHT_BIT"}

Grouped = dict[str, tuple[str, list[tuple[Constant, Group]]]]


def grouped(constants: list[Constant]) -> tuple[Grouped, list[Constant]]:
    """Type name -> (text, members); and the plain constants."""
    groups: Grouped = {}
    plain = []
    for constant in constants:
        for group in GROUPS:
            rest = constant.name.removeprefix(group.prefix)
            if constant.name in PLAIN or rest == constant.name or (group.only and rest not in group.only):
                continue
            text, members = groups.setdefault(group.name, (group.text, []))
            groups[group.name] = (text or group.text, members)
            members.append((constant, group))
            break
        else:
            plain.append(constant)
    return groups, plain


MADE = "Made from include/spectrumkv.h by scripts/generate.sh. Do not edit."


def rust(found: Header) -> str:
    groups, _plain = grouped(found.constants)
    out = [
        "// SPDX-License-Identifier: Apache-2.0",
        f"// {MADE}",
        "",
        "use spectrumkv_sys as sys;",
        "",
        "macro_rules! constants {",
        "    ($(#[$text:meta])* $name:ident { $($(#[$about:meta])* $member:ident = $c:ident,)* }) => {",
        "        $(#[$text])*",
        "        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]",
        "        pub struct $name(pub i32);",
        "",
        "        impl $name {",
        "            $($(#[$about])* pub const $member: Self = Self(sys::$c);)*",
        "",
        "            /// Every value that this version knows, with its C name.",
        "            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$member, stringify!($c)),)*];",
        "        }",
        "",
        "        impl core::fmt::Debug for $name {",
        "            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {",
        "                match Self::ALL.iter().find(|(value, _)| value == self) {",
        "                    Some((_, name)) => f.write_str(name),",
        '                    None => write!(f, concat!(stringify!($name), "({})"), self.0),',
        "                }",
        "            }",
        "        }",
        "    };",
        "}",
    ]
    for name, (text, members) in groups.items():
        out += ["", "constants! {", f"    /// {text}", f"    {name} {{"]
        for constant, group in members:
            member = constant.name.removeprefix(group.prefix)
            member = DIGITS.get(member, member)
            about = constant.text or f"`{constant.name}`."
            about = about[0].upper() + about[1:] + ("" if about.endswith(".") else ".")
            about = about.replace("[", r"\[").replace("<", r"\<")
            out += [f"        /// {about}", f"        {member} = {constant.name},"]
        out += ["    }", "}"]
    return "\n".join(out) + "\n"


INITIALISMS = {"CPU": "CPU", "ID": "ID", "TCP": "TCP", "MS": "MS", "NS": "NS", "IO": "IO", "CUDA": "CUDA",
               "NCCL": "NCCL", "ABI": "ABI", "KV": "KV", "OK": "OK", "K": "K", "V": "V", "AVX2": "AVX2",
               "AVX512": "AVX512", "DTYPE": "DType", "F16": "F16", "BF16": "BF16", "F32": "F32"}  # fmt: skip


def camel(name: str) -> str:
    """``PLAN_K_TIERS`` -> ``PlanKTiers``."""
    return "".join(INITIALISMS.get(word, word[0] + word[1:].lower()) for word in name.split("_"))


def go_name(constant: Constant, group: Group | None) -> str:
    if group is not None and group.go == "Err":
        return "Err" + camel(constant.name.removeprefix(group.prefix))
    name = camel(re.sub(r"(\d)BIT$", r"\1_BIT", constant.name.removeprefix("SKV_")))
    return name + "Key" if name in {g.name for g in GROUPS} else name


def go(found: Header) -> str:
    groups, plain = grouped(found.constants)
    out = ["// SPDX-License-Identifier: Apache-2.0", "// Code generated from include/spectrumkv.h by scripts/generate.sh. DO NOT EDIT.",
           "", "package spectrumkv", "", "// Versions, sizes and special values.", "const ("]  # fmt: skip
    for constant in plain:
        about = f" // {constant.text}" if constant.text else ""
        out.append(f"\t{go_name(constant, None)} = {constant.value}{about}")
    out.append(")")
    for name, (text, members) in groups.items():
        out += ["", f"// {name}: {text[0].lower() + text[1:]}", f"type {name} int32", "", "const ("]
        for constant, group in members:
            about = f" // {constant.text}" if constant.text else ""
            out.append(f"\t{go_name(constant, group)} {name} = {constant.value}{about}")
        out += [")", "", f"var names{name} = map[{name}]string{{"]
        out += [f'\t{go_name(constant, group)}: "{constant.name}",' for constant, group in members]
        out += ["}", "", "// String is the C name, or the number of a value that this version does not know."]
        out += [f"func (x {name}) String() string {{ return nameOf(x, names{name}) }}"]
    return gofmt("\n".join(out) + "\n")


def gofmt(text: str) -> str:
    made = subprocess.run(["gofmt"], input=text, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise SystemExit(f"gofmt: {made.stderr}")
    return made.stdout


def main() -> int:
    check = "--check" in sys.argv[1:]
    others = [argument for argument in sys.argv[1:] if argument != "--check"]
    found = header.read(Path(others[0]) if others else ROOT / "include" / "spectrumkv.h")
    bindings = ROOT / "bindings"
    files = {
        bindings / "rust" / "spectrumkv" / "src" / "constants.rs": rust(found),
        bindings / "go" / "constants.go": go(found),
        bindings / "go" / "internal" / "abi" / "table.go": gofmt(go_table.table(found)),
        bindings / "go" / "internal" / "abi" / "cgo.go": gofmt(go_table.cgo(found)),
        bindings / "go" / "purego" / "table.go": gofmt(go_table.purego(found)),
    }
    stale = 0
    for path, text in files.items():
        old = path.read_text() if path.exists() else ""
        if old == text:
            continue
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            continue
        stale += 1
        print(f"{path.relative_to(ROOT)} is not what the header says:", file=sys.stderr)
        before, after = (set(re.findall(r"\b(?:skv|SKV)_\w+", t)) for t in (old, text))
        for name in sorted(after - before):
            print(f"  {name} is missing", file=sys.stderr)
        for name in sorted(before - after):
            print(f"  {name} is not in the header", file=sys.stderr)
    if stale:
        print("run scripts/generate.sh and commit the result", file=sys.stderr)
        return 1
    print(f"{len(found.functions)} functions, {len(found.constants)} constants, {len(found.structs)} structs")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except header.HeaderError as error:
        sys.exit(f"include/spectrumkv.h: {error}")
