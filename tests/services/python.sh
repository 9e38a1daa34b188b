#!/usr/bin/env bash
# A Python of the tests' own, with what they speak to Makegood with from another language.
#
#   python.sh missing   the Debian packages that are not installed
#   python.sh path      makes it where it is missing, once; prints the path of the interpreter
#
# MAKEGOOD_TEST_TOOLS   where it is kept; default: makegood in the user's cache
set -euo pipefail
. "$(dirname "$0")/packages.sh"

# The official CloudEvents SDK, the AMQP 0-9-1 client that everybody uses, Confluent's client of Kafka
# and of schema registries, a Kafka client that shares no code with it or with ours, and the tests of
# an API that are made of its OpenAPI document.
REQUIREMENTS=(cloudevents==2.2.0 pika==1.4.4 'confluent-kafka[json,schemaregistry]==2.16.0' kafka-python==3.0.12 schemathesis==4.32.5)
PACKAGES=(python3 python3-venv)
# For one download, which is tried twice.
TIMEOUT_SECONDS=20

tools=${MAKEGOOD_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/makegood}
# Another list is another folder, so that none is ever half of one and half of the other.
home=$tools/python-$(printf '%s\n' "${REQUIREMENTS[@]}" | cksum | cut -d' ' -f1)

usable() { command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null; }

path() {
  if [ ! -e "$home/complete" ]; then
    usable || install_packages "${PACKAGES[@]}"
    mkdir -p "$tools"
    exec 9>"$tools/python.lock"
    flock 9
    [ -e "$home/complete" ] || make
  fi
  echo "$home/bin/python"
}

# Marked at the end: what a crash left half made is made anew.
make() {
  echo "making a Python with ${REQUIREMENTS[*]}, once" >&2
  rm -rf "$home"
  if ! { python3 -m venv "$home" && "$home/bin/python" -m pip install --quiet --disable-pip-version-check \
    --timeout "$TIMEOUT_SECONDS" --retries 1 "${REQUIREMENTS[@]}"; } >&2; then
    rm -rf "$home"
    echo "the Python packages cannot be had: ${REQUIREMENTS[*]}" >&2
    return 1
  fi
  touch "$home/complete"
}

case ${1:-} in
  missing) usable || printf '%s\n' "${PACKAGES[@]}" ;;
  path) path ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
