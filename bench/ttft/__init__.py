# SPDX-License-Identifier: Apache-2.0
"""Time to the first token over emulated links: a real cache, two processes in two network namespaces, the link's rate
kept by a token bucket. See ``python -m ttft --help``."""
