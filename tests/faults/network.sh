#!/usr/bin/env bash
# Two hosts on one machine: network namespaces joined by a veth pair, with rates, delay, loss and a partition. Needs root
# and the kernel's permission; what cannot be had is skipped loudly. exit 77: nothing could be tested.
set -euo pipefail
root=$1
tag=skv$$
work=$(mktemp -d)
cleanup() {
  kill $(jobs -p) 2>/dev/null || true
  ip netns del ${tag}a 2>/dev/null || true
  ip netns del ${tag}b 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
if ! { ip netns add ${tag}a && ip netns add ${tag}b &&
  ip link add ${tag}x netns ${tag}a type veth peer name ${tag}y netns ${tag}b; } 2>"$work/why"; then
  echo "SKIPPED: no network namespaces here: $(cat "$work/why")"
  exit 77
fi
in_a() { ip netns exec ${tag}a "$@"; }
in_b() { ip netns exec ${tag}b "$@"; }
in_a ip addr add 10.77.0.1/24 dev ${tag}x
in_b ip addr add 10.77.0.2/24 dev ${tag}y
in_a ip link set ${tag}x up
in_b ip link set ${tag}y up
flags=()
[[ -n ${SKV_SANITIZE:-} ]] && flags+=("-fsanitize=$SKV_SANITIZE")
for name in transfer_server transfer_client; do
  "$CC" -std=c99 -O1 "${flags[@]}" -I"$root/include" "$root/examples/$name.c" "$SKV_LIBRARY" \
    -Wl,-rpath,"$(dirname "$SKV_LIBRARY")" -o "$work/$name"
done
head -c 32 /dev/urandom >"$work/key"

# Starts a server for so many payloads; its URI is in $bound, its process in $server.
serve() {
  : >"$work/server.out"
  ip netns exec ${tag}a "$work/transfer_server" tcp://10.77.0.1:0 --count "$1" --tls-psk "$work/key" \
    >"$work/server.out" 2>"$work/server.err" &
  server=$!
  for _ in $(seq 200); do grep -q '^listening' "$work/server.out" && break; sleep 0.05; done
  bound=$(sed -n 's/^listening on //p' "$work/server.out")
  [[ -n $bound ]] || { echo "the server does not listen"; cat "$work/server.err"; exit 1; }
}
# Both ends must agree on so many payloads.
agree() {
  serve "$1"
  in_b "$work/transfer_client" "$bound" --count "$1" --tls-psk "$work/key" >"$work/client.out" 2>"$work/client.err" ||
    { echo "$2: the client failed"; cat "$work/client.err" "$work/server.err"; exit 1; }
  wait $server || { echo "$2: the server failed"; cat "$work/server.err"; exit 1; }
  diff <(grep '^key' "$work/server.out") "$work/client.out" || { echo "$2: the ends differ"; exit 1; }
  [[ $(wc -l <"$work/client.out") == "$1" ]] || { echo "$2: not $1 payloads"; exit 1; }
  echo "$2: $1 payloads agree"
}

in_a "$work/transfer_server" tcp://10.77.0.1:0 2>"$work/open.err" && { echo "an open port on a real address"; exit 1; }
grep -q SKV_E_PERMITTED "$work/open.err" || { cat "$work/open.err"; exit 1; }
echo "an address that is not loopback needs a key: refused without"
agree 5 "veth"

skipped=0
shaped() {
  local what=$1 count=$2
  shift 2
  if in_b tc qdisc add dev ${tag}y root "$@" 2>"$work/why"; then
    agree "$count" "$what"
    in_b tc qdisc del dev ${tag}y root
  else
    echo "SKIPPED $what: this kernel has no such queue discipline (tc qdisc $*): $(tr '\n' ' ' <"$work/why")"
    skipped=$((skipped + 1))
  fi
}
shaped "100 Mb/s" 3 tbf rate 100mbit burst 64kb latency 50ms
shaped "20 ms delay" 3 netem delay 20ms
shaped "1 % loss" 3 netem loss 1%
shaped "reordering and duplicates" 3 netem delay 5ms reorder 25% duplicate 2%

# A partition in the middle: neither end hears of the other any more; both must say so after three heartbeats.
serve 100000
in_b "$work/transfer_client" "$bound" --count 100000 --tls-psk "$work/key" >"$work/client.out" 2>"$work/client.err" &
client=$!
for _ in $(seq 3000); do [[ $(wc -l <"$work/client.out") -ge 2 ]] && break; sleep 0.02; done
[[ $(wc -l <"$work/client.out") -ge 2 ]] || { echo "no transfer before the partition"; exit 1; }
in_a ip link set ${tag}x down
start=$(date +%s%N)
wait $client && { echo "the client must fail"; exit 1; }
wait $server && { echo "the server must fail"; exit 1; }
took=$((($(date +%s%N) - start) / 1000000))
for end in client server; do
  grep -q SKV_E_PEER_LOST "$work/$end.err" || { echo "the $end must lose its peer:"; cat "$work/$end.err"; exit 1; }
done
((took < 15000)) || { echo "a partition was noticed after $took ms, wanted 3 heartbeats"; exit 1; }
in_a ip link set ${tag}x up
echo "partition: both ends say PEER_LOST ($took ms)"
agree 2 "after the partition"

# A short one is survived: TCP sends again, and nobody is lost within three heartbeats.
serve 100
in_b "$work/transfer_client" "$bound" --count 100 --tls-psk "$work/key" >"$work/client.out" 2>"$work/client.err" &
client=$!
for _ in $(seq 400); do [[ $(wc -l <"$work/client.out") -ge 2 ]] && break; sleep 0.02; done
in_a ip link set ${tag}x down
sleep 0.7
in_a ip link set ${tag}x up
wait $client || { echo "an interruption of 0.7 s must be survived"; cat "$work/client.err"; exit 1; }
wait $server || { cat "$work/server.err"; exit 1; }
diff <(grep '^key' "$work/server.out") "$work/client.out"
echo "an interruption of 0.7 s: all 100 payloads agree"
((skipped == 0)) || echo "$skipped of the checks above were SKIPPED"
