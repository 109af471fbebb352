# SPDX-License-Identifier: Apache-2.0
"""The demo: a real model's KV cache moves from a prefill process to a decode process over TCP.

`prefill` and `decode` are the two processes, `peer` the pipe by which the first starts and steers the second, `arms` what
is compared, `text` the tokens, `report` the outcome. Run it with ``spectrumkv demo``.
"""
