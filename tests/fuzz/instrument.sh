#!/bin/sh
# rustc for the members of the workspace (RUSTC_WORKSPACE_WRAPPER) as libFuzzer needs them: optimised, with assertions, with
# coverage of every edge and every comparison. Stable rustc; cargo keeps what this builds apart from everything else.
rustc=$1
shift
case " $* " in
*" --crate-name build_script_"*) exec "$rustc" "$@" ;;
esac
# Of these little is run: they are not worth the wait.
case " $* " in
*" --crate-name certwright_api "* | *" --crate-name certwright_agent "* | *" --crate-name certwright_issuance "*) level=0 ;;
*) level=2 ;;
esac
exec "$rustc" "$@" --cfg fuzzing -Copt-level=$level -Cdebug-assertions=on -Coverflow-checks=on -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Clink-arg="$CERTWRIGHT_LIBFUZZER" -Clink-arg=-lstdc++
