# What the service scripts share: where an instance lives, its port, its process. Sourced, never run.
#
# An instance is a folder $MAKEGOOD_TEST_DATA/SERVICE-NAME with the files `port` (chosen once, kept
# over restarts), `pid`, `log` and the service's own data. Several runs, and several instances in
# one run, never share anything. Only processes whose number *and* start time were written down
# here are ever signalled.
#
# shellcheck shell=bash
set -euo pipefail

SERVICES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$SERVICES/packages.sh"

say() { printf '%s\n' "$*" >&2; }
die() { say "$0: $*"; exit 1; }

# The comment at the top of the script.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

# instance SERVICE NAME ACCOUNT: sets INSTANCE (its folder) and ACCOUNT (who runs it when we are root).
instance() {
  [[ $2 =~ ^[a-z0-9][a-z0-9-]{0,19}$ ]] || die "an instance name is 1 to 20 of a-z, 0-9 and -, not '$2'"
  if [ -z "${MAKEGOOD_TEST_DATA:-}" ]; then
    [ "${VERB:-}" = start ] || die "which instance? Set MAKEGOOD_TEST_DATA to what 'start' printed."
    MAKEGOOD_TEST_DATA=$(mktemp -d /tmp/makegood.XXXXXX)  # short: socket paths end at 107 bytes
    chmod 755 "$MAKEGOOD_TEST_DATA"
  fi
  mkdir -p "$MAKEGOOD_TEST_DATA"
  MAKEGOOD_TEST_DATA=$(cd "$MAKEGOOD_TEST_DATA" && pwd)
  export MAKEGOOD_TEST_DATA
  INSTANCE=$MAKEGOOD_TEST_DATA/$1-$2
  ACCOUNT=$3
  NAME=$2
}

# Makes the instance's folder, and checks that the account that will run the service gets there.
make_folder() {
  mkdir -p "$INSTANCE"
  if [ "$(id -u)" = 0 ]; then
    chown "$ACCOUNT:" "$INSTANCE"
    as_account test -x "$INSTANCE" ||
      die "user $ACCOUNT cannot reach $INSTANCE: choose a MAKEGOOD_TEST_DATA whose parents all let others pass (o+x)"
  fi
}

# Services refuse, or should not, run as root: as root they get their package's own account.
as_account() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid="$ACCOUNT" --regid="$(id -g "$ACCOUNT")" --init-groups -- "$@"
  else
    "$@"
  fi
}

# port FILE: the port written in $INSTANCE/FILE, choosing a free one the first time. Below the
# range from which the kernel takes the ports of outgoing connections.
port() {
  local file=$INSTANCE/$1 port
  if [ ! -s "$file" ]; then
    mkdir -p "$MAKEGOOD_TEST_DATA/ports"
    while port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000)); do
      # mkdir is the lock between instances that start at the same time
      ! port_open "$port" && mkdir "$MAKEGOOD_TEST_DATA/ports/$port" 2>/dev/null && break
    done
    echo "$port" >"$file"
  fi
  cat "$file"
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A zombie still answers kill -0, and some first processes reap slowly: look at its state.
alive() {
  local stat
  stat=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) && [ -n "$stat" ] && [ "${stat%% *}" != Z ]
}

start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

remember() { echo "$2 $(start_time "$2")" >"$INSTANCE/$1"; }

# remembered FILE: the process written there, if it is still that one and runs.
remembered() {
  local pid began
  read -r pid began 2>/dev/null <"$INSTANCE/$1" || return 1
  alive "$pid" && [ "$(start_time "$pid")" = "$began" ] && echo "$pid"
}

# launch PIDFILE LOG COMMAND…: in a session of its own, so that no terminal signal reaches it.
# Each program on the way replaces itself by the next: the process written down is the service.
launch() {
  local file=$1 log=$2 drop=()
  shift 2
  [ "$(id -u)" != 0 ] || drop=(setpriv --reuid="$ACCOUNT" --regid="$(id -g "$ACCOUNT")" --init-groups --)
  # The service may not hold the pipe of whoever reads what this script prints.
  (cd "$INSTANCE" && exec setsid "${drop[@]}" "$@") >>"$INSTANCE/$log" 2>&1 </dev/null &
  remember "$file" $!
}

# wait_until SECONDS CONDITION…: looks 20 times a second.
wait_until() {
  local looks=$(($1 * 20))
  shift
  while ! "$@"; do
    [ $((looks -= 1)) -gt 0 ] || return 1
    sleep 0.05
  done
}

gone() { ! alive "$1"; }

# end PIDFILE SIGNAL SECONDS: ends the remembered process; with force when it takes too long.
end() {
  local pid
  if pid=$(remembered "$1"); then
    # shellcheck disable=SC2046
    kill -CONT $(family "$pid") 2>/dev/null || true  # the frozen hear nothing else
    kill -"$2" "$pid" 2>/dev/null || true
    wait_until "$3" gone "$pid" || { kill -9 "$pid" 2>/dev/null || true; wait_until 10 gone "$pid"; }
  fi
  rm -f "$INSTANCE/$1"
}

# family PID: it and all that descends from it.
family() {
  local child
  echo "$1"
  for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do family "$child"; done
}

# signal_family SIGNAL PIDFILE: the whole process tree at once.
signal_family() {
  local pid
  pid=$(remembered "$2") || die "$NAME does not run"
  # shellcheck disable=SC2046
  kill -"$1" $(family "$pid") 2>/dev/null || true
}

failed_to_start() {
  say "$0: $NAME did not come up. The end of $1:"
  tail -n 30 "$1" >&2 || true
  exit 1
}
