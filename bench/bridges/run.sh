#!/usr/bin/env bash
# Installs the two other bridges under target/bridges (nothing of them is committed), builds ours, and
# measures. Arguments go to the measuring program: bench/bridges/run.sh --repeats 5
set -euo pipefail
cd "$(dirname "$0")/../.."
die() { printf 'bridges: %s\n' "$*" >&2; exit 1; }

for tool in node npm python3 cargo; do command -v "$tool" >/dev/null || die "missing: $tool"; done
PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null || die "missing: mosquitto. On Debian run as root: apt-get install -y mosquitto"

target="${CARGO_TARGET_DIR:-$PWD/target}"
there="$target/bridges"
mkdir -p "$there/node"
if [ ! -x "$there/py/bin/python" ]; then
  python3 -m venv "$there/py" || die "missing: venv. On Debian run as root: apt-get install -y python3-venv"
fi
"$there/py/bin/pip" install -q --disable-pip-version-check pyserial==3.5 paho-mqtt==2.2.0
if [ ! -d "$there/node/node_modules/node-red-node-serialport" ]; then
  npm install --silent --no-fund --no-audit --prefix "$there/node" node-red@4.1.15 node-red-node-serialport@2.0.3
fi

# Only what a bedside has; a folder of its own, so that a binary with other features is not replaced.
cargo build --locked --release --no-default-features --features gateway,sim --target-dir "$there/build"
cargo build --locked --release -p bridges --target-dir "$there/build"
version() { node -p "require('$there/node/node_modules/$1/package.json').version"; }
echo "$("$there/build/release/thecal" --version); pyserial 3.5, paho-mqtt 2.2.0, $(python3 --version); Node-RED $(version node-red)," \
  "node-red-node-serialport $(version node-red-node-serialport), Node.js $(node --version); $(PATH="$PATH:/usr/sbin" mosquitto -h | head -1)"
exec "$there/build/release/bridges" --thecal "$there/build/release/thecal" --python "$there/py/bin/python" \
  --node-red "$there/node" --out "$there/runs" "$@"
