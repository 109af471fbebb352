# SPDX-License-Identifier: Apache-2.0
"""The ``spectrumkv`` command."""

from __future__ import annotations

import sys

try:
    import typer
    from rich import console as _rich  # noqa: F401
except ModuleNotFoundError as _error:  # pragma: no cover
    sys.exit(f"spectrumkv: {_error}; the command needs: pip install 'spectrumkv[cli]'")

from spectrumkv.cli import decode, demo, doctor, encode, evaluate, inspect, probe, results, top

app = typer.Typer(
    name="spectrumkv",
    help="Moves an LLM's KV cache between processes in a fraction of its bytes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(doctor.doctor)
app.command()(encode.encode)
app.command()(decode.decode)
app.command()(inspect.inspect)
app.command()(probe.probe)
app.command()(top.top)
app.command()(demo.demo)
app.add_typer(evaluate.app, name="eval")
app.command()(results.plot)
app.command()(results.report)


def main() -> None:
    """Entry point of the console script."""
    app()
