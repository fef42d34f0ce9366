# shellcheck shell=bash
# What runs where: read by the other scripts, in the top folder of a checkout.
#
#   mode      service: the unit is installed and systemd is at work; checkout: all else
#   binary    the program; BINARY names another
#
# A setting is looked for where the server finds it: in a checkout in the environment and in
# `.env`, of a service in its environment file and its unit.
set -euo pipefail

unit=coffee-tracker.service
settings_file=/etc/coffee-tracker/coffee-tracker.env
credential=/etc/coffee-tracker/api_key
pid_file=data/coffee-tracker.pid
export LC_ALL=C

say() { printf '%s\n' "$*"; }

# Ends with a sentence; the first word is the exit code.
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

# A file's line NAME=VALUE, without its quotes and what is said about it; which one: `head` or `tail`.
line_of() {
    local file=$1 name=$2 which=$3
    [ -r "$file" ] || return 0
    sed -nE "s/^[[:space:]]*(export[[:space:]]+)?${name}[[:space:]]*=[[:space:]]*//p" "$file" | "$which" -n 1 |
        sed -E -e 's/^"([^"]*)".*$/\1/; t' -e "s/^'([^']*)'.*\$/\1/; t" -e 's/[[:space:]]+#.*$//; s/[[:space:]]+$//'
}

# setting NAME DEFAULT
setting() {
    local value
    if [ "$mode" = service ]; then
        value=$(line_of "$settings_file" "$1" tail)
        [ -n "$value" ] || value=$(tr ' ' '\n' <<<"$unit_environment" | sed -n "s/^$1=//p" | tail -n 1)
    else
        value=${!1:-}
        [ -n "$value" ] || value=$(line_of .env "$1" head)
    fi
    printf '%s' "${value:-$2}"
}

database() {
    local named
    named=$(setting DATABASE_URL sqlite:///data/coffee.db)
    printf '%s' "${named#sqlite:///}"
}

# The file that holds the key; nothing when a variable does.
key_file() {
    local named database
    if [ -n "$(setting API_KEY '')" ]; then
        return
    fi
    named=$(setting API_KEY_FILE '')
    database=$(database)
    if [ -n "$named" ]; then
        printf '%s' "$named"
    elif [ "$mode" = service ] && [ -e "$credential" ]; then
        printf '%s' "$credential"
    else
        printf '%s' "${database%.*}.key"
    fi
}

# In words.
key_place() {
    local file
    file=$(key_file)
    printf '%s' "${file:-as configured in API_KEY}"
}

# The key itself; fails when it cannot be read.
api_key() {
    local file
    file=$(key_file)
    if [ -z "$file" ]; then
        setting API_KEY ''
    else
        tr -d '[:space:]' 2>/dev/null <"$file"
    fi
}

# The settings file of a service: the example's, with what differs there, less the key.
service_settings() {
    echo "# Settings of the service: \`systemctl restart coffee-tracker\` makes them hold."
    echo "# Commands take them too: sudo coffee-tracker key list --config $settings_file"
    echo "# The owner's key is in $credential, or, where there is none, in /var/lib/coffee-tracker/coffee.key."
    echo
    awk '/^# -- / { left_out = /The API key/; begun = 1 } begun && !left_out' .env.example |
        sed -e 's#^\#HOST=.*#HOST=0.0.0.0#' \
            -e 's#^\#DATABASE_URL=.*#DATABASE_URL=sqlite:////var/lib/coffee-tracker/coffee.db#' \
            -e 's#^\#BACKUP_DIR=.*#BACKUP_DIR=/var/lib/coffee-tracker/backups#'
}

# started_at PID: when it began, in ticks since the machine did; fails when there is no such process
# or only its exit code is left.
started_at() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # What stands before is its name, which may hold anything.
    read -ra fields <<<"${stat##*) }"
    [ "${fields[0]}" != Z ] || return 1
    printf '%s' "${fields[19]}"
}

# The pid of the server that runs; fails when none does. In a checkout that is the one that `up`
# started: the file may be older than the machine's last start, and its pid somebody else's by now.
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
    # Of another user's process the kernel does not tell.
    now=$(readlink "/proc/$pid/exe" 2>/dev/null) || now=$program
    # A rebuilt program is another file under the same name.
    [ "${now% (deleted)}" = "$program" ] || return 1
    printf '%s' "$pid"
}

# Where the server answers, or would.
url() {
    local host
    if [ "$mode" = checkout ] && server_pid >/dev/null; then
        sed -n 4p "$pid_file"
        return
    fi
    host=$(setting HOST 127.0.0.1)
    case $host in
        0.0.0.0 | localhost) host=127.0.0.1 ;;
        ::) host='[::1]' ;;
        *:*) host="[$host]" ;;
    esac
    printf 'http://%s:%s' "$host" "$(setting PORT 8000)"
}

# tracker ARGUMENT…: the program on the server's files, with its settings.
tracker() {
    [ -x "$binary" ] || fail 1 "$binary is not there: build it with \`make build\`."
    if [ "$mode" = service ]; then
        # A file `.env` of this folder is not the service's.
        (
            program=$(realpath "$binary")
            cd /
            DATABASE_URL=$(setting DATABASE_URL '') BACKUP_DIR=$(setting BACKUP_DIR '') TZ=$(setting TZ '') \
                exec "$program" "$@"
        )
    else
        "$binary" "$@"
    fi
}

# The newest backup of the server's database that is no safety copy of a restore; fails, with a
# sentence on standard error, when there is none.
newest_backup() { tracker backups newest; }

needs_curl() {
    command -v curl >/dev/null || fail 1 "This asks the server with curl, which is not installed: sudo apt install curl"
}

# ask FILE PATH [CURL'S ARGUMENTS…]: lays the answer into FILE and prints the status; 000: no answer.
ask() {
    local file=$1 path=$2
    shift 2
    curl --silent --noproxy '*' --max-time 20 --output "$file" --write-out '%{http_code}' "$@" "$(url)$path" || true
}

# field NAME TEXT: the first value of a field in JSON.
field() {
    grep -o "\"$1\":\"\\{0,1\\}[^\",}]*" <<<"$2" | head -n 1 | sed 's/^[^:]*:"\{0,1\}//'
}
