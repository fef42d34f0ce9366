#!/usr/bin/env bash
# Validates the unit and deploy/ with the programs that read them: systemd, Prometheus, nginx, Caddy and HAProxy, in front
# of a running server. check-standby.sh and check-replica.sh cover Litestream. Uses loopback, free ports and a temporary
# folder.
#
#   scripts/check-deploy.sh                          build the server
#   COFFEE_TRACKER=path scripts/check-deploy.sh      use this binary
#
# Missing programs come from apt-get: systemd, curl, openssl, python3, HAProxy and socat are installed (as root);
# Prometheus, nginx and Caddy are only unpacked. No service is started. Unavailable programs are skipped and reported.
cd "$(dirname "$0")/.."
. scripts/tools.sh

MAX_EXPOSURE=1.1

check_units() {
    step "systemd: units, hardening, users, folders"
    installed systemd-analyze systemd || { skip "units: systemd-analyze is unavailable"; return; }
    systemd-analyze --version | head -n 1
    local unit output score
    mkdir "$work/units"
    for unit in coffee-tracker.service deploy/*.service deploy/*.timer deploy/*.path; do
        sed -e "s#/usr/bin/coffee-tracker#$binary#" -e "s#/usr/bin/litestream#$(command -v true)#" \
            -e "s#/usr/bin/rclone#$(command -v true)#" \
            -e "s#/usr/lib/coffee-tracker/import-folder#$PWD/deploy/import-folder#" "$unit" >"$work/units/${unit##*/}"
    done
    output=$(timeout 60 systemd-analyze verify "$work"/units/* 2>&1) || fail "systemd-analyze verify: $output"
    is "$output" "" "output of systemd-analyze verify"
    for unit in "$work"/units/*.service; do
        output=$(timeout 60 systemd-analyze security --offline=true --no-pager "$unit" 2>&1)
        score=$(sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p' <<<"$output")
        printf '%-32s %s\n' "${unit##*/}" "${score:-?}"
        awk -v score="${score:-99}" -v worst="$MAX_EXPOSURE" 'BEGIN { exit score <= worst ? 0 : 1 }' ||
            fail "exposure is higher than $MAX_EXPOSURE: $output"
    done
    if is_root && command -v systemd-sysusers >/dev/null; then
        mkdir -p "$work/root/etc/coffee-tracker" "$work/root/usr/lib"
        touch "$work/root/etc/coffee-tracker/api_key"
        cp -r deploy/sysusers.d deploy/tmpfiles.d "$work/root/usr/lib"
        output=$(systemd-sysusers --root="$work/root" 2>&1) || fail "systemd-sysusers: $output"
        output=$(systemd-tmpfiles --root="$work/root" --create 2>&1) || fail "systemd-tmpfiles: $output"
        is "$(stat -c %a "$work/root/var/lib/coffee-tracker/backups")" 700 "the mode of the folder of backups"
        is "$(stat -c %a "$work/root/etc/coffee-tracker/api_key")" 600 "the mode of the key"
    else
        skip "users and folders: root is required"
    fi
}

start_server() {
    step "start a server, add a coffee, a heart rate and a person, create backups"
    export API_KEY
    API_KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    (
        cd "$work"
        exec env -u API_KEY_FILE HOST=127.0.0.1 PORT=0 DATABASE_URL=coffee.db BACKUP_DIR=backups LOG_LEVEL=info \
            LOG_FORMAT=text TRUSTED_PROXIES=127.0.0.1 "ALLOWED_HOSTS=coffee.example,*.coffee.example" RATE_LIMIT_ENABLED=true \
            RATE_LIMIT_INFO=2/hour "$binary" serve
    ) >"$work/out" 2>"$work/log" &
    started+=($!)
    waits_for 20 grep -q '^Listening on' "$work/out" || fail "the server did not start: $(cat "$work/log")"
    server=$(sed -n 's#^Listening on http://##p' "$work/out")
    local entry
    for entry in 'coffee/ {"caffeine_mg":64,"coffee_type":"espresso"}' 'heartrate/ {"bpm":61,"context":"resting"}'; do
        is "$(curl -s -m 10 -o "$work/response" -w '%{http_code}' -H "Authorization: Bearer $API_KEY" \
            -d "${entry#* }" "http://$server/${entry%% *}")" 201 "status of POST /${entry%% *}"
    done
    (cd "$work" && DATABASE_URL=coffee.db BACKUP_DIR=backups "$binary" person add anna >"$work/key")
    (cd "$work" && DATABASE_URL=coffee.db BACKUP_DIR=backups "$binary" backup --quiet)
    (cd "$work" && DATABASE_URL=coffee.db BACKUP_DIR=backups "$binary" verify --newest)
}

# Saves the metrics; succeeds when they contain a source of readings of another person.
scrape() {
    curl -sf -m 10 -H "Authorization: Bearer $API_KEY" "http://$server/metrics" >"$work/metrics"
    grep -q '^heartrate_source_last_timestamp_seconds{.*person="anna"' "$work/metrics"
}

check_metrics() {
    step "metrics in rules and dashboard exist"
    # A request opens the database of the person, which completes their series.
    waits_for 20 curl -sf -m 10 -H "Authorization: Bearer $(cat "$work/key")" "http://$server/coffee/today" ||
        fail "the key of another person is not accepted"
    local key
    for key in "$API_KEY" "$(cat "$work/key")"; do
        curl -sf -m 10 -o "$work/response" -H "Authorization: Bearer $key" "http://$server/ingest/hc-webhook" \
            -d '{"heart_rate":[{"bpm":61,"time":"2026-02-06T22:28:11Z"}]}' || fail "a push is not accepted"
    done
    waits_for 20 scrape || fail "the metrics have no source of another person"
    python3 scripts/deploy_metrics.py "$work/metrics" deploy/prometheus-rules.yml deploy/grafana-dashboard.json
}

check_prometheus() {
    step "Prometheus: metrics, rules, their tests, config"
    local promtool
    promtool=$(unpacked promtool prometheus) || { skip "rules: promtool is unavailable"; return; }
    timeout 60 "$promtool" check rules deploy/prometheus-rules.yml
    timeout 120 "$promtool" test rules deploy/prometheus-rules-test.yml
    cp deploy/prometheus-rules.yml "$work/coffee-tracker-rules.yml"
    echo "$API_KEY" >"$work/coffee-tracker.key"
    sed "s#/etc/prometheus/#$work/#" deploy/prometheus.yml >"$work/prometheus.yml"
    timeout 60 "$promtool" check config "$work/prometheus.yml"
    timeout 60 "$promtool" check metrics <"$work/metrics" || fail "promtool check metrics"
}

# through PROXY URL CLIENT: sends requests from this address with a forged forwarding header.
through() {
    local proxy=$1 url=$2 client=$3 id port host
    id="${proxy// /-}-$RANDOM"
    port=${url##*:}
    host=${url#*//}
    request() {
        curl -sk -m 10 -o "$work/response" -D "$work/headers" -w '%{http_code}' --interface "$client" \
            --resolve "${host%:*}:$port:127.0.0.1" "$@"
    }
    is "$(request -H "X-Request-ID: $id" -H "X-Forwarded-For: 203.0.113.9" "$url/health")" 200 "status of GET /health through $proxy"
    grep -qi "^x-request-id: $id" "$work/headers" || fail "$proxy: the response lacks the request id"
    waits_for 5 grep -q "id=$id .*client=$client " "$work/log" || fail "$proxy: the log has no request $id from $client"
    is "$(request "$url/info") $(request "$url/info") $(request "$url/info")" "200 200 429" "$proxy: statuses of three requests of $client with a limit of two"
    client=${client%.*}.$((${client##*.} + 1))
    is "$(request "$url/info")" 200 "$proxy: status for another client, which has its own limit"
    python3 -c 'print("{\"readings\":[" + ",".join("{\"bpm\":%d,\"timestamp\":\"2025-01-01T00:00:00Z\",\"notes\":\"%s\"}" \
        % (60 + n % 90, "x" * 300) for n in range(5000)) + "]}")' >"$work/batch"
    is "$(request -H "Authorization: Bearer $API_KEY" -d "@$work/batch" "$url/heartrate/batch")" 201 "$proxy: status of a batch of 1.8 MB"
    echo "$proxy: request id, client address, rate limits and large bodies are correct"
}

check_nginx() {
    step "nginx: configuration and requests"
    local nginx http https
    nginx=$(unpacked nginx nginx) || { skip "nginx is unavailable"; return; }
    if ! "$nginx" -v 2>"$work/nginx-version"; then
        skip "nginx does not run on this machine: $(cat "$work/nginx-version")"
        return
    fi
    http=$(free_port) https=$(free_port)
    make_certificate coffee.example
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
    is "$(curl -s -m 10 -o "$work/response" -w '%{redirect_url}' -H 'Host: coffee.example' "http://127.0.0.1:$http/info")" \
        https://coffee.example/info "redirect from HTTP to HTTPS"
    through nginx "https://coffee.example:$https" 127.0.0.5
}

check_caddy() {
    step "Caddy: configuration and requests"
    local caddy port
    caddy=$(unpacked caddy caddy) || { skip "Caddy is unavailable"; return; }
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

make_certificate() {
    local name=$1
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
        -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
}

# status_of HOST PORT CURL-ARGUMENTS: prints the status of GET /manifest.webmanifest over HTTPS.
status_of() {
    curl -sk -m 20 -o "$work/response" -D "$work/headers" -w '%{http_code}' --resolve "$1:$2:127.0.0.1" \
        "${@:3}" "https://$1:$2/manifest.webmanifest"
}

# Sends requests one after another to the port, each on a connection of its own, until the file `reloaded` exists; writes their
# statuses to the file `statuses`.
send_requests() {
    rm -f "$work/reloaded"
    : >"$work/statuses"
    while [ ! -e "$work/reloaded" ]; do
        curl -sk -m 20 -o "$work/load" -w '%{http_code}\n' --resolve "anna.coffee.example:$1:127.0.0.1" \
            "https://anna.coffee.example:$1/manifest.webmanifest" >>"$work/statuses" || true
    done
}

# routes_people PROXY PORT: anna's machine is the server, and that of ben does not exist.
routes_people() {
    step "$1: routes by host name"
    through "$1" "https://anna.coffee.example:$2" "127.0.0.$(($2 % 100 + 30))"
    is "$(status_of ben.coffee.example "$2")" 503 "$1: status when the machine does not respond"
    grep -qi '^retry-after: 5' "$work/headers" || fail "$1: the response has no Retry-After"
    is "$(status_of dora.coffee.example "$2")" 404 "$1: status for an unknown host name"
}

# reloads PROXY PORT COMMAND: runs the command during requests, of which none may fail.
reloads() {
    local load
    send_requests "$2" &
    load=$!
    waits_for 60 has_statuses 40 || fail "$1: no response"
    "${@:3}"
    waits_for 20 routes_ben "$2" || fail "$1: ben is not routed to the other machine"
    waits_for 60 has_statuses $(($(wc -l <"$work/statuses") + 40)) || fail "$1: no response after the change"
    touch "$work/reloaded"
    wait "$load"
    is "$(sort -u "$work/statuses")" 200 "$1: statuses during the change"
    echo "$1: $(wc -l <"$work/statuses") requests during the change, none failed"
}

has_statuses() { [ "$(wc -l <"$work/statuses")" -ge "$1" ]; }

routes_ben() { [ "$(status_of ben.coffee.example "$1")" = 200 ]; }

check_haproxy() {
    step "HAProxy: configuration, routes, change of a route, reload"
    local haproxy http https master
    if ! installed_unstarted haproxy haproxy || ! installed socat socat; then
        skip "HAProxy or socat is unavailable"
        return
    fi
    haproxy=$(PATH=$PATH:/usr/sbin command -v haproxy)
    http=$(free_port) https=$(free_port)
    make_certificate '*.coffee.example'
    cat "$work/fullchain.pem" "$work/privkey.pem" >"$work/coffee.example.pem"
    cp deploy/people.map "$work/people.map"
    sed -e "s#/etc/haproxy/#$work/#" -e "s#/run/haproxy/#$work/#" -e 's#/dev/log local0#stderr format raw local0#' \
        -e '/^    user \|^    group /d' -e "s#bind :80\$#bind 127.0.0.1:$http#" -e "s#bind :443 #bind 127.0.0.1:$https #" \
        -e "s#10.0.0.11:8000#$server#" -e "s#10.0.0.12:8000#127.0.0.1:$(free_port)#" deploy/haproxy.cfg >"$work/haproxy.cfg"
    timeout 30 "$haproxy" -c -f "$work/haproxy.cfg" || fail "haproxy -c"
    "$haproxy" -W -f "$work/haproxy.cfg" 2>"$work/haproxy-log" &
    master=$!
    started+=("$master")
    waits_for 20 status_of anna.coffee.example "$https" || fail "HAProxy did not start: $(cat "$work/haproxy-log")"
    is "$(curl -s -m 10 -o "$work/response" -w '%{redirect_url}' -H 'Host: anna.coffee.example' "http://127.0.0.1:$http/info")" \
        https://anna.coffee.example/info "redirect from HTTP to HTTPS"
    routes_people HAProxy "$https"
    is "$(status_of ANNA.coffee.example "$https")" 200 "HAProxy: status for a host name in capital letters"
    sed -e "s#/etc/haproxy/#$work/#" -e "s#/run/haproxy/#$work/#" deploy/route-people >"$work/route-people"
    reloads "HAProxy, route-people" "$https" bash "$work/route-people" machine1 ben
    if bash "$work/route-people" machine9 ben 2>"$work/output"; then fail "route-people accepts an unknown machine"; fi
    if bash "$work/route-people" machine1 be 2>"$work/output"; then fail "route-people accepts an unknown person"; fi
    is "$(grep -v '^#' "$work/people.map" | tr -s ' ')" $'anna.coffee.example machine1\nben.coffee.example machine1' "people.map"
    reloads "HAProxy, reload" "$https" kill -USR2 "$master"
}

check_caddy_people() {
    step "Caddy: configuration for several machines, routes, reload"
    local caddy https admin
    caddy=$(unpacked caddy caddy) || { skip "Caddy is unavailable"; return; }
    https=$(free_port) admin=127.0.0.1:$(free_port)
    make_certificate '*.coffee.example'
    cp deploy/people.map "$work/people.map"
    {
        printf '{\n\tadmin %s\n\tauto_https disable_redirects\n}\n' "$admin"
        sed -e "s#^\*.coffee.example {#*.coffee.example:$https {\n\tbind 127.0.0.1#" \
            -e "s#/etc/caddy/coffee.example.pem /etc/caddy/coffee.example.key#$work/fullchain.pem $work/privkey.pem#" \
            -e "s#/etc/caddy/#$work/#" -e "s#10.0.0.11:8000#$server#" -e "s#10.0.0.12:8000#127.0.0.1:$(free_port)#" \
            deploy/Caddyfile.people
    } >"$work/Caddyfile.people"
    timeout 30 "$caddy" validate --adapter caddyfile --config "$work/Caddyfile.people" 2>"$work/caddy-log" ||
        fail "caddy: $(cat "$work/caddy-log")"
    "$caddy" run --adapter caddyfile --config "$work/Caddyfile.people" 2>"$work/caddy-log" &
    started+=($!)
    waits_for 20 status_of anna.coffee.example "$https" || fail "Caddy did not start: $(cat "$work/caddy-log")"
    routes_people "Caddy for people" "$https"
    sed -i '/^ben/s/machine2/machine1/' "$work/people.map"
    reloads "Caddy, reload" "$https" "$caddy" reload --address "$admin" --adapter caddyfile --config "$work/Caddyfile.people"
}

check_units
start_server
check_metrics
check_prometheus
check_nginx
check_caddy
check_caddy_people
check_haproxy
COFFEE_TRACKER=$binary scripts/check-standby.sh
COFFEE_TRACKER=$binary scripts/check-replica.sh

step "done"
say_skipped
