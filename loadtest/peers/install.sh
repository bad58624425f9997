#!/usr/bin/env bash
#
# Installs the peers into $FLOTILLA_HOME/peers (default: .flotilla/peers), which git ignores: a virtual
# environment for Celery and DBOS, a folder of node modules for Restate. Does nothing where all of it is
# there already. Packages run no scripts of their own when they are installed.

set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${FLOTILLA_HOME:-$here/../../.flotilla}/peers
mkdir -p "$home/node"
# Node looks for modules beside the file that asks for them.
cp "$here/package.json" "$here"/*.mjs "$home/node/"

stamp() { cat "$here/requirements.txt" "$here/package.json" | sha256sum; }
if [ "$(cat "$home/installed" 2>/dev/null)" = "$(stamp)" ]; then
    exit 0
fi
echo "peers: installing Celery, DBOS and Restate into $home" >&2
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
(cd "$home/node" && npm install --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error >&2)
stamp >"$home/installed"
