#!/usr/bin/env bash
# Shows at link time that the decoder of the serial line cannot panic, and that what shows it can
# fail: with a planted panic the program must not link.
set -euo pipefail
cd "$(dirname "$0")/../.."

prove() { cargo build --locked -p panic-free --profile panic-free --features "$1"; }
prove prove
prove prove,host
if said=$(prove planted 2>&1); then
  echo "check.sh: a function that can panic links too: nothing is shown" >&2
  exit 1
fi
if ! grep -q 'detected panic in function `planted`' <<<"$said"; then
  printf '%s\ncheck.sh: it does not link, and not because of the planted panic\n' "$said" >&2
  exit 1
fi
echo "no bytes make the decoder panic; a planted panic does not link"
