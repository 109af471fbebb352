#!/usr/bin/env bash
# Runs both ends of the example transfer.
set -euo pipefail
uri=unix://@skv-example-transfer-$$
timeout 100 "$1" prefill "$uri" &
prefill=$!
for ((i = 0; i < 100; i++)); do
  grep -q "@skv-example-transfer-$$" /proc/net/unix && break
  sleep 0.1
done
timeout 100 "$1" decode "$uri"
wait "$prefill"
