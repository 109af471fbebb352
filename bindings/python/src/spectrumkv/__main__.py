# SPDX-License-Identifier: Apache-2.0
"""``python -m spectrumkv``: the command, where the console script is not on the path."""

from spectrumkv.cli import main

main()
