#!/usr/bin/env bash
# Generates the home screen icons, static/icon-*.png, from static/icon.svg. CHROMIUM=path uses another browser.
set -euo pipefail
cd "$(dirname "$0")/../static"

chromium=${CHROMIUM:-/usr/bin/chromium}
[ -x "$chromium" ] || { echo "$chromium is missing: install it, or set CHROMIUM" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# render FILE SIZE SHARE BACKGROUND: renders the icon in SHARE percent of the square.
render() {
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

render icon-192.png 192 100 transparent
render icon-512.png 512 100 transparent
# Launchers crop maskable icons: the icon stays in the center.
render icon-maskable-512.png 512 56 '#faf6f0'
