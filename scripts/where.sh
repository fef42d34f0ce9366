# shellcheck shell=bash
# Locates the server, its settings and its data. Sourced by the other scripts in the root of a checkout.
#
#   mode      service: systemd runs and the unit is installed; checkout: otherwise
#   binary    path of the program; BINARY overrides it
#
# Settings are those of the server: in a checkout from the environment and `.env`, for a service from its settings
# file and its unit.
set -euo pipefail

unit=coffee-tracker.service
settings_file=/etc/coffee-tracker/coffee-tracker.env
credential=/etc/coffee-tracker/api_key
pid_file=data/coffee-tracker.pid
export LC_ALL=C

say() { printf '%s\n' "$*"; }

# fail CODE MESSAGE…: prints the message and exits.
fail() {
    local code=$1
    shift
    printf '%s\n' "$*" >&2
    exit "$code"
}

mode=checkout
binary=${BINARY:-${CARGO_TARGET_DIR:-target}/release/coffee-tracker}
if [ -d /run/systemd/system ] && systemctl cat "$unit" >/dev/null 2>&1; then
    mode=service
    binary=${BINARY:-$(systemctl show --property=ExecStart --value "$unit" | sed -n 's/.*path=\([^ ;]*\).*/\1/p' | head -n 1)}
    unit_environment=$(systemctl show --property=Environment --value "$unit")
fi

# setting NAME [ARGUMENT…]: the value that the server uses, from `coffee-tracker config`.
setting() {
    has_binary
    if [ "$mode" = service ]; then
        # systemd uses the last line of a variable and the program the first one, hence tac. The settings file takes
        # precedence over the unit.
        (
            # An installed program of version 1.0 has no command `config`; the one that was built here has.
            program=${CARGO_TARGET_DIR:-target}/release/coffee-tracker
            [ -x "$program" ] || program=$binary
            program=$(realpath "$program")
            cd /
            env -i CREDENTIALS_DIRECTORY="${credential%/*}" "$program" config "$@" --config <(
                tac "$settings_file" 2>/dev/null
                tr ' ' '\n' <<<"$unit_environment" | tac
            )
        )
    else
        "$binary" config "$@"
    fi
}

has_binary() { [ -x "$binary" ] || fail 1 "$binary does not exist; build it with \`make build\`"; }

database() {
    local named
    named=$(setting DATABASE_URL)
    printf '%s' "${named#sqlite:///}"
}

# The key file as text; without one, the key is in API_KEY.
key_location() {
    local file
    file=$(setting API_KEY_FILE)
    printf '%s' "${file:-as configured in API_KEY}"
}

# Prints the key; fails when it cannot be read.
api_key() {
    local file
    file=$(setting API_KEY_FILE)
    if [ -z "$file" ]; then
        setting API_KEY --show-secrets
    else
        tr -d '[:space:]' 2>/dev/null <"$file"
    fi
}

# Prints the settings file of a service: .env.example with the paths of the service and without the key.
service_settings() {
    echo "# Settings of the service. To apply changes, run: sudo systemctl reload coffee-tracker"
    echo "# The log then names the settings that need a restart: sudo systemctl restart coffee-tracker"
    echo "# Commands use them with --config: sudo coffee-tracker key list --config $settings_file"
    echo "# The owner's key is in $credential or, if that does not exist, in /var/lib/coffee-tracker/coffee.key."
    echo
    awk '/^# -- / { is_skipped = /The API key/; has_begun = 1 } has_begun && !is_skipped' .env.example |
        sed -e 's#^\#HOST=.*#HOST=0.0.0.0#' \
            -e 's#^\#DATABASE_URL=.*#DATABASE_URL=sqlite:////var/lib/coffee-tracker/coffee.db#' \
            -e 's#^\#BACKUP_DIR=.*#BACKUP_DIR=/var/lib/coffee-tracker/backups#'
}

# started_at PID: prints the start time of a process in ticks since boot; fails when the process does not exist
# or is a zombie.
started_at() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The process name comes first and may contain spaces and parentheses.
    read -ra fields <<<"${stat##*) }"
    [ "${fields[0]}" != Z ] || return 1
    printf '%s' "${fields[19]}"
}

# Prints the PID of the running server; fails when it is not running. In a checkout this is the server that
# `up` started. The PID file may be stale and its PID reused, so the start time and the program are compared.
server_pid() {
    local pid since program now
    if [ "$mode" = service ]; then
        pid=$(systemctl show --property=MainPID --value "$unit")
        [ "$pid" != 0 ] || return 1
        printf '%s' "$pid"
        return
    fi
    [ -r "$pid_file" ] || return 1
    { read -r pid && read -r since && read -r program; } <"$pid_file" || return 1
    [[ $pid =~ ^[0-9]+$ ]] && [ "$(started_at "$pid")" = "$since" ] || return 1
    # The link is unreadable for a process of another user.
    now=$(readlink "/proc/$pid/exe" 2>/dev/null) || now=$program
    # After a rebuild the running program is a deleted file with the same name.
    [ "${now% (deleted)}" = "$program" ] || return 1
    printf '%s' "$pid"
}

# Prints the URL of the server, also when it is not running.
url() {
    local host
    if [ "$mode" = checkout ] && server_pid >/dev/null; then
        sed -n 4p "$pid_file"
        return
    fi
    host=$(setting HOST)
    case $host in
        0.0.0.0 | localhost) host=127.0.0.1 ;;
        ::) host='[::1]' ;;
        *:*) host="[$host]" ;;
    esac
    printf 'http://%s:%s' "$host" "$(setting PORT)"
}

# tracker ARGUMENT…: runs the program with the database and the settings of the server.
tracker() {
    has_binary
    if [ "$mode" = service ]; then
        # The service does not read `.env` in this folder.
        (
            program=$(realpath "$binary")
            cd /
            DATABASE_URL=$(setting DATABASE_URL) BACKUP_DIR=$(setting BACKUP_DIR) TZ=$(setting TZ) \
                exec "$program" "$@"
        )
    else
        "$binary" "$@"
    fi
}

# Prints the names of everyone, one per line, the owner's first. Older versions have no command `person`.
people() {
    local listed
    if ! tracker person --help >/dev/null 2>&1; then
        echo owner
        return
    fi
    listed=$(tracker person list --json) || return 1
    grep -o '{"name":"[a-z0-9-]*"' <<<"$listed" | cut -d '"' -f 4
}

# newest_backup [PERSON]: prints the newest backup of the server's database or of the one of this person, ignoring the
# safety backups of restores; fails with an error message when there is none.
newest_backup() {
    if [ "${1:-owner}" = owner ]; then tracker backups newest; else tracker backups newest --person "$1"; fi
}

needs_curl() {
    command -v curl >/dev/null || fail 1 "curl is required but not installed: sudo apt install curl"
}

# request FILE PATH [CURL ARGUMENTS…]: writes the response body to FILE and prints the status, or 000 without a response.
request() {
    local file=$1 path=$2
    shift 2
    curl --silent --noproxy '*' --max-time 20 --output "$file" --write-out '%{http_code}' "$@" "$(url)$path" || true
}

# field NAME TEXT: prints the first value of a JSON field.
field() {
    grep -o "\"$1\":\"\\{0,1\\}[^\",}]*" <<<"$2" | head -n 1 | sed 's/^[^:]*:"\{0,1\}//'
}
