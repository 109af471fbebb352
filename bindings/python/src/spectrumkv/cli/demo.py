# SPDX-License-Identifier: Apache-2.0
"""``spectrumkv demo``."""


def demo() -> None:
    """Placeholder."""
