# SPDX-License-Identifier: Apache-2.0
"""Every package says the header's version: crates, Go modules, Maven, the wheel's source of it, Debian's file names.

versions.py ROOT [HEADER]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
sys.path.insert(0, str(root / "bindings" / "generate"))
import header  # noqa: E402

wanted = header.read(Path(sys.argv[2]) if len(sys.argv) > 2 else root / "include" / "spectrumkv.h").version
PLACES = {
    "bindings/rust/Cargo.toml": r'\[workspace\.package\][^\[]*?\nversion = "([^"]+)"',
    "bindings/rust/spectrumkv/Cargo.toml": r'spectrumkv-sys = \{ version = "=([^"]+)"',
    "bindings/rust/Cargo.lock": r'name = "spectrumkv"\nversion = "([^"]+)"',
    "bindings/go/purego/go.mod": r"bindings/go v([\d.]+)",
    "bindings/swig/java/pom.xml": r"<artifactId>spectrumkv</artifactId>.*?<version>([^<]+)</version>",
}
problems = []
for place, pattern in PLACES.items():
    match = re.search(pattern, (root / place).read_text(), re.DOTALL)
    found = match[1] if match else "nothing"
    if found != wanted:
        problems.append(f"{place}: version {found}, the header says {wanted}")
if 'input = "../../include/spectrumkv.h"' not in (root / "bindings/python/pyproject.toml").read_text():
    problems.append("bindings/python/pyproject.toml does not take its version from the header")
constants = (root / "bindings/python/src/spectrumkv/constants.py").read_text()
python = ".".join(re.findall(r"^VERSION_(?:MAJOR|MINOR|PATCH): Final = (\d+)$", constants, re.MULTILINE))
if python != wanted:
    problems.append(f"bindings/python constants: version {python}, the header says {wanted}")
for problem in problems:
    print(problem)
if not problems:
    print(f"{wanted} in {len(PLACES) + 2} places")
sys.exit(1 if problems else 0)
