# SPDX-License-Identifier: Apache-2.0
"""The evaluation harness: what a cache loses on its way through a payload, by protocols that anybody can rerun.

Protocols, one module each: `p1` (a model continues from the decoded cache), `p2` (the paper's own measure), `niah` (it retrieves a needle from it), `p4`
(tensors alone, no model). What they share: `arms` (what is compared), `text` (the tokens), `prompt` (a prefilled prompt
whose cache is moved), `transfer` (one arm's way through a payload), `inject` (caches made harder without changing the
function), `kept` (dropped tokens), `results` (the JSON), `steps` (progress). `charts` and `page` show results. Run them
with ``spectrumkv eval``, ``spectrumkv plot`` and ``spectrumkv report``; docs/guides/evaluation.md is the manual.
"""
