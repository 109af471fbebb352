# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv doctor``."""

from __future__ import annotations

import json
import platform
from array import array
from collections.abc import Callable
from importlib import metadata
from typing import Annotated

import typer
from rich.table import Table

from spectrumkv import __version__
from spectrumkv._abi import candidates, library
from spectrumkv.buffers import describe
from spectrumkv.cache import Cache
from spectrumkv.cli.console import out
from spectrumkv.constants import ABI_VERSION, DType, Half, Target
from spectrumkv.engine import Engine
from spectrumkv.errors import LibraryError, ResourceError, SpectrumKVError
from spectrumkv.payload import Payload
from spectrumkv.plan import Plan
from spectrumkv.transport import Endpoint

OPTIONAL = {
    "numpy": "encode and decode .npz",
    "typer": "this command",
    "rich": "this command",
    "matplotlib": "the demo's picture",
    "llama-cpp-python": "the demo's engine",
    "ml_dtypes": "bfloat16 arrays",
}
_TOKENS, _HEADS, _DIM = 300, 2, 64

Check = tuple[str, bool, str]


def doctor(json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """Say whether this installation works, and what it has.

    Finds the library, checks its versions, encodes and decodes a small cache with every instruction set of this CPU, and
    moves a payload over every plane. Exit code 1 if anything that should work does not.
    """
    checks = run_checks()
    packages = {name: _package_version(name) for name in OPTIONAL}
    healthy = all(good for _, good, _ in checks)
    if json_:
        report = {
            "ok": healthy,
            "checks": [{"name": name, "ok": good, "detail": detail} for name, good, detail in checks],
            "packages": packages,
            "python": platform.python_version(),
        }
        typer.echo(json.dumps(report, indent=2))
    else:
        console = out()
        table = Table(title=f"spectrumkv {__version__}, Python {platform.python_version()}", title_justify="left")
        for column in ("check", "", "detail"):
            table.add_column(column, overflow="fold")
        for name, good, detail in checks:
            table.add_row(name, "[green]ok[/]" if good else "[bold red]FAILED[/]", detail.replace("[", "\\["))
        console.print(table)
        table = Table(title="optional packages", title_justify="left")
        for column in ("package", "version", "for"):
            table.add_column(column)
        for name, version in packages.items():
            table.add_row(name, version or "not installed", OPTIONAL[name])
        console.print(table)
        console.print("everything works" if healthy else "something does not work: see FAILED above")
    raise typer.Exit(0 if healthy else 1)


def run_checks() -> list[Check]:
    """(name, good, detail) of everything that can be wrong."""
    try:
        lib = library()
    except LibraryError as error:
        return [("library", False, f"{error}; looked in: {', '.join(candidates())}")]
    major, minor = lib.wire_version()
    checks: list[Check] = [
        ("library", lib.version() == __version__, f"{lib.path}: version {lib.version()}, this package {__version__}"),
        ("ABI", True, f"{lib.dll.skv_abi_version()}, this package {ABI_VERSION}"),
        ("wire format", True, f"{major}.{minor}"),
    ]
    checks.append(_check("engine", lambda: Engine().describe()))
    payload: list[Payload] = []
    checks.append(_check("SIMD targets", lambda: _targets(payload)))
    checks.append(_check("round trip", lambda: _round_trip(payload[0])))
    for name, uri in (
        ("plane inproc", "inproc://spectrumkv-doctor"),
        ("plane inline, Unix", "unix://@spectrumkv-doctor"),
        ("plane inline, TCP", "tcp://127.0.0.1:0"),
    ):
        checks.append(_check(name, lambda uri=uri: _move(uri, payload[0])))  # type: ignore[misc]
    return checks


def _check(name: str, work: Callable[[], str]) -> Check:
    try:
        return name, True, work()
    except (SpectrumKVError, AssertionError, IndexError) as error:
        return name, False, str(error) or type(error).__name__


def _values() -> tuple[array[float], array[float]]:
    count = _TOKENS * _HEADS * _DIM
    return (
        array("f", ((i * 37 % 101) / 50 - 1 + (i % _DIM) * 0.1 for i in range(count))),
        array("f", ((i * 53 % 97) / 48 - 1 for i in range(count))),
    )


def _cache(k: array[float], v: array[float]) -> Cache:
    cache = Cache(1)
    cache.set_tokens(0, 0, _TOKENS)
    cache.set_layer(0, _HEADS, _DIM, _DIM, DType.F32)
    for half, plane in ((Half.K, k), (Half.V, v)):
        cache.set_plane(0, half, describe(plane), stride_token=_HEADS * _DIM * 4, stride_head=_DIM * 4, stride_elem=4)
    return cache


def _targets(payload: list[Payload]) -> str:
    """Encodes with every instruction set of this CPU: the bytes must be the same."""
    found = {}
    for target in (Target.SCALAR, Target.AVX2, Target.AVX512, Target.NEON):
        try:
            engine = Engine(target=target)
        except ResourceError:
            continue
        cache = _cache(*_values())
        found[target] = engine.encode(cache, Plan(engine, budget=0.4, unproven=True).solve(cache))
    assert found, "no target works"
    assert len({bytes(each) for each in found.values()}) == 1, "payload bytes differ between targets"
    payload.append(next(iter(found.values())))
    return f"{', '.join(target.name.lower() for target in found)}: equal bytes; in use: {Engine().target.name.lower()}"


def _round_trip(payload: Payload) -> str:
    k, v = _values()
    k2, v2 = array("f", bytes(4 * len(k))), array("f", bytes(4 * len(v)))
    Engine().decode(payload, _cache(k2, v2))
    worst = max(max(abs(a - b) for a, b in zip(x, y)) for x, y in ((k, k2), (v, v2)))
    assert worst < 0.5, f"largest error {worst:.3f} of values in -1 … 7"
    return f"{payload.nbytes:,} B = {payload.nbytes / payload.raw_bytes:.3f} of raw, largest error {worst:.3f}"


def _move(uri: str, payload: Payload) -> str:
    with Endpoint() as server, Endpoint() as client:
        bound = server.listen(uri)
        with client.connect(bound, 5) as there, server.accept(5) as here, there.send(1, payload, 5) as sending:
            got = here.receive(5)
            sending.result(5)
            assert bytes(got) == bytes(payload), "other bytes arrived"
            return f"{bound}: {payload.nbytes:,} B in {got.receipt().wire_ns / 1e6:.2f} ms"


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
