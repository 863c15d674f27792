#!/usr/bin/env bash
# One fuzz target under libFuzzer, by a nightly compiler that is there already and without cargo-fuzz:
#
#   fuzz/run.sh frame 60
#
# runs `frame` for 60 seconds. What fails lies in fuzz/artifacts, what led somewhere new in fuzz/found.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?"one of: $(ls fuzz_targets | sed 's/\.rs//' | xargs)"}
seconds=${2:-60}

# What cargo-fuzz says to the compiler; no address sanitizer, for no code of ours is unsafe.
flags="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module"
for part in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=" -Cllvm-args=-sanitizer-coverage-$part"
done
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
# With a target named, build scripts and macros are built without these.
RUSTFLAGS="$flags" cargo +nightly build --release --target "$host" --bin "$target"
# Records and diaries are files: in memory where there is such a folder.
if [ -d /dev/shm ]; then export TMPDIR=${TMPDIR:-/dev/shm}; fi
mkdir -p artifacts "found/$target"
exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" "found/$target" "corpus/$target" \
  -max_total_time="$seconds" -timeout=20 -max_len=65536 -artifact_prefix=artifacts/ -print_final_stats=1
