#!/usr/bin/env bash
# The official parsers of AsyncAPI and OpenAPI, and Grafana's own types of dashboards, which are
# written for Node.js.
#
#   node.sh path   installs them where they are missing, once; prints the folder they are in
#
# Node.js itself is not installed: Debian's is too old for them.
#
# MAKEGOOD_TEST_TOOLS   where they are kept; default: makegood in the user's cache
set -euo pipefail

REQUIREMENTS=(@asyncapi/parser@3.6.3 @redocly/cli@2.77.0 @grafana/schema@13.2.3 typescript@5.9.3)
# The oldest Node.js that all of them run on.
NODE=20
# For one download, in milliseconds; npm tries again by itself.
TIMEOUT_MS=60000

tools=${MAKEGOOD_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/makegood}
# Another list is another folder, so that none is ever half of one and half of the other.
home=$tools/node-$(printf '%s\n' "${REQUIREMENTS[@]}" | cksum | cut -d' ' -f1)

path() {
  local major
  major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p')
  if [ "${major:-0}" -lt "$NODE" ] || ! command -v npm >/dev/null; then
    echo "Node.js $NODE or newer is not here, or has no npm" >&2
    return 1
  fi
  if [ ! -e "$home/complete" ]; then
    mkdir -p "$tools"
    exec 9>"$tools/node.lock"
    flock 9
    [ -e "$home/complete" ] || make
  fi
  echo "$home"
}

# Marked at the end: what a crash left half made is made anew.
make() {
  echo "installing ${REQUIREMENTS[*]}, once" >&2
  rm -rf "$home"
  mkdir "$home"
  # Scripts of packages are run by nobody.
  if ! npm install --silent --prefix "$home" --no-audit --no-fund --no-save --ignore-scripts \
    --fetch-timeout "$TIMEOUT_MS" "${REQUIREMENTS[@]}" >&2; then
    rm -rf "$home"
    echo "the npm packages cannot be had: ${REQUIREMENTS[*]}" >&2
    return 1
  fi
  touch "$home/complete"
}

case ${1:-} in
  path) path ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
