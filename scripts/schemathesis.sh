#!/usr/bin/env bash
# Holds the API to its own description: Schemathesis makes requests from the served OpenAPI, right and wrong ones,
# and checks the answers against it. Against a server of its own, with a data directory that is gone afterwards.
#
#   DAYBOOK_SCHEMATHESIS_EXAMPLES   requests per operation and phase [default: 6]
#   DAYBOOK_SCHEMATHESIS_SEED       another seed makes other requests [default: 20260101]
#
# Further arguments go to `schemathesis run`: scripts/schemathesis.sh --include-path /api/v1/bookings
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

examples=${DAYBOOK_SCHEMATHESIS_EXAMPLES:-6}
seed=${DAYBOOK_SCHEMATHESIS_SEED:-20260101}

fail() {
    echo "schemathesis: $*" >&2
    exit 1
}

# Once; again when another version is asked for. The stamp is written last, so that half an installation is none.
venv=$root/target/schemathesis
requirements=$root/scripts/schemathesis-requirements.txt
if ! cmp -s "$requirements" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi

SQLX_OFFLINE=true cargo build --quiet --locked --bin daybook
daybook=${CARGO_TARGET_DIR:-$root/target}/debug/daybook

# As root the private PostgreSQL runs as the user `postgres`, who must be able to get to its directory.
parent=$root/target
if [ "$(id -u)" -eq 0 ] && ! runuser -u postgres -- test -x "$parent" 2>/dev/null; then
    parent=/var/tmp
fi
directory=$(mktemp -d "$parent/schemathesis-run-XXXXXX")
chmod 755 "$directory"
server=
cleanup() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$directory"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Not the settings of whoever runs this; and no limit on requests, which are what this is about.
run_daybook() {
    cd "$directory" && exec env -i PATH="$PATH" HOME="$directory" ${DAYBOOK_PG_BIN:+DAYBOOK_PG_BIN="$DAYBOOK_PG_BIN"} \
        DAYBOOK_LOG=warn DAYBOOK_READ_LIMIT_PER_MINUTE=0 DAYBOOK_LOGIN_LIMIT_PER_MINUTE=1000000 \
        "$daybook" "$@" --data-dir "$directory/data"
}

(run_daybook tenant create schemathesis --name Schemathesis --plan business) >/dev/null
login=$( (run_daybook user create owner@example.org --tenant schemathesis --role tenant_owner --json) |
    jq -c '{email, password}')
run_daybook serve --listen 127.0.0.1:0 >"$directory/out" 2>"$directory/log" &
server=$!
for _ in $(seq 300); do
    url=$(sed -nE 's/.*listening on (http[^ ]+).*/\1/p' "$directory/out" | head -1)
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || fail "the server did not start: $(cat "$directory/log")"
    sleep 0.2
done
[ -n "$url" ] || fail "the server did not start: $(cat "$directory/log")"

api() {
    curl -sS --fail-with-body ${token:+-H "Authorization: Bearer $token"} -H 'Content-Type: application/json' "$url/api/v1/$1" "${@:2}"
}

# As an owner, for half an hour.
token=
token=$(api auth/login -H 'X-Tenant-Slug: schemathesis' -d "$login" | jq -r .access_token)

# Something to find: without it every id is unknown and every list is empty.
create() {
    api "$1" -d "$2" | jq -r .id
}
resource=$(create resources '{"name": "Rooms", "kind": "pool", "capacity": 20}')
offering=$(create offerings '{"name": "Room", "mode": "nights", "resource_ids": ["'"$resource"'"],
    "price": {"amount": 9000, "currency": "EUR"}, "price_per": "night"}')
customer=$(create customers '{"name": "Ada Lovelace", "email": "ada@example.org"}')
schedule=$(create schedules '{"name": "Hours", "resource_ids": ["'"$resource"'"]}')
lead=$(token='' api public/leads -H 'X-Tenant-Slug: schemathesis' \
    -d '{"name": "Grace Hopper", "email": "grace@example.org"}' | jq -r .id)
role=$(create roles '{"name": "Desk", "permissions": ["bookings:read:tenant"]}')
bookings=()
for day in 01 03 05 07 09; do
    bookings+=("$(create bookings '{"offering_id": "'"$offering"'", "customer_id": "'"$customer"'", "guests": 2,
        "check_in": "2027-05-'"$day"'", "check_out": "2027-05-12"}')")
done

# Which statuses a check takes for an answer that keeps the contract, beyond those it knows itself:
# - positive_data_acceptance: a request of the right form may still name a version that is gone (412), a hold that has
#   run out (410) or a state that forbids it (409), or break a rule between fields (422: an end before its start), which
#   a schema cannot express. What cannot be read (400, 413, 414, 415, 431) is a failure.
# - missing_required_header: without If-Match it is 428, as RFC 6585 has it.
# - not_a_server_error: a read that waits in vain for X-Min-Position is a documented 503. No other 5xx passes.
# Sent to no purpose: NUL, which every reader of the API refuses (400) and a schema has no word for; and, as a right
# value, a cursor or a position that was never given out: the one is 400, the other waits two seconds for nothing.
cat >"$directory/schemathesis.toml" <<END
[generation]
allow-x00 = false

[checks]
positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 410, 412, 422, 429, 503]
missing_required_header.expected-statuses = [400, 401, 403, 406, 415, 422, 428]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]

[dictionaries]
positions.values = [0, 1, 2]
cursors.values = [""]
versions.values = ["*", '"1"', '"2"']
resources.values = ["$resource"]
offerings.values = ["$offering"]
customers.values = ["$customer"]
schedules.values = ["$schedule"]
roles.values = ["$role"]
leads.values = ["$lead"]
bookings.values = [$(printf '"%s", ' "${bookings[@]}")]
END
# Mostly ids that exist and versions that may be current, so that requests get past the look-up.
bind() {
    printf '\n[[operations]]\ninclude-path-regex = "%s"\n[operations.parameters]\n' "$1"
    shift
    while [ $# -gt 0 ]; do
        printf '"%s" = { dictionary = "%s", probability = %s }\n' "$1" "${2%:*}" "${2#*:}"
        shift 2
    done
}
# Schemathesis takes the quotes off the shortest tag ("0") where If-Match is optional, and calls what is left right.
unquoted_tag() {
    printf '[operations.checks]\n%s\n' \
        'positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 410, 412, 422, 429, 503]'
}
{
    for kind in resources offerings customers schedules roles bookings leads; do
        bind "^/api/v1/$kind/" path.id "$kind:0.8" header.If-Match versions:1 header.X-Min-Position positions:1 \
            query.cursor cursors:1
        case $kind in bookings | leads | customers) unquoted_tag ;; esac
    done
    bind '^/api/v1/(users|invitations|api-keys|permission-grants|platform/tenants|support/requests)/' header.If-Match versions:1 header.X-Min-Position positions:1
    unquoted_tag
    bind '^/api/v1/(availability|calendar|reports|settings|audit)' query.resource_id resources:0.8 \
        query.offering_id offerings:0.8 header.If-Match versions:1 header.X-Min-Position positions:1 \
        query.cursor cursors:1
    bind '^/api/v1/[a-z-]+$' query.resource_id resources:0.8 query.offering_id offerings:0.8 \
        query.customer_id customers:0.8 body.resource_id resources:0.8 body.offering_id offerings:0.8 \
        body.customer_id customers:0.8 header.X-Min-Position positions:1 query.cursor cursors:1
    # An empty value is what a form sends for a field left out, also where a number belongs.
    printf '\n[[operations]]\ninclude-operation-id = "audit_events"\n[operations.checks]\n%s\n' \
        'negative_data_rejection.expected-statuses = [200, 400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 428, 429, 503]'
    # The cookie is taken only from requests that no form can make; a schema cannot demand a type of an empty body.
    printf '\n[[operations]]\ninclude-operation-id = "refresh"\n[operations.checks]\n%s\n' \
        'positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 415, 429, 503]'
} >>"$directory/schemathesis.toml"

run() {
    (cd "$directory" && SCHEMATHESIS_HOOKS=$root/scripts/schemathesis_hooks.py \
        "$venv/bin/schemathesis" run "$url/api/schema/" \
        --header "Authorization: Bearer $token" --workers 4 --checks all --max-examples "$examples" --seed "$seed" \
        --generation-database none --no-color --request-timeout 15 "$@")
}

# Server-sent events have no end, and what reads answers whole would wait for it.
endless=(--exclude-operation-id audit_live)

# What could take away the very credentials this runs with comes after everything else.
last=()
for operation in revoke_api_key logout end_session change_password delete_me; do
    last+=(--exclude-operation-id "$operation")
done
status=0
run --phases examples,coverage,fuzzing,stateful "${endless[@]}" "${last[@]}" "$@" || status=$?
[ $# -gt 0 ] || run --phases examples,coverage,fuzzing "${last[@]/--exclude/--include}" || status=$?

# What the server itself takes for its own fault, whatever it answered.
if grep -E '"level":"ERROR"| ERROR |panicked' "$directory/log" | head -20 | grep . >&2; then
    echo "schemathesis: the server logged errors" >&2
    status=1
fi
exit "$status"
