# SPDX-License-Identifier: Apache-2.0
"""Who may include whom (docs/architecture.md, "The include law"). Fails with the line that breaks it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

root = Path(sys.argv[1]).resolve()
ANY_INCLUDE = re.compile(r"^\s*#\s*include\s+(\S+)", re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
FORBIDDEN_NAMES = {"utils", "util", "common", "misc", "helpers", "helper"}

# For each stem of src/: the project headers its .h and .cc may include. Files not listed may include anything.
ALLOWED: dict[str, set[str]] = {
    "error": {"error"},
    "payload": {"error", "payload", "payload_fields"},
    "payload_read": {"error", "payload", "payload_fields"},
    "payload_upgrade": {"error", "payload", "payload_fields"},
    "payload_fields": {"payload"},
    "byte_columns": {"byte_columns"},
    "packed": {"error", "byte_columns", "packed", "payload", "payload_fields"},
    "payload_memory": {"error", "payload_memory"},
    "payload_planes": {"payload", "payload_planes"},
    "cache": {"error", "cache", "kernels/tiers"},
    "cache_overlap": {"error", "cache"},
    "plan": {"error", "payload", "plan", "allocate", "policy", "profile", "row_values", "spread", "kernels/tiers"},
    "policy": {"plan", "policy", "kernels/tiers"},
    "profile": {"error", "profile", "kernels/kernels"},
    "allocate": {"plan", "allocate", "spread", "kernels/tiers"},
    "spread": set(),
    "row_values": {"row_values", "kernels/tiers"},
    "engine": {"error", "arena", "engine", "device", "spread", "workers", "kernels/kernels"},
    "workers": {"error", "workers"},
    "arena": set(),
    "device": {"error", "kernels/cuda/cuda"},
    "llama": {"error", "cache", "payload", "llama"},
    "transport/frame": {"error", "transport/frame"},
}
ONLY_IN = {"codec": {"codec", "codec_source", "codec_truncate", "codec_upgrade", "payload_handle", "payload_device", "packing", "payload_packed", "payload_stages", "probe", "api"}, "codec_upgrade": {"codec_truncate", "api"}, "transport/endpoint": {"api"}}

problems: list[str] = []


def key(path: str) -> str:
    return re.sub(r"\.(h|cc|cu|cuh)$", "", path)


def includes(file: Path) -> list[str]:
    found = []
    for name in INCLUDE.findall(file.read_text()):
        for base in (root / "src", file.parent, root):
            target = (base / name).resolve()
            if target.is_file():
                relative = target.relative_to(root)
                found.append(key(str(relative.relative_to("src") if relative.parts[0] == "src" else relative)))
                break
        else:
            if name != "spectrumkv.h" and not name.startswith("hwy/"):
                problems.append(f"{file.relative_to(root)}: includes {name}, which is not in the project")
    return found


checked = 0
for file in sorted([*root.glob("src/**/*.[ch]*"), *root.glob("kernels/**/*.[ch]*")]):
    relative = str(file.relative_to(root))
    stem = key(relative.removeprefix("src/"))
    checked += 1
    every = ANY_INCLUDE.findall(file.read_text())
    if any(name.startswith("<asio") for name in every) and not every[0].startswith('"transport/'):
        problems.append(f"{relative}: transport/asio_setup.h, or a header that begins with it, must come before {every[0]} and Asio")
    if any(part in FORBIDDEN_NAMES for part in stem.split("/")):
        problems.append(f"{relative}: a file may not be called {FORBIDDEN_NAMES}")
    for target in includes(file):
        if relative.startswith("kernels/") and not (target.startswith("kernels/") or target == "include/spectrumkv"):
            problems.append(f"{relative}: kernels/ may not include {target} of src/")
        if stem in ALLOWED and target not in ALLOWED[stem] | {stem, "include/spectrumkv"}:
            problems.append(f"{relative}: {stem} may not include {target}")
        calls = stem == "transport/device_calls" and target == "kernels/cuda/cuda"  # plain C++ over the CUDA runtime
        calls |= stem == "transport/digest" and target == "kernels/kernels"  # XXH3 with the widest vectors there are
        if stem.startswith("transport/") and not (calls or target.startswith("transport/") or target in ("error", "payload_memory", "include/spectrumkv")):
            problems.append(f"{relative}: transport/ never sees tensors, may not include {target}")
        owners = ONLY_IN.get(target)
        if owners is not None and stem not in owners | {target} and not stem.startswith("transport/"):
            problems.append(f"{relative}: only {sorted(owners)} may include {target}")

for line in problems:
    print(line)
print(f"{checked} files checked, {len(problems)} breaks of the include law")
sys.exit(1 if problems or checked < 20 else 0)
