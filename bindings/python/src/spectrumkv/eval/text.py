# SPDX-License-Identifier: Apache-2.0
"""The text whose tokens are evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Final

WIKITEXT: Final = Path("shared/data/wikitext-2-raw/wiki.test.first-half.raw")


def checkout() -> Path:
    """The root of the source checkout that this package lies in, else the current folder."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "include" / "spectrumkv.h").is_file():
            return parent
    return Path.cwd()


def find(explicit: Path | None = None) -> tuple[Path, bool]:
    """(file, whether it is the text that the published figures were made with).

    The WikiText-2 raw test set beside the checkout; without it, the public-domain text in ``examples/text``.
    """
    if explicit is not None:
        return explicit, False
    root = checkout()
    wikitext = root.parent / WIKITEXT
    if wikitext.is_file():
        return wikitext, True
    for path in sorted((root / "examples" / "text").glob("*.txt")):
        return path, False
    raise FileNotFoundError(
        f"no text: neither {WIKITEXT} beside the checkout nor examples/text/*.txt in it; give one with --text"
    )


def windows(
    tokens: list[int], length: int, count: int, *, stride: int | None = None, start: tuple[int, ...] = ()
) -> list[list[int]]:
    """The first ``count`` windows of ``length`` tokens each, ``stride`` (default: ``length``) apart, each beginning with
    the tokens ``start`` (a model's begin-of-sequence, or none), which count. Raises ValueError if there are fewer."""
    step = (length if stride is None else stride) - len(start)
    own = length - len(start)
    wanted = step * (count - 1) + own
    if len(tokens) < wanted:
        raise ValueError(f"the text has {len(tokens)} tokens: wanted {wanted} for {count} windows of {length}")
    return [[*start, *tokens[i * step : i * step + own]] for i in range(count)]
