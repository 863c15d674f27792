#!/usr/bin/env bash
# Builds the pump's image for a board: firmware/scripts/build.sh [BOARD]
# With --check it only says whether it could.
#
#   mps2        Arm MPS2 with a Cortex-M4F (QEMU's mps2-an386)
#   mps2-cost   the same board, counting instructions (firmware/scripts/cost.sh)
#   lm3s        Luminary LM3S6965 with a Cortex-M3, five keys and a display (QEMU's lm3s6965evb)
#
# It takes the route that this machine offers: an installed rustup target, else the sources of the
# standard library beside the compiler, else Debian's packages. It never installs anything and never
# changes a toolchain; where no route is open it prints the one command to run and ends with 2.
# The image is then target/pump/BOARD.elf in this clone, whatever CARGO_TARGET_DIR says.
set -euo pipefail
cd "$(dirname "$0")/../.."

check=
if [ "${1:-}" = --check ]; then
  check=1
  shift
fi
board="${1:-mps2}"
case "$board" in
  mps2 | mps2-cost) triple=thumbv7em-none-eabihf ;;
  lm3s) triple=thumbv7m-none-eabi ;;
  *)
    printf 'build.sh: no board is called %s; there are mps2, mps2-cost and lm3s\n' "$board" >&2
    exit 1
    ;;
esac

# Nothing here may make rustup download something.
export RUSTUP_AUTO_INSTALL=0
# The flags that an image is built with are in .cargo/config.toml; these would take their place.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
# A target folder of its own: two compilers in one folder rebuild each other's work.
out="${CARGO_TARGET_DIR:-$PWD/target}/fw"
options=(--locked --package firmware --features board --profile firmware
  --bin "$board" --target "$triple" --target-dir "$out")
linker="CARGO_TARGET_$(printf '%s' "$triple" | tr 'a-z-' 'A-Z_')_LINKER"

has_core() {
  local libs
  libs=$("$1" --print target-libdir --target "$triple" 2>/dev/null) || return 1
  compgen -G "$libs/libcore-*.rlib" >/dev/null
}
has_sources() {
  local root
  root=$("$1" --print sysroot 2>/dev/null) || return 1
  [ -f "$root/lib/rustlib/src/rust/library/core/Cargo.toml" ]
}
debian="apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src lld-22"

if has_core rustc; then
  route="the installed target $triple"
  build() { cargo build "${options[@]}"; }
elif has_sources rustc; then
  route="rust-src of $(rustc --version)"
  build() { RUSTC_BOOTSTRAP=1 cargo build "${options[@]}" -Zbuild-std=core; }
elif [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && has_sources /usr/bin/rustc &&
  command -v lld-22 >/dev/null; then
  route="Debian's $(/usr/bin/rustc --version)"
  build() {
    env -u RUSTUP_TOOLCHAIN -u CARGO -u RUSTC PATH=/usr/bin:/bin RUSTC_BOOTSTRAP=1 \
      "$linker=lld-22" cargo build "${options[@]}" -Zbuild-std=core
  }
else
  {
    printf 'build.sh: no compiler here can build for %s. Run one of:\n' "$triple"
    printf '  rustup target add %s\n' "$triple"
    if command -v apt-get >/dev/null; then printf '  %s\n' "$debian"; fi
  } >&2
  exit 2
fi
if [ -n "$check" ]; then exit 0; fi
build

mkdir -p target/pump
# Put in place whole: a pump that is being started reads the old image or the new one.
cp "$out/$triple/firmware/$board" "target/pump/.$board.new"
mv "target/pump/.$board.new" "target/pump/$board.elf"

# Sections that are loaded (flag A): what the flash holds is text, what can be written or has no
# bytes in the file is RAM.
readelf -SW "target/pump/$board.elf" | sed 's/^ *\[ *[0-9]*\]//' | awk -v board="$board" -v route="$route" '
  function hex(s,  i, n) { n = 0; for (i = 1; i <= length(s); i++) n = n * 16 + index("0123456789abcdef", substr(s, i, 1)) - 1; return n }
  $7 ~ /A/ && $2 != "NOBITS" { text += hex($5) }
  $7 ~ /A/ && ($7 ~ /W/ || $2 == "NOBITS") { ram += hex($5) }
  END {
    most = board == "lm3s" ? 77824 : 65536
    printf "%s: text %d of %d bytes, static RAM %d of 16384 bytes, by %s\n", board, text, most, ram, route
    if (text == 0) { print "build.sh: the image has no sections that are known here" > "/dev/stderr"; exit 1 }
    if (board !~ /-cost$/ && (text > most || ram > 16384)) { print "build.sh: over a ceiling" > "/dev/stderr"; exit 1 }
  }'
