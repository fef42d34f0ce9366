#!/usr/bin/env bash
# Runs the fuzz targets in fuzz/ with coverage guidance, each for SECONDS (default 60). What was found before is in
# tests/data/corpus, and is tried by `make test`, too; new inputs are kept in fuzz/corpus. Requires a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

SECONDS_EACH=${SECONDS_EACH:-60}
# Peak memory of a target, in megabytes: a parser must not need more for any input.
MAX_MEGABYTES=${MAX_MEGABYTES:-512}

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --version 0.13.2
# Without a sanitizer, the stable compiler can build the targets; the program has no unsafe code of its own.
for target in ${TARGETS:-$(cargo fuzz list)}; do
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "tests/data/corpus/$target" -- \
        -max_total_time="$SECONDS_EACH" -rss_limit_mb="$MAX_MEGABYTES" -timeout=20 -max_len=65536 -print_final_stats=1
done
