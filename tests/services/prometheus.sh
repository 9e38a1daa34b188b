#!/usr/bin/env bash
# A private Prometheus on loopback for the tests, and promtool.
#
#   prometheus.sh missing                         the Debian packages that are not installed
#   prometheus.sh start [NAME [JOB=HOST:PORT …] [rules=FILES]]
#                                                 installs them where they are missing; scrapes
#                                                 these every second at /metrics, evaluates these
#                                                 rule files (a glob, absolute); prints KEY=VALUE
#   prometheus.sh running [NAME]                  whether it runs: exit status 0
#   prometheus.sh stop|kill|restart [NAME]        restart keeps the data and what is scraped
#   prometheus.sh query NAME EXPRESSION           the answer as JSON
#   prometheus.sh promtool ARGS…
#
# MAKEGOOD_TEST_DATA   the folder of all instances; a fresh one where it is not set
#
# The first scrape comes 5 s after the start, whatever the interval.
. "$(dirname "$0")/instance.sh"

# What the packages bring.
PACKAGE=(/usr/bin/prometheus prometheus)
CLIENT=(/usr/bin/curl curl)

environment() {
  echo "MAKEGOOD_TEST_DATA=$MAKEGOOD_TEST_DATA"
  echo "MAKEGOOD_TEST_SERVICES=$SERVICES"
  echo "MAKEGOOD_TEST_PROMETHEUS=http://127.0.0.1:$(port port)"
}

configure() {
  local target rules=
  for target in "$@"; do
    case $target in rules=*) rules=${target#*=} ;; esac
  done
  {
    echo 'global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}'
    [ -z "$rules" ] || echo "rule_files: ['$rules']"
    echo 'scrape_configs:'
    for target in "prometheus=127.0.0.1:$(port port)" "$@"; do
      [ "${target%%=*}" != rules ] || continue
      echo "- {job_name: ${target%%=*}, static_configs: [{targets: ['${target#*=}']}]}"
    done
  } >"$INSTANCE/prometheus.yml"
  mkdir -p "$INSTANCE/data"
  [ "$(id -u)" != 0 ] || chown -R "$ACCOUNT:" "$INSTANCE"
}

start() {
  packages "${PACKAGE[@]}"
  packages "${CLIENT[@]}"
  make_folder
  [ -e "$INSTANCE/prometheus.yml" ] && [ $# = 0 ] || configure "$@"
  remembered pid >/dev/null || launch pid log /usr/bin/prometheus --config.file=prometheus.yml \
    --storage.tsdb.path=data --storage.tsdb.retention.time=1d --log.level=warn \
    --web.listen-address="127.0.0.1:$(port port)"
  wait_until 60 ready_or_dead || failed_to_start "$INSTANCE/log"
  remembered pid >/dev/null || failed_to_start "$INSTANCE/log"
  environment
}

ready_or_dead() {
  ! remembered pid >/dev/null || http /-/ready >/dev/null
}

http() { curl -fsS -G -m 5 "http://127.0.0.1:$(port port)$1" "${@:2}" 2>/dev/null; }

VERB=${1:-}
if [ "$VERB" = promtool ]; then shift; exec /usr/bin/promtool "$@"; fi
case $VERB in
  missing) missing "${PACKAGE[@]}"; missing "${CLIENT[@]}"; exit ;;
  start | running | stop | restart | kill | freeze | thaw | psql | ctl | query) ;;
  *) usage ;;
esac
instance prometheus "${2:-main}" prometheus
case $VERB in
  start) start "${@:3}" ;;
  running) remembered pid >/dev/null ;;
  stop) end pid TERM 20 ;;
  restart) end pid TERM 20; start ;;
  kill) end pid KILL 10 ;;
  query) http /api/v1/query --data-urlencode "query=$3" ;;
  *) usage ;;
esac
