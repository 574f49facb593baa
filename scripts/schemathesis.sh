#!/usr/bin/env bash
# Holds the API to its own description: Schemathesis makes requests from the served OpenAPI, right and wrong ones,
# and checks the answers against it. Against a server of its own, with a data directory that is gone afterwards.
#
#   DAYBOOK_SCHEMATHESIS_EXAMPLES   requests per operation and phase [default: 12]
#   DAYBOOK_SCHEMATHESIS_SEED       another seed makes other requests [default: 20260101]
#   DAYBOOK_SCHEMATHESIS_LOGIN      {"email": …, "password": …} of an owner: sign in as them instead of using a key
#
# Further arguments go to `schemathesis run`: scripts/schemathesis.sh --include-path /api/v1/bookings
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

examples=${DAYBOOK_SCHEMATHESIS_EXAMPLES:-12}
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

token=$( (run_daybook tenant create schemathesis --name Schemathesis --plan business --json) | jq -r .token)
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
    curl -sS --fail-with-body -H "Authorization: Bearer $token" -H 'Content-Type: application/json' "$url/api/v1/$1" "${@:2}"
}

if [ -n "${DAYBOOK_SCHEMATHESIS_LOGIN:-}" ]; then
    token=$(api auth/login -H 'X-Tenant-Slug: schemathesis' -d "$DAYBOOK_SCHEMATHESIS_LOGIN" | jq -r .access_token)
fi

# Something to find: without it every id is unknown and every list is empty.
create() {
    api "$1" -d "$2" | jq -r .id
}
resource=$(create resources '{"name": "Rooms", "kind": "pool", "capacity": 20}')
nights=$(create offerings '{"name": "Room", "mode": "nights", "resource_ids": ["'"$resource"'"],
    "price": {"amount": 9000, "currency": "EUR"}, "price_per": "night"}')
customer=$(create customers '{"name": "Ada Lovelace", "email": "ada@example.org"}')
create bookings '{"offering_id": "'"$nights"'", "customer_id": "'"$customer"'", "check_in": "2027-05-01",
    "check_out": "2027-05-03", "guests": 2}'
create schedules '{"name": "Hours", "resource_ids": ["'"$resource"'"]}'

cd "$directory"
"$venv/bin/schemathesis" run "$url/api/schema/" \
    --header "Authorization: Bearer $token" \
    --checks all \
    --phases examples,coverage,fuzzing,stateful \
    --max-examples "$examples" --seed "$seed" --generation-database none \
    --no-color --request-timeout 15 "$@"
