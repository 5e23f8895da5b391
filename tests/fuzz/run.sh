#!/usr/bin/env bash
# Fuzzes: run.sh [TARGET [SECONDS]], every target in turn without one. The corpus of a target grows in the cache; a finding
# is printed and kept there, ends its target and fails the run in the end. `run.sh pack TARGET` minimises what has grown into
# corpora/.
#
# Debian package: libclang-rt-dev (libFuzzer, Apache-2.0 WITH LLVM-exception), and a C++ compiler's library.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/certwright
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
work=$cache/fuzz

library() { find /usr/lib/llvm-*/lib -name "libclang_rt.fuzzer-$(uname -m).a" 2>/dev/null | sort -V | tail -1; }
if [ -z "$(library)" ]; then
    echo "fuzz: installing the Debian package libclang-rt-dev"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libclang-rt-dev >/dev/null
fi
CERTWRIGHT_LIBFUZZER=$(library)
export CERTWRIGHT_LIBFUZZER

RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/instrument.sh cargo build --locked --workspace --bin fuzz --bin corpora
mkdir -p "$work/bin"
cp --remove-destination "$CARGO_TARGET_DIR/debug/fuzz" "$CARGO_TARGET_DIR/debug/corpora" "$work/bin/"
corpora=$work/bin/corpora

fuzz() {
    local target=$1
    shift
    CERTWRIGHT_FUZZ=$target "$work/bin/fuzz" -rss_limit_mb=2048 -timeout=20 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix="$work/$target.found/" "$@"
}

run() {
    local target=$1 seconds=$2
    mkdir -p "$work/$target" "$work/$target.found"
    "$corpora" unpack "$target" "$work/$target"
    if ! fuzz "$target" -max_total_time="$seconds" "$work/$target" >"$work/$target.log" 2>&1; then
        tail -40 "$work/$target.log" >&2
        echo "fuzz: $target found something: $work/$target.found, repeat with: corpora run $target FILE" >&2
        return 1
    fi
    local runs size
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
    size=$(find "$work/$target" -type f | wc -l)
    echo "{\"target\":\"$target\",\"seconds\":$seconds,\"executions\":$runs,\"inputs\":$size,\"found\":0}"
}

pack() {
    local target=$1 small=$work/$1.small
    rm -rf "$small"
    mkdir -p "$small" "$work/$target.found"
    fuzz "$target" -set_cover_merge=1 -use_counters=0 -max_len=1024 "$small" "$work/$target" >"$work/$target.merge.log" 2>&1
    "$corpora" pack "$target" "$small"
}

case ${1:-} in
pack) pack "$2" ;;
"")
    failed=0
    for target in $("$corpora" list); do run "$target" "${2:-600}" || failed=1; done
    exit $failed
    ;;
*) run "$1" "${2:-600}" ;;
esac
