#!/usr/bin/env bash
# What the pump's image costs: its size (firmware/scripts/build.sh says it), and the instructions of
# an event, counted in the emulator. Prints each with its ceiling and fails above one.
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v qemu-system-arm >/dev/null || {
  echo "cost.sh: qemu-system-arm is missing. On Debian run as root: apt-get install -y --no-install-recommends qemu-system-arm" >&2
  exit 2
}
firmware/scripts/build.sh mps2
firmware/scripts/build.sh mps2-cost

said=$(mktemp)
trap 'rm -f "$said"; [ -z "${pump:-}" ] || kill -9 "$pump" 2>/dev/null || true' EXIT
# An instruction is a nanosecond; sleeping costs no time.
qemu-system-arm -M mps2-an386 -display none -monitor none -serial stdio -icount shift=0,sleep=off \
  -kernel target/pump/mps2-cost.elf >"$said" </dev/null &
pump=$!
for _ in $(seq 1200); do
  if grep -qE '^(end|failed)$' "$said" || ! kill -0 "$pump" 2>/dev/null; then break; fi
  sleep 0.1
done
awk '
  BEGIN { most["frame"] = 3200; most["tag"] = 36000; most["journal"] = 56000; most["event"] = 92000; most["signature"] = 3900000 }
  $1 in most {
    seen++
    printf "instructions, %s: %d, at most %d\n", $1, $2, most[$1]
    if ($2 > most[$1]) { printf "cost.sh: %s is over its ceiling\n", $1 > "/dev/stderr"; bad = 1 }
  }
  /^end$/ { whole = 1 }
  END {
    if (seen != 5 || !whole) { print "cost.sh: the counting image did not end well" > "/dev/stderr"; bad = 1 }
    exit bad
  }' "$said"
