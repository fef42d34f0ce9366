#!/usr/bin/env bash
# Makes the icons that home screens want, static/icon-*.png, from static/icon.svg: after a change of it.
# CHROMIUM=path: with another browser.
set -euo pipefail
cd "$(dirname "$0")/../static"

chromium=${CHROMIUM:-/usr/bin/chromium}
[ -x "$chromium" ] || { echo "$chromium is missing: install chromium, or name one by CHROMIUM" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# picture FILE SIZE SHARE BACKGROUND: the icon, SHARE percent of the square wide.
picture() {
    local file=$1 size=$2 share=$3 background=$4
    cat >"$scratch/icon.html" <<HTML
<style>html { width: ${size}px; height: ${size}px; display: grid; place-items: center; background: $background } body { margin: 0; width: $share% } svg { display: block }</style>
<body>$(cat icon.svg)
HTML
    "$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$scratch/profile" \
        --window-size="$size,$size" --default-background-color=00000000 --screenshot="$PWD/$file" \
        "file://$scratch/icon.html" 2>/dev/null
    echo "$file: $size pixels, $(stat -c %s "$file") bytes"
}

picture icon-192.png 192 100 transparent
picture icon-512.png 512 100 transparent
# A launcher cuts a shape out of it: what counts lies in the middle.
picture icon-maskable-512.png 512 56 '#faf6f0'
