# SPDX-License-Identifier: Apache-2.0
"""Quantizers and compressors for KV caches on the CPU, side by side: run by bench/peers/cpu.sh."""
