#!/usr/bin/env bash
# Where the CPU time of issuing goes: microseconds per certificate by step, on three servers with the load on the same cores.
# Needs Linux perf; builds once more, with frame pointers, in a directory of its own.
# usage: tests/profile.sh [CALLERS [SECONDS]]
set -euo pipefail
cd "$(dirname "$0")/.."
callers=${1:-64}
seconds=${2:-10}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/certwright
command -v perf >/dev/null || { echo "profile: install Linux perf (Debian: linux-perf)" >&2; exit 1; }
export CARGO_TARGET_DIR=$cache/profile
CFLAGS=-fno-omit-frame-pointer RUSTFLAGS="-C force-frame-pointers=yes" cargo build --locked --release -p certwright >&2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
perf record --quiet --freq 499 --call-graph fp --output "$folder/perf.data" -- \
    "$CARGO_TARGET_DIR/release/certwright" bench issue --servers 3 --callers "$callers" --seconds "$seconds" --stream -o json \
    >"$folder/bench.json"
perf script --input "$folder/perf.data" --no-inline --fields comm,pid,tid,time,ip,sym >"$folder/stacks.txt" 2>/dev/null
python3 tests/profile.py "$folder/bench.json" "$folder/stacks.txt"
