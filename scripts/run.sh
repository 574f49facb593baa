#!/usr/bin/env bash
# Builds and starts the demo. As root the private PostgreSQL runs as the user `postgres`, which must be able to
# reach the data directory: where this checkout is closed to it (below /root, say), the data goes to /var/lib.
set -euo pipefail
cd "$(dirname "$0")/.."

data=()
if [ "$(id -u)" -eq 0 ] && [ -z "${DAYBOOK_DATA_DIR:-}" ] && [ ! -e data ] && [ ! -e daybook.toml ] &&
    ! runuser -u postgres -- test -x "$PWD" 2>/dev/null; then
    echo "run: $PWD is closed to the user postgres; keeping the data in /var/lib/daybook"
    data=(--data-dir /var/lib/daybook)
fi
exec cargo run --locked -- demo "${data[@]}"
