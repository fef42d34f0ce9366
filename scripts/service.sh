#!/usr/bin/env bash
# Implements the Make targets for daily operation (see `make help`). When the unit is installed, they use
# systemd. In a plain checkout they run the release binary in the background, with its PID file and log in data/.
#
#   scripts/service.sh up|down|restart|reload|status|logs|health|validate|backup|restore|verify|check|sql
#
# LOG_BYTES (5000000): size at which the log is rotated to coffee-tracker.log.1; three rotated logs are kept.
# UP_SECONDS (60), DOWN_SECONDS (15): timeouts of start and stop.
# `logs` reads LINES, SINCE and FOLLOW; `restore`, `verify` and `sql` read FILE, YES and QUERY. The verbs that use a
# database read PERSON. Without it, `backup` and `verify` use everyone's database, and the others the owner's.
lines=${LINES:-50}
cd "$(dirname "$0")/.."
. scripts/where.sh

log=data/coffee-tracker.log
log_bytes=${LOG_BYTES:-5000000}
response='' output=''
# Options that select the person.
whose=()
[ -z "${PERSON:-}" ] || whose=(--person "$PERSON")
trap 'rm -f "$response" "$output"' EXIT

# -- The log ------------------------------------------------------------------------------

# The server keeps the file open, so the log is copied and then truncated. A line written between the two
# steps is lost.
rotate_log() {
    [ -f "$log" ] && [ "$(stat -c %s "$log")" -gt "$log_bytes" ] || return 0
    for n in 2 1; do
        [ ! -f "$log.$n" ] || mv -f "$log.$n" "$log.$((n + 1))"
    done
    cp "$log" "$log.1"
    : >"$log"
}

# Rotates the log until the server exits.
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
        since=$(date -d "$SINCE" +%s) || fail 2 "SINCE=\"$SINCE\" is not a valid time; use for example \"2026-06-20 10:00\", \"1 hour ago\" or yesterday"
        lines=${LINES:-all}
    fi
    if [ "$mode" = service ]; then
        exec journalctl --unit="$unit" --lines="$lines" ${since:+--since="@$since"} ${follow:+--follow}
    fi
    [ -f "$log" ] || fail 1 "there is no log yet; start the server with \`make up\`"
    if [ -n "$since" ]; then
        log_since "$since" | { if [ "$lines" = all ]; then cat; else tail -n "$lines"; fi; }
        [ -n "$follow" ] || exit 0
        lines=0
    fi
    exec tail -n "$lines" ${follow:+-F} "$log"
}

# log_since SECONDS: prints the log from the first line at or after this Unix time.
log_since() {
    local file files=()
    for file in "$log.3" "$log.2" "$log.1" "$log"; do
        [ ! -f "$file" ] || files+=("$file")
    done
    awk -v since="$(date -u -d "@$1" +%Y-%m-%dT%H:%M:%S)" '
        !found && match($0, /[0-9]+-[0-9][0-9]-[0-9][0-9]T[0-9:]+/) { found = substr($0, RSTART, RLENGTH) >= since }
        found' "${files[@]}"
}

# -- Start and stop -----------------------------------------------------------------------

print_location() {
    say "coffee-tracker $1: pid $(server_pid), $(url)"
    say "key: $(key_location)"
}

up() {
    if [ "$mode" = service ]; then
        systemctl start "$unit" || fail 1 "the service did not start; see \`make logs\`"
        print_location "is running under systemd"
        return
    fi
    (umask 077 && mkdir -p data)
    exec 9>"$pid_file.lock"
    flock --wait 90 9 || fail 75 "another \`make up\` is running"
    if server_pid >/dev/null; then
        print_location "is already running"
        return
    fi
    if [ ! -x "$binary" ]; then
        [ -z "${BINARY:-}" ] || fail 1 "$binary does not exist"
        cargo build --release --locked 9>&-
    elif [ -n "$(find src sql static Cargo.toml -newer "$binary" 2>/dev/null | head -n 1)" ]; then
        say "note: the sources are newer than $binary; run \`make build\` to rebuild it"
    fi
    start
    print_location "started"
    say "log: $log"
}

start() {
    local pid since before
    umask 077
    rm -f "$pid_file"
    rotate_log
    before=$(stat -c %s "$log" 2>/dev/null || echo 0)
    # Standard output contains a newly created key, which must not get into the log.
    output=$(mktemp data/.up.XXXXXX)
    setsid "$binary" serve </dev/null >"$output" 2>>"$log" 9>&- &
    pid=$!
    since=$(started_at "$pid") || since=0
    remember "$pid" "$since" ''
    for ((n = 0; n < ${UP_SECONDS:-60} * 20; n++)); do
        if [ "$(started_at "$pid")" != "$since" ]; then
            rm -f "$pid_file"
            tail -c "+$((before + 1))" "$log" | tail -n 5 >&2
            fail 1 "coffee-tracker did not start; see the log lines above"
        fi
        if [ -s "$output" ]; then
            remember "$pid" "$since" "$(sed -n 's/^Listening on \(http:.*\)$/\1/p' "$output")"
            if responds; then
                setsid scripts/service.sh keep-log "$pid" </dev/null >/dev/null 2>&1 9>&- &
                return
            fi
        fi
        sleep 0.05
    done
    fail 1 "coffee-tracker is running (pid $pid) but does not respond yet; see \`make logs\` or run \`make down\`"
}

# remember PID SINCE URL
remember() {
    local url=${3/'//0.0.0.0:'/'//127.0.0.1:'}
    printf '%s\n' "$1" "$2" "$(realpath "$binary")" "${url/'//[::]:'/'//[::1]:'}" >"$pid_file.new"
    mv -f "$pid_file.new" "$pid_file"
}

# A response with status 503 counts.
responds() {
    command -v curl >/dev/null || return 0
    [ "$(request /dev/null /health)" != 000 ]
}

down() {
    local pid
    if ! pid=$(server_pid); then
        [ "$mode" = service ] || rm -f "$pid_file"
        say "coffee-tracker is not running"
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
        ! server_pid >/dev/null || fail 1 "coffee-tracker (pid $pid) did not stop within ${DOWN_SECONDS:-15} s; see \`make logs\`"
        rm -f "$pid_file"
    fi
    say "coffee-tracker stopped (pid $pid)"
}

restart() {
    if [ "$mode" = service ]; then
        systemctl restart "$unit" || fail 1 "the service did not start; see \`make logs\`"
        print_location "restarted"
    else
        down
        up
    fi
}

# Prints what the server logs about the reload. Invalid settings are refused before the signal is sent.
reload() {
    local pid before result=
    pid=$(server_pid) || fail 1 "coffee-tracker is not running; start it with \`make up\`"
    if [ "$mode" = service ]; then
        systemctl reload "$unit" || fail 1 "the settings were not reloaded; see \`make logs\`"
        say "coffee-tracker reloads its settings (pid $pid); \`make logs\` shows the result"
        return
    fi
    "$binary" config --quiet || exit
    before=$(stat -c %s "$log" 2>/dev/null || echo 0)
    kill -HUP "$pid"
    for ((n = 0; n < 100; n++)); do
        result=$(tail -c "+$((before + 1))" "$log" 2>/dev/null |
            grep -oE '(settings reloaded: |settings not reloaded|without effect, because |restart the server to apply: ).*') || true
        case $result in
            *"settings not reloaded"*) fail 1 "$result" ;;
            *"settings reloaded"*) break ;;
        esac
        sleep 0.05
    done
    say "${result:-coffee-tracker reloads its settings (pid $pid); see \`make logs\`}"
}

# -- Status -------------------------------------------------------------------------------

# person_of PART TEXT: prints " (NAME)" when this part of /health is about a person other than the owner.
person_of() { sed -n "s/.*\"$1\":{[^}]*\"person\":\"\([a-z0-9-]*\)\".*/ (\1)/p" <<<"$2"; }

health_line() {
    local text code backup
    command -v curl >/dev/null || { say "health: unknown (curl is not installed)"; return; }
    response=$(mktemp)
    code=$(request "$response" /health)
    text=$(tr -d '\n' <"$response")
    if [ "$code" = 000 ] || [ "$code" = 429 ]; then
        say "health: unknown (status $code)"
        return
    fi
    backup=$(sed -n 's/.*"backup":{"status":"\([a-z]*\)".*/\1/p' <<<"$text")
    # `status` prints the newest backup itself; /health may lag by a second.
    [ "$backup" != none ] || backup=
    say "health: $(field status "$text"), database $(field state "$text")$(person_of database "$text"), disk $(field used_percent "$text")% used${backup:+, backup $backup$(person_of backup "$text")}"
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

# newest_backup_line [PERSON]
newest_backup_line() {
    local newest
    if newest=$(newest_backup "${1:-}" 2>/dev/null); then
        say "newest backup${1:+ of $1}: $newest ($(stat -c %s "$newest") bytes, $(age $(($(date +%s) - $(stat -c %Y "$newest")))) old)"
    else
        say "newest backup${1:+ of $1}: none; create one with \`make backup\`"
    fi
}

status() {
    local pid up memory person names code=0
    if pid=$(server_pid); then
        up=$(awk -v since="$(started_at "$pid")" -v ticks="$(getconf CLK_TCK)" '{ printf "%d", $1 - since / ticks }' /proc/uptime)
        memory=$(awk '/^VmRSS:/ { printf "%.1f MB", $2 * 1024 / 1e6 }' "/proc/$pid/status")
        say "coffee-tracker is running: pid $pid for $(age "$up"), ${memory:-unknown} resident, $(url)"
        health_line
    else
        say "coffee-tracker is not running; start it with \`make up\`"
        code=1
    fi
    if [ "$mode" = service ] && [ "$(id -u)" != 0 ]; then
        say "newest backup: unknown; run sudo make status"
    else
        newest_backup_line
        names=$(people 2>/dev/null) || true
        for person in $names; do
            [ "$person" = owner ] || newest_backup_line "$person"
        done
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
    response=$(mktemp)
    code=$(request "$response" /health)
    case $code in
        000) fail 1 "no response from $(url); start the server with \`make up\` or see \`make logs\`" ;;
        200) pretty "$response" ;;
        *)
            pretty "$response"
            fail 1 "$(url)/health returned status $code; docs/RUNBOOK.md describes what to do about each state"
            ;;
    esac
}

failures=0
# expect STATUS PATH [NOTE [CURL ARGUMENTS…]]: sends a request and prints a line of the table.
expect() {
    local expected=$1 path=$2 words=${3:-} got verdict=ok
    shift 2
    [ $# = 0 ] || shift
    got=$(request "$response" "$path" "$@")
    if [ "$got" != "$expected" ]; then
        verdict="expected $expected"
        failures=$((failures + 1))
    fi
    printf '%-34s %s  %s\n' "$path${words:+ ($words)}" "$got" "$verdict"
}

# expect_with_key STATUS PATH
expect_with_key() {
    local quoted=${key//\\/\\\\}
    # Arguments are visible to every user.
    expect "$1" "$2" "with the key" --config <(printf 'header = "Authorization: Bearer %s"\n' "${quoted//\"/\\\"}")
}

validate() {
    local open path info key
    needs_curl
    response=$(mktemp)
    [ "$(request "$response" /health)" != 000 ] || fail 1 "no response from $(url); start the server with \`make up\`"
    request "$response" /info >/dev/null
    info=$(tr '{' '\n' <"$response")
    # /info lists the public routes.
    open=$(sed -n 's/.*"method":"GET","path":"\([^"<]*\)","needs_key":false.*/\1/p' <<<"$info")
    for path in / /health /info /openapi.json; do
        grep -qx "$path" <<<"$open" || open="$open"$'\n'"$path"
    done
    while read -r path; do
        # One page redirects.
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
        say "the key cannot be read ($(key_location)); run this as root"
        failures=$((failures + 1))
    fi
    [ "$failures" = 0 ] || fail 1 "$failures checks failed (429: rate limited, try again in a minute)"
    say "all checks passed at $(url)"
}

# -- Data ---------------------------------------------------------------------------------

restore() {
    local options=() file
    file=${FILE:-$(newest_backup "${PERSON:-}")} || fail 1 "there is no backup to restore; \`coffee-tracker backups list\` lists every file"
    case ${YES:-} in
        yes | 1 | true) options=(--yes) ;;
        *) [ ! -e "$file" ] || [ -t 0 ] || fail 2 "restoring requires confirmation, but there is no terminal; add YES=yes" ;;
    esac
    tracker restore "$(realpath "$file")" "${options[@]}" "${whose[@]}"
}

verify() {
    if [ -n "${FILE:-}" ]; then
        tracker verify "$(realpath "$FILE")"
    else
        tracker verify --newest "${whose[@]}"
    fi
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
        tracker sql "$QUERY" "${whose[@]}"
    else
        tracker sql "${whose[@]}"
    fi
}

case ${1:-} in
    up | down | restart | reload | status | logs | health | validate | restore | verify | check | sql) "$1" ;;
    backup) tracker backup "${whose[@]}" ;;
    keep-log) keep_log "$2" ;;
    *) fail 2 "usage: $(sed -n 's/^#   //p' "$0")" ;;
esac
