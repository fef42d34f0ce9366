#!/usr/bin/env bash
# Holds the unit and deploy/ to those who read them: systemd, Prometheus, nginx, Caddy, and a server that
# is started for it. Everything on loopback and free ports, in a folder of its own.
#
#   scripts/check-deploy.sh                          builds the server
#   COFFEE_TRACKER=path scripts/check-deploy.sh      takes one that is built already
#
# What is missing is fetched with apt-get: systemd, curl, openssl and python3 are installed (as root); of
# Prometheus, nginx and Caddy the package is only unpacked, so that no service is started. What cannot be
# had is skipped, and said.
set -euo pipefail
cd "$(dirname "$0")/.."

WORST_SCORE=1.1

work=$(mktemp -d)
tools=$PWD/target/check-deploy
started=()
skipped=()

cleanup() {
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

step() { printf '\n== %s\n' "$*"; }

fail() {
    echo "check-deploy: $*" >&2
    exit 1
}

skip() {
    echo "skipped: $*"
    skipped+=("$*")
}

is_root() { [ "$(id -u)" = 0 ]; }

# apt-get needs its lists; a bare container has none.
update_lists() {
    [ -n "${lists_updated:-}" ] && return
    lists_updated=1
    if is_root; then timeout 300 apt-get update -qq >/dev/null 2>&1 || true; fi
}

# installed COMMAND PACKAGE: is the command there, perhaps by now?
installed() {
    command -v "$1" >/dev/null && return
    is_root && command -v apt-get >/dev/null || return 1
    update_lists
    DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1
    command -v "$1" >/dev/null
}

# unpacked COMMAND PACKAGE: its path, from the system or from the unpacked package.
unpacked() {
    local found
    if found=$(PATH=$PATH:/usr/sbin command -v "$1"); then
        echo "$found"
        return
    fi
    found=$(find "$tools/$2" -type f -name "$1" -perm -u+x -path '*bin/*' 2>/dev/null | head -n 1 || true)
    if [ -z "$found" ]; then
        command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
        update_lists
        rm -rf "${tools:?}/$2"
        mkdir -p "$tools/$2/deb"
        (cd "$tools/$2/deb" && timeout 300 apt-get -o APT::Sandbox::User=root download "$2" >/dev/null 2>&1) || return 1
        dpkg-deb -x "$tools/$2"/deb/*.deb "$tools/$2"
        found=$(find "$tools/$2" -type f -name "$1" -perm -u+x -path '*bin/*' | head -n 1)
    fi
    [ -n "$found" ] && echo "$found"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# waits_for SECONDS COMMAND...: until it succeeds.
waits_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# is VALUE EXPECTED WHAT
is() { [ "$1" = "$2" ] || fail "$3: \"$1\" instead of \"$2\""; }

check_units() {
    step "systemd: units, hardening, users, folders"
    installed systemd-analyze systemd || { skip "units: there is no systemd-analyze"; return; }
    systemd-analyze --version | head -n 1
    local unit said score
    mkdir "$work/units"
    for unit in coffee-tracker.service deploy/*.service deploy/*.timer; do
        sed "s#/usr/bin/coffee-tracker#$binary#" "$unit" >"$work/units/${unit##*/}"
    done
    said=$(timeout 60 systemd-analyze verify "$work"/units/* 2>&1) || fail "systemd-analyze verify: $said"
    is "$said" "" "systemd-analyze verify is not silent"
    for unit in "$work"/units/*.service; do
        said=$(timeout 60 systemd-analyze security --offline=true --no-pager "$unit" 2>&1)
        score=$(sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p' <<<"$said")
        printf '%-32s %s\n' "${unit##*/}" "${score:-?}"
        awk -v score="${score:-99}" -v worst="$WORST_SCORE" 'BEGIN { exit score <= worst ? 0 : 1 }' ||
            fail "exposed more than $WORST_SCORE: $said"
    done
    if is_root && command -v systemd-sysusers >/dev/null; then
        mkdir -p "$work/root/etc/coffee-tracker" "$work/root/usr/lib"
        touch "$work/root/etc/coffee-tracker/api_key"
        cp -r deploy/sysusers.d deploy/tmpfiles.d "$work/root/usr/lib"
        said=$(systemd-sysusers --root="$work/root" 2>&1) || fail "systemd-sysusers: $said"
        said=$(systemd-tmpfiles --root="$work/root" --create 2>&1) || fail "systemd-tmpfiles: $said"
        is "$(stat -c %a "$work/root/var/lib/coffee-tracker/backups")" 700 "the mode of the folder of backups"
        is "$(stat -c %a "$work/root/etc/coffee-tracker/api_key")" 600 "the mode of the key"
    else
        skip "users and folders: only root can make them"
    fi
}

start_server() {
    step "a server, a coffee, a heart rate, a backup"
    export API_KEY
    API_KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    (
        cd "$work"
        exec env -u API_KEY_FILE HOST=127.0.0.1 PORT=0 DATABASE_URL=coffee.db BACKUP_DIR=backups LOG_LEVEL=info \
            LOG_FORMAT=text TRUSTED_PROXIES=127.0.0.1 ALLOWED_HOSTS=coffee.example RATE_LIMIT_ENABLED=true \
            RATE_LIMIT_INFO=2/hour "$binary" serve
    ) >"$work/out" 2>"$work/log" &
    started+=($!)
    waits_for 20 grep -q '^Listening on' "$work/out" || fail "the server did not start: $(cat "$work/log")"
    server=$(sed -n 's#^Listening on http://##p' "$work/out")
    local entry
    for entry in 'coffee/ {"caffeine_mg":64,"coffee_type":"espresso"}' 'heartrate/ {"bpm":61,"context":"resting"}'; do
        is "$(curl -s -m 10 -o "$work/answer" -w '%{http_code}' -H "Authorization: Bearer $API_KEY" \
            -d "${entry#* }" "http://$server/${entry%% *}")" 201 "POST /${entry%% *}"
    done
    (cd "$work" && DATABASE_URL=coffee.db BACKUP_DIR=backups "$binary" backup --quiet)
    (cd "$work" && DATABASE_URL=coffee.db BACKUP_DIR=backups "$binary" verify --newest)
}

check_metrics() {
    step "every metric of rules and dashboard exists"
    curl -sf -m 10 -H "Authorization: Bearer $API_KEY" "http://$server/metrics" >"$work/metrics"
    python3 scripts/deploy_metrics.py "$work/metrics" deploy/prometheus-rules.yml deploy/grafana-dashboard.json
}

check_prometheus() {
    step "Prometheus: metrics, rules, their tests, config"
    local promtool
    promtool=$(unpacked promtool prometheus) || { skip "rules: there is no promtool"; return; }
    timeout 60 "$promtool" check rules deploy/prometheus-rules.yml
    timeout 120 "$promtool" test rules deploy/prometheus-rules-test.yml
    cp deploy/prometheus-rules.yml "$work/coffee-tracker-rules.yml"
    echo "$API_KEY" >"$work/coffee-tracker.key"
    sed "s#/etc/prometheus/#$work/#" deploy/prometheus.yml >"$work/prometheus.yml"
    timeout 60 "$promtool" check config "$work/prometheus.yml"
    timeout 60 "$promtool" check metrics <"$work/metrics" || fail "promtool check metrics"
}

# through PROXY URL CLIENT: asks as a client at that address, who claims to be another.
through() {
    local proxy=$1 url=$2 client=$3 id port
    id="by-$proxy-$RANDOM"
    port=${url##*:}
    ask() {
        curl -sk -m 10 -o "$work/answer" -D "$work/headers" -w '%{http_code}' --interface "$client" \
            --resolve "coffee.example:$port:127.0.0.1" "$@"
    }
    is "$(ask -H "X-Request-ID: $id" -H "X-Forwarded-For: 203.0.113.9" "$url/health")" 200 "GET /health by $proxy"
    grep -qi "^x-request-id: $id" "$work/headers" || fail "$proxy: the answer has not the request's id"
    waits_for 5 grep -q "id=$id .*client=$client " "$work/log" || fail "$proxy: no line of $id from $client in the log"
    is "$(ask "$url/info") $(ask "$url/info") $(ask "$url/info")" "200 200 429" "$proxy: three requests of $client, two allowed"
    client=${client%.*}.$((${client##*.} + 1))
    is "$(ask "$url/info")" 200 "$proxy: another client has a limit of its own"
    python3 -c 'print("{\"readings\":[" + ",".join("{\"bpm\":%d,\"timestamp\":\"2025-01-01T00:00:00Z\",\"notes\":\"%s\"}" \
        % (60 + n % 90, "x" * 300) for n in range(5000)) + "]}")' >"$work/batch"
    is "$(ask -H "Authorization: Bearer $API_KEY" -d "@$work/batch" "$url/heartrate/batch")" 201 "$proxy: a batch of 1.8 MB"
    echo "$proxy: id, client, limits and large bodies go through"
}

check_nginx() {
    step "nginx: its verdict, and requests through it"
    local nginx http https
    nginx=$(unpacked nginx nginx) || { skip "nginx: it cannot be had"; return; }
    if ! "$nginx" -v 2>"$work/nginx-version"; then
        skip "nginx: it does not run here: $(cat "$work/nginx-version")"
        return
    fi
    http=$(free_port) https=$(free_port)
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=coffee.example \
        -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
    sed -e "s#127.0.0.1:8000#$server#" -e "s#listen 80;#listen 127.0.0.1:$http;#" -e '/listen \[::\]/d' \
        -e "s#listen 443 ssl;#listen 127.0.0.1:$https ssl;#" -e "s#/etc/letsencrypt/live/coffee.example#$work#" \
        deploy/nginx.conf >"$work/site.conf"
    {
        if is_root; then echo "user root;"; fi
        echo "daemon off; pid $work/nginx.pid; error_log $work/nginx-errors; events {}"
        echo "http { access_log off;"
        for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $work/nginx-$kind;"; done
        echo "include $work/site.conf; }"
    } >"$work/nginx.conf"
    timeout 30 "$nginx" -t -p "$work" -c "$work/nginx.conf" -e "$work/nginx-errors" || fail "nginx -t"
    "$nginx" -p "$work" -c "$work/nginx.conf" -e "$work/nginx-errors" &
    started+=($!)
    waits_for 10 curl -sk -m 2 "https://127.0.0.1:$https/" || fail "nginx did not start: $(cat "$work/nginx-errors")"
    is "$(curl -s -m 10 -o "$work/answer" -w '%{redirect_url}' -H 'Host: coffee.example' "http://127.0.0.1:$http/info")" \
        https://coffee.example/info "plain HTTP leads to TLS"
    through nginx "https://coffee.example:$https" 127.0.0.5
}

check_caddy() {
    step "Caddy: its verdict, and requests through it"
    local caddy port
    caddy=$(unpacked caddy caddy) || { skip "Caddy: it cannot be had"; return; }
    export XDG_DATA_HOME=$work/caddy XDG_CONFIG_HOME=$work/caddy HOME=$work
    timeout 30 "$caddy" validate --adapter caddyfile --config deploy/Caddyfile 2>"$work/caddy-log" || fail "caddy: $(cat "$work/caddy-log")"
    port=$(free_port)
    {
        printf '{\n\tadmin off\n\tauto_https off\n}\n'
        sed -e "s#127.0.0.1:8000#$server#" -e "s#^coffee.example {#http://coffee.example:$port {\n\tbind 127.0.0.1#" deploy/Caddyfile
    } >"$work/Caddyfile"
    "$caddy" run --adapter caddyfile --config "$work/Caddyfile" 2>"$work/caddy-log" &
    started+=($!)
    waits_for 10 curl -s -m 2 "http://127.0.0.1:$port/" || fail "Caddy did not start: $(cat "$work/caddy-log")"
    through Caddy "http://coffee.example:$port" 127.0.0.15
}

for tool in curl openssl python3; do
    installed "$tool" "$tool" || fail "$tool is needed"
done
if [ -z "${COFFEE_TRACKER:-}" ]; then
    cargo build --locked
    COFFEE_TRACKER=${CARGO_TARGET_DIR:-target}/debug/coffee-tracker
fi
binary=$(realpath "$COFFEE_TRACKER")

check_units
start_server
check_metrics
check_prometheus
check_nginx
check_caddy

step "done"
if [ "${#skipped[@]}" -gt 0 ]; then
    printf 'skipped: %s\n' "${skipped[@]}"
fi
