#!/usr/bin/env bash
# Validates the unit and deploy/ with the programs that read them: systemd, Prometheus, nginx and Caddy, in front
# of a running server. check-standby.sh covers Litestream. Uses loopback, free ports and a temporary folder.
#
#   scripts/check-deploy.sh                          build the server
#   COFFEE_TRACKER=path scripts/check-deploy.sh      use this binary
#
# Missing programs come from apt-get: systemd, curl, openssl and python3 are installed (as root); Prometheus, nginx
# and Caddy are only unpacked, so that no service is started. Unavailable programs are skipped and reported.
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
            LOG_FORMAT=text TRUSTED_PROXIES=127.0.0.1 ALLOWED_HOSTS=coffee.example RATE_LIMIT_ENABLED=true \
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
    local proxy=$1 url=$2 client=$3 id port
    id="$proxy-$RANDOM"
    port=${url##*:}
    request() {
        curl -sk -m 10 -o "$work/response" -D "$work/headers" -w '%{http_code}' --interface "$client" \
            --resolve "coffee.example:$port:127.0.0.1" "$@"
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

check_units
start_server
check_metrics
check_prometheus
check_nginx
check_caddy
COFFEE_TRACKER=$binary scripts/check-standby.sh

step "done"
say_skipped
