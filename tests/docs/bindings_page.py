# SPDX-License-Identifier: Apache-2.0
"""Extracts the programs of docs/bindings.md, builds and runs each: what the page shows must work.

bindings_page.py ROOT BUILD
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

root, build = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
library = Path(os.environ["SKV_LIBRARY"])
cargo = Path(os.environ.get("CARGO_TARGET_DIR") or root / "build" / "cargo")
environment = {
    **os.environ,
    "LD_LIBRARY_PATH": str(library.parent),
    "SPECTRUMKV_LIBRARY": str(library),
    "PYTHONPATH": str(root / "bindings" / "python" / "src"),
    "PYTHONDONTWRITEBYTECODE": "1",
}
MODULE = "github.com/spectrumkv/libspectrumkv/bindings/go"


def run(folder: Path, *command: object, **more: str) -> str:
    texts = [str(part) for part in command]
    done = subprocess.run(
        texts, cwd=folder, env={**environment, **more}, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(texts)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def c(folder: Path) -> str:
    shutil.move(folder / "program", folder / "program.c")
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{root}/include")
    run(folder, os.environ.get("CC", "cc"), *flags, "program.c", library, "-o", "program")
    return run(folder, "./program")


def cpp(folder: Path) -> str:
    shutil.move(folder / "program", folder / "program.cc")
    flags = ("-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{root}/include", f"-I{root}/examples/cpp")
    run(folder, os.environ.get("CXX", "c++"), *flags, "program.cc", library, "-o", "program")
    return run(folder, "./program")


def python(folder: Path) -> str:
    return run(folder, sys.executable, "program")


def rust(folder: Path) -> str:
    shutil.move(folder / "program", folder / "program.rs")
    where = {"CARGO_TARGET_DIR": str(cargo), "SPECTRUMKV_LIB_DIR": str(library.parent)}
    run(root / "bindings" / "rust", "cargo", "build", "--quiet", "--locked", "-p", "spectrumkv", **where)
    crates = ("--extern", f"spectrumkv={cargo}/debug/libspectrumkv.rlib", "-L", f"dependency={cargo}/debug/deps")
    run(folder, "rustc", "--edition", "2024", "-D", "warnings", "program.rs", *crates, "-L", library.parent)
    return run(folder, "./program")


def go(folder: Path) -> str:
    shutil.move(folder / "program", folder / "program.go")
    (folder / "go.mod").write_text(
        f"module program\n\ngo 1.24\n\nrequire {MODULE} v0.1.0\n\nreplace {MODULE} => {root}/bindings/go\n"
    )
    where = {
        "GOCACHE": os.environ.get("GOCACHE") or str(root / "build" / "go"),
        "GOFLAGS": "-buildvcs=false",
        "CGO_CFLAGS": f"-I{root}/include",
        "CGO_LDFLAGS": f"-L{library.parent}",
    }
    run(folder, "go", "vet", "-tags=spectrumkv_flags", ".", **where)
    return run(folder, "go", "run", "-tags=spectrumkv_flags", ".", **where)


def java(folder: Path) -> str:
    shutil.move(folder / "program", folder / "Program.java")
    jni = f"-Dspectrumkv.jni={build}/bindings/all/swig/java/libspectrumkv_java.so"
    return run(folder, "java", jni, "-cp", root / "build" / "java" / "classes", "Program.java")


RUNNERS = {"c": c, "cpp": cpp, "python": python, "rust": rust, "go": go, "java": java}

page = (root / "docs" / "bindings.md").read_text()
programs = [(kind, text) for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S) if kind in RUNNERS]
if sorted(kind for kind, _ in programs) != sorted(RUNNERS):
    raise SystemExit(f"wanted one program for each of {', '.join(RUNNERS)}; found {[kind for kind, _ in programs]}")
for kind, text in programs:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "program").write_text(text)
        output = RUNNERS[kind](folder).strip()
    if not output:
        raise SystemExit(f"{kind}: printed nothing")
    print(f"{kind:>7}: {output}", flush=True)
