#!/usr/bin/env bash
# Installs what Daybook needs and this machine lacks. Says nothing, and uses no network, when nothing is
# missing. PostgreSQL is wanted for its binaries only: no system cluster is made or started.
set -euo pipefail

oldest_postgres=15

fail() {
    echo "setup: $*" >&2
    exit 1
}

# A directory with `initdb` and a new enough `postgres`: where daybook looks, in the order it looks.
has_postgres() {
    local candidates=() directory version
    if [ -n "${DAYBOOK_PG_BIN:-}" ]; then
        candidates=("$DAYBOOK_PG_BIN")
    else
        IFS=: read -r -a candidates <<<"$PATH"
        candidates=(/usr/lib/postgresql/*/bin "${candidates[@]}")
    fi
    for directory in "${candidates[@]}"; do
        [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ] || continue
        version=$("$directory/postgres" --version | sed -nE 's/.*\(PostgreSQL\) ([0-9]+).*/\1/p')
        [ "${version:-0}" -ge "$oldest_postgres" ] && return 0
    done
    return 1
}

command -v cargo >/dev/null ||
    fail "Rust is missing. Install it as https://rustup.rs says, open a new shell, and run this again."

packages=()
has_postgres || packages+=(postgresql)
command -v cc >/dev/null || packages+=(build-essential)
command -v curl >/dev/null || packages+=(curl)
command -v jq >/dev/null || packages+=(jq)
command -v openssl >/dev/null || packages+=(openssl)
# Debian ships `venv` without what it needs to make one; that is in a package of its own.
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)

[ "${#packages[@]}" -eq 0 ] && exit 0

if [ -n "${DAYBOOK_PG_BIN:-}" ] && [[ " ${packages[*]} " == *" postgresql "* ]]; then
    fail "DAYBOOK_PG_BIN is $DAYBOOK_PG_BIN, which has no PostgreSQL $oldest_postgres or newer. Correct or unset it."
fi
command -v apt-get >/dev/null ||
    fail "missing: ${packages[*]}, and this is not a Debian system. Install them with your package manager."

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        fail "missing: ${packages[*]}. There is no sudo; run as root: apt-get install ${packages[*]}"
    as_root=(sudo)
fi

echo "setup: installing ${packages[*]}"

# Debian makes and starts a cluster with the package, unless told otherwise. Only for this installation: what
# else is installed on this machine later is not our business.
no_cluster=/etc/postgresql-common/createcluster.d/daybook-setup.conf
if [[ " ${packages[*]} " == *" postgresql "* ]]; then
    "${as_root[@]}" mkdir -p "${no_cluster%/*}"
    trap '"${as_root[@]}" rm -f "$no_cluster"' EXIT
    echo "create_main_cluster = false" | "${as_root[@]}" tee "$no_cluster" >/dev/null
fi

install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

# The lists that are there may do; they are fetched only when they do not.
if ! install >/dev/null 2>&1; then
    "${as_root[@]}" apt-get update -qq || fail "apt-get update failed; is there a network?"
    install >/dev/null || fail "apt-get install ${packages[*]} failed"
fi

if [[ " ${packages[*]} " == *" postgresql "* ]]; then
    has_postgres || fail "this system's PostgreSQL is older than $oldest_postgres; see https://www.postgresql.org/download/"
fi
echo "setup: done"
