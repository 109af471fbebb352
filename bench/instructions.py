#!/usr/bin/env python3
"""Instructions per element of every kernel, on every target of this CPU (bench/instructions.cc says how).

Scalar and AVX2 kernels are counted by callgrind; valgrind knows no AVX-512, whose kernels a process steps through
under ptrace (virtual machines have no counters for `perf stat`). Counts are exact and repeat, so that a change of a
few per cent is one of the code or of the compiler; the committed ones are keyed by compiler, and another one is not
compared.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "docs/results/instructions.json"
TOLERANCE = 0.03  # alignment of buffers and of glibc's own code moves a count by less
SKIPPED = 77  # what ctest takes for "skipped"
DIGITS = 4

Counts = dict[str, float]


class UnavailableError(Exception):
    """What it takes to count is not here."""


def run(command: list[str], folder: str) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode in (3, SKIPPED):
        raise UnavailableError(done.stderr.strip() or "ptrace is not permitted here")
    if done.returncode != 0:
        sys.exit(f"instructions: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()


def compiler_of(lines: list[str]) -> str:
    return lines[0].removeprefix("compiler ")


def by_callgrind(program: Path) -> tuple[str, Counts]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            lines = run(
                ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--callgrind-out-file=out", str(program)],
                folder,
            )
        except FileNotFoundError:
            raise UnavailableError("valgrind is not installed: ./scripts/setup.sh") from None
        elements = {name: int(count) for name, count in (line.split() for line in lines[1:])}
        counts: Counts = {}
        for part in Path(folder).glob("out.*"):
            head = part.read_text().partition("\n\nob=")[0]
            name = re.search(r"^desc: Trigger: Client Request: (\S+)$", head, re.MULTILINE)
            total = re.search(r"^summary: (\d+)$", head, re.MULTILINE)
            if name is not None and total is not None:
                counts[name[1]] = round(int(total[1]) / elements[name[1]], DIGITS)
    if missing := sorted(elements.keys() - counts.keys()):
        sys.exit(f"instructions: callgrind gave no count for {', '.join(missing)}")
    return compiler_of(lines), dict(sorted(counts.items()))


def by_steps(program: Path, target: str, dims: list[str]) -> tuple[str, Counts]:
    lines = run([str(program), "--step", target, *dims], "/")
    return compiler_of(lines), {
        name: round(int(count) / int(elements), DIGITS)
        for name, elements, count in (line.split() for line in lines[1:])
    }


def measure(program: Path, parts: list[str]) -> tuple[str, dict[str, Counts]]:
    compiler = ""
    measured: dict[str, Counts] = {}
    for part in parts:
        try:
            if part == "callgrind":
                compiler, measured[part] = by_callgrind(program)
            else:
                compiler, measured[part] = by_steps(program, "avx512", ["128"])
        except UnavailableError as reason:
            print(f"SKIPPED: {part}: {reason}")
    return compiler, measured


def check(compiler: str, measured: dict[str, Counts], committed: dict[str, dict[str, Counts]]) -> int:
    if compiler not in committed:
        print(
            f"SKIPPED: counts of {compiler!r} are not committed, only of {', '.join(map(repr, committed))}; "
            "they are not compared"
        )
        return SKIPPED
    moved = 0
    for part, counts in measured.items():
        here = {name.partition("/")[0] for name in counts}
        committed_here = committed[compiler].get(part, {}).items()
        wanted = {name: count for name, count in committed_here if name.partition("/")[0] in here}
        for name in sorted(counts.keys() | wanted.keys()):
            got, want = counts.get(name), wanted.get(name)
            if got is None or want is None:
                print(f"{part} {name}: {'not committed' if want is None else 'not counted any more'}")
                moved += 1
            elif abs(got - want) > TOLERANCE * want:
                print(
                    f"{part} {name}: {got:.4f} instructions an element, committed are {want:.4f} ({got / want - 1:+.1%})"
                )
                moved += 1
    if moved:
        print(
            f"{moved} counts moved by more than {TOLERANCE:.0%}. If they should: python3 bench/instructions.py --record"
        )
        return 1
    print(
        f"{sum(map(len, measured.values()))} counts, of the targets of this CPU, are within {TOLERANCE:.0%} of those committed"
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/bench/instructions")
    parser.add_argument("--part", choices=["callgrind", "stepped"], help="one of the two ways of counting only")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--json", type=Path, metavar="FILE", help="write the counts there")
    what.add_argument("--check", action="store_true", help="compare with the committed ones")
    what.add_argument("--record", action="store_true", help="commit to them: docs/results/instructions.json")
    options = parser.parse_args()

    committed: dict[str, dict[str, Counts]] = {}
    if COMMITTED.exists():
        committed = json.loads(COMMITTED.read_text())["instructions_per_element"]
    compiler, measured = measure(options.program, [options.part] if options.part else ["callgrind", "stepped"])
    if not measured:
        return SKIPPED
    if options.check:
        return check(compiler, measured, committed)
    out = options.json or COMMITTED
    kept = committed if options.record else {}
    kept = {**kept, compiler: {**kept.get(compiler, {}), **measured}}
    document = {
        "made_by": "python3 bench/instructions.py --record",
        "elements": {
            "callgrind": "of a chunk of 256 tokens",
            "stepped": "of a chunk of 16 tokens",
            "dots, accumulate": "of 64 vectors with one head",
            "softmax": "values",
            "charge": "tokens",
            "digest": "bytes of a leaf",
        },
        "tolerance": TOLERANCE,
        "instructions_per_element": kept,
    }
    out.write_text(json.dumps(document, indent=1, sort_keys=False) + "\n")
    print(f"{sum(map(len, measured.values()))} counts of {compiler} in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
