#!/usr/bin/env bash
# The test command: installs what it needs on Debian, then runs format, lints, all tests, docs.
# Nothing is skipped: a tool that is missing is a failure with the command that installs it.
# It never changes a toolchain.
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s (after %s s)\n' "$*" "$SECONDS"; }
die() { printf 'test.sh: %s\n' "$*" >&2; exit 1; }

# Debian packages: a broker that is not ours, its command-line clients, the second opinions, and what
# builds and runs the pump's image.
packages=(mosquitto mosquitto-clients sqlite3 tmux python3 python3-cryptography strace)
packages+=(rustc-web cargo-web rust-web-src lld-22 qemu-system-arm)
missing=()
for tool in mosquitto mosquitto_sub sqlite3 tmux python3 strace qemu-system-arm; do
  PATH="$PATH:/usr/sbin" command -v "$tool" >/dev/null || missing+=("$tool")
done
{ firmware/scripts/build.sh --check mps2 && firmware/scripts/build.sh --check lm3s; } || missing+=("a way to build the pump's image")
{ python3 -c "import cryptography" || /usr/bin/python3 -c "import cryptography"; } 2>/dev/null || missing+=(python3-cryptography)
if [ ${#missing[@]} -gt 0 ]; then
  step "installing ${packages[*]}"
  install="apt-get install -y --no-install-recommends ${packages[*]}"
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive $install >/dev/null || die "missing: ${missing[*]}. Run: $install"
  else
    die "missing: ${missing[*]}. On Debian run as root: $install"
  fi
fi
export PATH="$PATH:/usr/sbin"
command -v cargo >/dev/null || die "missing: cargo. Install Rust 1.95 or newer from https://rustup.rs"
command -v cc >/dev/null || die "missing: a C compiler. On Debian run as root: apt-get install -y gcc libc6-dev"

# A cache of build output outside the clone is used where somebody gave one.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
# What is built once gains nothing from being built in pieces, and runs slower; nor from line tables
# that nobody reads.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=false
# Warnings are errors, in our crates alone: the flag for rustc would rebuild every dependency.
step "format"
cargo fmt --all --check

step "lints"
cargo clippy --locked --workspace --all-targets -- -D warnings

step "a bedside build holds no Polars"
tree=$(cargo tree --locked --no-default-features --features gateway -e normal --prefix none)
if grep -q '^polars' <<<"$tree"; then die "the bedside build depends on Polars"; fi
# Threat S13: a bedside build decompresses nothing.
if grep -qE '^(flate2|miniz|zstd|ruzstd|brotli|lz4|bzip2|xz|snap|inflate)' <<<"$tree"; then die "the bedside build holds a decompressor"; fi
cargo check --locked --no-default-features --features gateway

step "building"
cargo test --locked --workspace --no-run
# The program of the lanes is built beside a test, with the features that the tests were built with:
# no dependency is built twice.
cargo build --locked --workspace --bins --test vectors
evidence() { "$CARGO_TARGET_DIR/debug/evidence" "$@"; }

# What measures no time runs behind all that does, in what that leaves idle: whole trials in virtual
# time, and the lanes that only count. Each says what it counted once it is waited for.
behind=()
stop_behind() { for job in "${behind[@]}"; do kill -KILL -- "-$job" 2>/dev/null || true; done; rm -rf "$said"; }
said=$(mktemp -d)
trap stop_behind EXIT
counting_lanes() {
  for lane in powercut model tamper line-errors fuzz; do
    step "evidence: $lane"
    evidence "$lane" || exit
  done
}
# In a process group of its own, which can be stopped whole.
set -m
(renice -n 19 "$BASHPID" >/dev/null && evidence simulate --hours 500000) >"$said/trials" 2>&1 &
behind+=($!)
(renice -n 19 "$BASHPID" >/dev/null && counting_lanes) >"$said/lanes" 2>&1 &
behind+=($!)
set +m

step "tests"
cargo test --locked --workspace --no-fail-fast

step "the pump's image: size, and instructions of an event"
firmware/scripts/cost.sh
firmware/scripts/build.sh lm3s

step "tests that need mosquitto, sqlite3, tmux, python3 or qemu-system-arm"
cargo test --locked --workspace --no-fail-fast -- --ignored --skip a_patients_trial

step "the pump's image: a patient's trial, and its stack"
# By itself for its figure, which a test that passes would keep to itself.
cargo test --locked --workspace --test image a_patients_trial -- --ignored --nocapture

# Lanes of CONTRIBUTING.md with fixed counts; each says what it counted.
step "evidence: system calls that fail"
evidence syscalls --jobs 6 --runs 88 --program-runs 22
step "evidence: every story of the fault table, and its page"
evidence faults --check --slack 4
step "the decoder of the line cannot panic, or it would not link"
evidence/panic-free/check.sh
step "evidence: real processes killed, stopped and unplugged, the pump's image among them"
evidence kill --pump qemu --cycles 12 --trials 2
step "evidence: a gateway without its port"
# It measures the processor's time: what runs behind it stands still meanwhile.
for job in "${behind[@]}"; do kill -STOP -- "-$job" 2>/dev/null || true; done
evidence unplug --days 1 --window-s 5
for job in "${behind[@]}"; do kill -CONT -- "-$job" 2>/dev/null || true; done
step "evidence: the page of sums"
evidence sum --check
step "evidence: planted bugs, each found by whom it should be"
evidence planted

step "evidence: power cuts, the model, altered records, errors of the line, fuzz"
wait "${behind[1]}" || { cat "$said/lanes"; die "a lane found a violation"; }
cat "$said/lanes"
step "evidence: whole trials in virtual time"
wait "${behind[0]}" || { cat "$said/trials"; die "the simulation found a violation"; }
cat "$said/trials"

# With `--examples` cargo gives the dependencies the features that they had for the lints, and does not
# check them again.
step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --lib --bins --examples

step "done"
