#!/usr/bin/env bash
# The figures of docs/benchmarks.md: issuance on three servers with the load on the same cores, streamed and unary.
# usage: tests/bench.sh FOLDER_OF_BINARIES [SECONDS]
set -euo pipefail
certwright=$1/certwright
seconds=${2:-10}
echo "machine: $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), $(sed -n 's/model name.*: //p' /proc/cpuinfo | head -1)"
echo "| callers | mode | certificates/s | p50 ms | p99 ms | errors | read back |"
echo "|---|---|---|---|---|---|---|"
for callers in 1 16 64 256; do
    for mode in unary stream; do
        flag=$([ "$mode" = stream ] && echo --stream || true)
        line=$("$certwright" bench issue --servers 3 --callers "$callers" --seconds "$seconds" $flag -o json 2>/dev/null | tail -1)
        python3 - "$callers" "$mode" "$line" <<'PY'
import json, sys
callers, mode, line = sys.argv[1:]
figures = json.loads(line)
print(f"| {callers} | {mode} | {figures['certificates_per_second']} | {figures['p50_ms']} | {figures['p99_ms']} | "
      f"{figures['errors']} | {figures['read_back']} of {figures['certificates']} |")
PY
    done
done
