#!/usr/bin/env bash
# The verbs of daily work: `make help` says what each does. With the unit installed they speak to
# systemd; in a plain checkout the release binary runs in the background, with its pid and its log
# below data/.
#
#   scripts/service.sh up|down|restart|status|logs|health|validate|backup|restore|verify|check|sql
#
# LOG_BYTES (5000000): how large the log may grow before it becomes coffee-tracker.log.1; three such
# are kept. UP_SECONDS (60) and DOWN_SECONDS (15): how long a start and a stop may take.
# LINES, SINCE and FOLLOW belong to `logs`, FILE, YES and QUERY to `restore`, `verify` and `sql`.
lines=${LINES:-50}
cd "$(dirname "$0")/.."
. scripts/where.sh

log=data/coffee-tracker.log
log_bytes=${LOG_BYTES:-5000000}
answer='' said=''
trap 'rm -f "$answer" "$said"' EXIT

# -- The log ------------------------------------------------------------------------------

# The server goes on writing to the same file, so it is copied and then emptied; a line that comes
# between the two is lost.
rotate_log() {
    [ -f "$log" ] && [ "$(stat -c %s "$log")" -gt "$log_bytes" ] || return 0
    for n in 2 1; do
        [ ! -f "$log.$n" ] || mv -f "$log.$n" "$log.$((n + 1))"
    done
    cp "$log" "$log.1"
    : >"$log"
}

# Runs beside the server and ends with it.
keep_log() {
    local code=124
    while [ "$code" = 124 ]; do
        code=0
        timeout "${LOG_SECONDS:-10}" tail --pid="$1" -f /dev/null || code=$?
        rotate_log
    done
}

logs() {
    local follow=1 since=
    case ${FOLLOW:-yes} in no | 0 | false) follow= ;; esac
    if [ -n "${SINCE:-}" ]; then
        since=$(date -d "$SINCE" +%s) || fail 2 "SINCE=\"$SINCE\" is no time: try \"2026-06-20 10:00\", \"1 hour ago\" or yesterday."
        lines=${LINES:-all}
    fi
    if [ "$mode" = service ]; then
        exec journalctl --unit="$unit" --lines="$lines" ${since:+--since="@$since"} ${follow:+--follow}
    fi
    [ -f "$log" ] || fail 1 "There is no log yet: \`make up\` begins $log."
    if [ -n "$since" ]; then
        log_since "$since" | { if [ "$lines" = all ]; then cat; else tail -n "$lines"; fi; }
        [ -n "$follow" ] || exit 0
        lines=0
    fi
    exec tail -n "$lines" ${follow:+-F} "$log"
}

# log_since SECONDS: from the first line of that time or later; each begins with its own.
log_since() {
    local file files=()
    for file in "$log.3" "$log.2" "$log.1" "$log"; do
        [ ! -f "$file" ] || files+=("$file")
    done
    awk -v since="$(date -u -d "@$1" +%Y-%m-%dT%H:%M:%S)" '
        !begun && match($0, /[0-9]+-[0-9][0-9]-[0-9][0-9]T[0-9:]+/) { begun = substr($0, RSTART, RLENGTH) >= since }
        begun' "${files[@]}"
}

# -- Start and stop -----------------------------------------------------------------------

say_where() {
    say "coffee-tracker $1: pid $(server_pid), $(url)"
    say "key: $(key_place)"
}

up() {
    if [ "$mode" = service ]; then
        systemctl start "$unit" || fail 1 "It did not start: \`make logs\` says why."
        say_where "runs under systemd"
        return
    fi
    (umask 077 && mkdir -p data)
    exec 9>"$pid_file.lock"
    flock --wait 90 9 || fail 75 "Another \`make up\` is at work."
    if server_pid >/dev/null; then
        say_where "runs already"
        return
    fi
    if [ ! -x "$binary" ]; then
        [ -z "${BINARY:-}" ] || fail 1 "$binary is not there."
        cargo build --release --locked 9>&-
    elif [ -n "$(find src sql static Cargo.toml -newer "$binary" 2>/dev/null | head -n 1)" ]; then
        say "(the sources are newer than $binary: \`make build\` brings it up to date)"
    fi
    start
    say_where "started"
    say "log: $log"
}

start() {
    local pid since before
    umask 077
    rm -f "$pid_file"
    rotate_log
    before=$(stat -c %s "$log" 2>/dev/null || echo 0)
    # What it says at its start has the key in it, when one was made: the log must not.
    said=$(mktemp data/.up.XXXXXX)
    setsid "$binary" serve </dev/null >"$said" 2>>"$log" 9>&- &
    pid=$!
    since=$(started_at "$pid") || since=0
    remember "$pid" "$since" ''
    for ((n = 0; n < ${UP_SECONDS:-60} * 20; n++)); do
        if [ "$(started_at "$pid")" != "$since" ]; then
            rm -f "$pid_file"
            tail -c "+$((before + 1))" "$log" | tail -n 5 >&2
            fail 1 "coffee-tracker did not start: the reason stands above."
        fi
        if [ -s "$said" ]; then
            remember "$pid" "$since" "$(sed -n 's/^Listening on \(http:.*\)$/\1/p' "$said")"
            if answers; then
                setsid scripts/service.sh keep-log "$pid" </dev/null >/dev/null 2>&1 9>&- &
                return
            fi
        fi
        sleep 0.05
    done
    fail 1 "coffee-tracker runs as pid $pid, but does not answer yet: look at \`make logs\`, or \`make down\`."
}

# remember PID SINCE URL
remember() {
    local url=${3/'//0.0.0.0:'/'//127.0.0.1:'}
    printf '%s\n' "$1" "$2" "$(realpath "$binary")" "${url/'//[::]:'/'//[::1]:'}" >"$pid_file.new"
    mv -f "$pid_file.new" "$pid_file"
}

# 503 is an answer too.
answers() {
    command -v curl >/dev/null || return 0
    [ "$(ask /dev/null /health)" != 000 ]
}

down() {
    local pid
    if ! pid=$(server_pid); then
        [ "$mode" = service ] || rm -f "$pid_file"
        say "coffee-tracker does not run."
        return
    fi
    if [ "$mode" = service ]; then
        systemctl stop "$unit"
    else
        kill -TERM "$pid"
        for ((n = 0; n < ${DOWN_SECONDS:-15} * 20; n++)); do
            server_pid >/dev/null || break
            sleep 0.05
        done
        ! server_pid >/dev/null || fail 1 "coffee-tracker (pid $pid) did not stop within ${DOWN_SECONDS:-15} s: see \`make logs\`."
        rm -f "$pid_file"
    fi
    say "coffee-tracker stopped (it was pid $pid)."
}

restart() {
    if [ "$mode" = service ]; then
        systemctl restart "$unit" || fail 1 "It did not start: \`make logs\` says why."
        say_where "restarted"
    else
        down
        up
    fi
}

# -- How it is ----------------------------------------------------------------------------

health_line() {
    local text code backup
    command -v curl >/dev/null || { say "health: unknown (curl is not installed)"; return; }
    answer=$(mktemp)
    code=$(ask "$answer" /health)
    text=$(tr -d '\n' <"$answer")
    if [ "$code" = 000 ] || [ "$code" = 429 ]; then
        say "health: unknown (status $code)"
        return
    fi
    backup=$(sed -n 's/.*"backup":{"status":"\([a-z]*\)".*/\1/p' <<<"$text")
    # None is said below, and may be a second late here.
    [ "$backup" != none ] || backup=
    say "health: $(field status "$text"), database $(field state "$text"), disk $(field used_percent "$text")% used${backup:+, backup $backup}"
}

# 95 s, 12 min, 3 h, 2 days
age() {
    if [ "$1" -lt 120 ]; then
        printf '%s s' "$1"
    elif [ "$1" -lt 7200 ]; then
        printf '%s min' $(($1 / 60))
    elif [ "$1" -lt 172800 ]; then
        printf '%s h' $(($1 / 3600))
    else
        printf '%s days' $(($1 / 86400))
    fi
}

status() {
    local pid up memory newest code=0
    if pid=$(server_pid); then
        up=$(awk -v since="$(started_at "$pid")" -v ticks="$(getconf CLK_TCK)" '{ printf "%d", $1 - since / ticks }' /proc/uptime)
        memory=$(awk '/^VmRSS:/ { printf "%.1f MB", $2 * 1024 / 1e6 }' "/proc/$pid/status")
        say "coffee-tracker runs: pid $pid for $(age "$up"), ${memory:-unknown} resident, $(url)"
        health_line
    else
        say "coffee-tracker does not run: \`make up\` starts it."
        code=1
    fi
    if [ "$mode" = service ] && [ "$(id -u)" != 0 ]; then
        say "newest backup: only root may look: sudo make status"
    elif newest=$(newest_backup 2>/dev/null); then
        say "newest backup: $newest ($(stat -c %s "$newest") bytes, $(age $(($(date +%s) - $(stat -c %Y "$newest")))) old)"
    else
        say "newest backup: none: \`make backup\` makes one."
    fi
    if [ "$mode" = service ]; then
        systemctl list-timers --no-pager --no-legend 'coffee-tracker*'
    elif [ -f "$log" ]; then
        say "log: $log ($(stat -c %s "$log") bytes)"
    fi
    return $code
}

pretty() {
    jq . "$1" 2>/dev/null || python3 -m json.tool "$1" 2>/dev/null || { cat "$1" && echo; }
}

health() {
    local code
    needs_curl
    answer=$(mktemp)
    code=$(ask "$answer" /health)
    case $code in
        000) fail 1 "Nothing answers at $(url): \`make up\` starts it, \`make logs\` says more." ;;
        200) pretty "$answer" ;;
        *)
            pretty "$answer"
            fail 1 "$(url)/health answered $code: docs/RUNBOOK.md says what to do about each state."
            ;;
    esac
}

surprises=0
# expect STATUS PATH [WORDS [CURL'S ARGUMENTS…]]: asks, and writes a line of the table.
expect() {
    local expected=$1 path=$2 words=${3:-} got verdict=ok
    shift 2
    [ $# = 0 ] || shift
    got=$(ask "$answer" "$path" "$@")
    if [ "$got" != "$expected" ]; then
        verdict="expected $expected"
        surprises=$((surprises + 1))
    fi
    printf '%-34s %s  %s\n' "$path${words:+ ($words)}" "$got" "$verdict"
}

# expect_with_key STATUS PATH
expect_with_key() {
    local quoted=${key//\\/\\\\}
    # Not as an argument: everybody can see those.
    expect "$1" "$2" "with the key" --config <(printf 'header = "Authorization: Bearer %s"\n' "${quoted//\"/\\\"}")
}

validate() {
    local open path info key
    needs_curl
    answer=$(mktemp)
    [ "$(ask "$answer" /health)" != 000 ] || fail 1 "Nothing answers at $(url): \`make up\` starts it."
    ask "$answer" /info >/dev/null
    info=$(tr '{' '\n' <"$answer")
    # It tells itself what is open to everybody.
    open=$(sed -n 's/.*"method":"GET","path":"\([^"<]*\)","needs_key":false.*/\1/p' <<<"$info")
    for path in / /health /info /openapi.json; do
        grep -qx "$path" <<<"$open" || open="$open"$'\n'"$path"
    done
    while read -r path; do
        # One page only leads to another.
        [ -z "$path" ] || expect 200 "$path" '' --location
    done <<<"$open"
    expect 404 /no-such-page
    expect 401 /coffee/today "without a key"
    grep -qx /metrics <<<"$open" || expect 401 /metrics "without a key"
    if key=$(api_key); then
        for path in /coffee/today '/coffee/?limit=1' /metrics; do
            expect_with_key 200 "$path"
        done
    else
        say "The key cannot be read ($(key_place)): try it as root."
        surprises=$((surprises + 1))
    fi
    [ "$surprises" = 0 ] || fail 1 "$surprises of these are not as they should be (429: asked too often, try again in a minute)."
    say "All as it should be at $(url); nothing was added."
}

# -- Data ---------------------------------------------------------------------------------

restore() {
    local options=() file
    file=${FILE:-$(newest_backup)} || fail 1 "There is no backup to restore: \`coffee-tracker backups list\` shows every file."
    case ${YES:-} in
        yes | 1 | true) options=(--yes) ;;
        *) [ ! -e "$file" ] || [ -t 0 ] || fail 2 "A restore asks before it changes anything, and there is no terminal to ask on: add YES=yes" ;;
    esac
    tracker restore "$(realpath "$file")" "${options[@]}"
}

verify() {
    local file
    file=${FILE:-$(newest_backup)} || fail 1 "There is no backup to verify: \`make backup\` makes one."
    tracker verify "$(realpath "$file")"
}

check() {
    if [ "$mode" = service ] && [ -r "$settings_file" ]; then
        HOST=$(setting HOST) API_KEY_FILE=$(setting API_KEY_FILE) tracker check --config "$settings_file"
    else
        tracker check
    fi
}

sql() {
    if [ -n "${QUERY:-}" ]; then
        tracker sql "$QUERY"
    else
        tracker sql
    fi
}

case ${1:-} in
    up | down | restart | status | logs | health | validate | restore | verify | check | sql) "$1" ;;
    backup) tracker backup ;;
    keep-log) keep_log "$2" ;;
    *) fail 2 "What? $(sed -n 's/^#   //p' "$0")" ;;
esac
