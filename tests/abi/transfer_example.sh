#!/usr/bin/env bash
# examples/transfer_server.c and transfer_client.c, compiled as C99 and run as two processes: in the clear, over a Unix
# socket, under TLS with a key, and with two keys that differ. Both must print the same lines.
set -euo pipefail
root=$1
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
flags=()
[[ -n ${SKV_SANITIZE:-} ]] && flags+=("-fsanitize=$SKV_SANITIZE")
for name in transfer_server transfer_client; do
  "$CC" -std=c99 -Wall -Wextra -Wpedantic -Werror "${flags[@]}" -I"$root/include" "$root/examples/$name.c" "$SKV_LIBRARY" \
    -Wl,-rpath,"$(dirname "$SKV_LIBRARY")" -o "$work/$name"
done
head -c 32 /dev/urandom >"$work/key"
head -c 32 /dev/urandom >"$work/other"

# URI, options of the server, options of the client; leaves the client's exit status in $status.
run() {
  local uri=$1 at_server=$2 at_client=$3
  : >"$work/server.out"
  # shellcheck disable=SC2086
  "$work/transfer_server" "$uri" --count 3 $at_server >"$work/server.out" 2>"$work/server.err" &
  local server=$!
  for _ in $(seq 200); do grep -q '^listening' "$work/server.out" && break; sleep 0.05; done
  local bound
  bound=$(sed -n 's/^listening on //p' "$work/server.out")
  [[ -n $bound ]] || { echo "the server does not listen"; cat "$work/server.err"; exit 1; }
  status=0
  # shellcheck disable=SC2086
  "$work/transfer_client" "$bound" --count 3 $at_client >"$work/client.out" 2>"$work/client.err" || status=$?
  if ((status == 0)); then
    wait "$server" || { echo "the server failed"; cat "$work/server.err"; exit 1; }
    diff <(grep '^key' "$work/server.out") "$work/client.out" || { echo "the ends differ"; exit 1; }
    [[ $(wc -l <"$work/client.out") == 3 ]] || { echo "not three payloads"; exit 1; }
    cat "$work/client.out"
  else
    kill "$server" 2>/dev/null || true  # it may have ended with the client
    wait "$server" || true
  fi
}

run tcp://127.0.0.1:0 "" ""
((status == 0)) || { cat "$work/client.err"; exit 1; }
run "unix://$work/socket" "" ""
((status == 0)) || { cat "$work/client.err"; exit 1; }
run tcp://127.0.0.1:0 "--tls-psk $work/key" "--tls-psk $work/key"
((status == 0)) || { cat "$work/client.err"; exit 1; }
run tcp://127.0.0.1:0 "--tls-psk $work/key" "--tls-psk $work/other"
((status == 1)) && grep -q SKV_E_AUTH "$work/client.err" || { echo "a wrong key must be AUTH"; cat "$work/client.err"; exit 1; }
echo "the ends agree in the clear, over a Unix socket and under TLS; a wrong key is refused"
