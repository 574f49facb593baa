#!/usr/bin/env bash
# Checks every `query!` against the migrations, in a database made for the purpose, and refreshes .sqlx.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo sqlx --version >/dev/null 2>&1 || {
    echo "sqlx-prepare: run \`cargo install sqlx-cli --version 0.8.6 --no-default-features --features rustls,postgres\`" >&2
    exit 1
}

bin=${DAYBOOK_PG_BIN:-$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)}
[ -x "$bin/initdb" ] || bin=$(dirname "$(command -v initdb)")
directory=$(mktemp -d /tmp/daybook-sqlx-XXXXXX)

as_postgres=()
if [ "$(id -u)" -eq 0 ]; then
    chown postgres: "$directory"
    as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cleanup() {
    (cd / && "${as_postgres[@]}" "$bin/pg_ctl" stop -D "$directory/pg" -m immediate >/dev/null 2>&1) || true
    rm -rf "$directory"
}
trap cleanup EXIT

echo "==> a database for the purpose"
(
    cd /
    "${as_postgres[@]}" "$bin/initdb" -D "$directory/pg" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >/dev/null
    "${as_postgres[@]}" "$bin/pg_ctl" start -w -D "$directory/pg" -l "$directory/log" \
        -o "-c fsync=off -c listen_addresses='' -k $directory" >/dev/null
)
psql=(psql -X -q -v ON_ERROR_STOP=1 -h "$directory" -U postgres -d postgres)

# The schemas a query may name without a prefix, the tenant's first, as a tenant's transaction has them.
migrate() {
    local schema=$1 file
    "${psql[@]}" -c "CREATE SCHEMA IF NOT EXISTS $schema"
    for file in migrations/"$schema"/*.sql; do
        [ -e "$file" ] || continue
        echo "    $file"
        PGOPTIONS="-c search_path=$schema,public -c client_min_messages=warning" "${psql[@]}" -1 -f "$file"
    done
}
echo "==> migrations"
migrate platform
migrate tenant

echo "==> cargo sqlx prepare"
encoded=${directory//\//%2F}
DATABASE_URL="postgres://postgres@$encoded/postgres?options=-csearch_path%3Dtenant,platform,public" \
    cargo sqlx prepare --workspace -- --all-targets
