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


def windows(tokens: list[int], length: int, count: int) -> list[list[int]]:
    """The first ``count`` windows of ``length`` tokens each, one after the other. Raises ValueError if there are fewer."""
    if len(tokens) < length * count:
        raise ValueError(f"the text has {len(tokens)} tokens: wanted {count} windows of {length}")
    return [tokens[i * length : (i + 1) * length] for i in range(count)]
