#!/usr/bin/env bash
# A private PostgreSQL on loopback for the tests.
#
#   postgres.sh missing               the Debian package, where it is not installed
#   postgres.sh start [NAME]          installs it where it is missing; starts it, or starts it
#                                     again with the same data and port; prints KEY=VALUE lines
#   postgres.sh running [NAME]        whether it runs: exit status 0
#   postgres.sh stop|restart [NAME]   in good order
#   postgres.sh kill [NAME]           kill -9 of the server and every backend: a crash
#   postgres.sh freeze|thaw [NAME]    SIGSTOP and SIGCONT of all its processes
#   postgres.sh psql NAME ARGS…
#
# MAKEGOOD_TEST_DATA   the folder of all instances; a fresh one where it is not set
# MAKEGOOD_TEST_FSYNC  on: flush to the disk, as in production (for benchmarks). Off is the default:
#                      what was committed survives a kill -9 either way, only not a power cut.
. "$(dirname "$0")/instance.sh"

# What the package brings.
PACKAGE=(/usr/lib/postgresql postgresql)

bin_folder() {
  find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1 | xargs -r dirname
}

environment() {
  echo "MAKEGOOD_TEST_DATA=$MAKEGOOD_TEST_DATA"
  echo "MAKEGOOD_TEST_SERVICES=$SERVICES"
  echo "MAKEGOOD_TEST_POSTGRES=postgres://postgres@127.0.0.1:$(port port)/postgres"
}

make_cluster() {
  [ ! -e "$INSTANCE/data/PG_VERSION" ] || return 0
  (cd "$INSTANCE" && as_account "$BIN/initdb" -D data -U postgres --auth=trust --encoding=UTF8 \
    --locale=C.UTF-8 --no-sync) >"$INSTANCE/initdb.log" 2>&1 || failed_to_start "$INSTANCE/initdb.log"
}

start() {
  packages "${PACKAGE[@]}"
  make_folder
  BIN=$(bin_folder)
  if ! remembered pid >/dev/null; then
    local fsync=${MAKEGOOD_TEST_FSYNC:-off}
    make_cluster
    # synchronous_commit stays on: without it a kill -9 would lose what was committed
    launch pid log "$BIN/postgres" -D data -p "$(port port)" -c listen_addresses=127.0.0.1 \
      -c unix_socket_directories= -c max_connections=200 -c max_wal_size=1GB -c log_lock_waits=on \
      -c fsync="$fsync" -c full_page_writes="$fsync"
  fi
  wait_until 60 ready_or_dead || failed_to_start "$INSTANCE/log"
  remembered pid >/dev/null || failed_to_start "$INSTANCE/log"
  environment
}

ready_or_dead() {
  ! remembered pid >/dev/null || "$BIN/pg_isready" -q -h 127.0.0.1 -p "$(port port)"
}

crash() {
  local pid all
  pid=$(remembered pid) || return 0
  kill -STOP "$pid"  # or it could fork one more between the count and the kill
  all=$(family "$pid")
  # shellcheck disable=SC2086
  kill -9 $all 2>/dev/null || true
  for pid in $all; do wait_until 10 gone "$pid"; done
  # They are dead, which we know and PostgreSQL cannot: an unreaped zombie would look alive to
  # it and keep it from starting again.
  rm -f "$INSTANCE/pid" "$INSTANCE/data/postmaster.pid"
}

VERB=${1:-}
case $VERB in
  missing) missing "${PACKAGE[@]}"; exit ;;
  start | running | stop | restart | kill | freeze | thaw | psql | ctl | query) ;;
  *) usage ;;
esac
instance postgres "${2:-main}" postgres
case $VERB in
  start) start ;;
  running) remembered pid >/dev/null ;;
  stop) end pid INT 30 ;;  # SIGINT is PostgreSQL's fast shutdown
  restart) end pid INT 30; start ;;
  kill) crash ;;
  freeze) signal_family STOP pid ;;
  thaw) signal_family CONT pid ;;
  psql) shift 2; exec "$(bin_folder)/psql" -X -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$(port port)" -U postgres "$@" ;;
  *) usage ;;
esac
