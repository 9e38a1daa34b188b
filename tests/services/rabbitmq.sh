#!/usr/bin/env bash
# A private RabbitMQ node on loopback for the tests, without plugins (it stops faster).
#
#   rabbitmq.sh missing               the Debian package, where it is not installed
#   rabbitmq.sh start [NAME]          installs it where it is missing; starts it, or starts it
#                                     again with the same data and port; prints KEY=VALUE lines
#   rabbitmq.sh running [NAME]        whether it runs: exit status 0
#   rabbitmq.sh stop|restart [NAME]   in good order
#   rabbitmq.sh kill [NAME]           kill -9: a crash; its port mapper stays, until stop
#   rabbitmq.sh freeze|thaw [NAME]    SIGSTOP and SIGCONT of all its processes
#   rabbitmq.sh ctl NAME ARGS…        rabbitmqctl
#
# MAKEGOOD_TEST_DATA   the folder of all instances; a fresh one where it is not set
#
# For who writes a test with kill: a quorum queue declared less than about 3 s before is lost with
# its only node (the name registry is flushed late). Confirmed messages in older ones are safe.
# Declare at the start of the test; the queue is safe once `names.dets` is newer than it.
. "$(dirname "$0")/instance.sh"

# Not the wrappers in /usr/sbin: those change user, folder and log paths on their own account.
BIN=/usr/lib/rabbitmq/bin
# What the package brings.
PACKAGE=($BIN/rabbitmq-server rabbitmq-server)

environment() {
  echo "MAKEGOOD_TEST_DATA=$MAKEGOOD_TEST_DATA"
  echo "MAKEGOOD_TEST_SERVICES=$SERVICES"
  echo "MAKEGOOD_TEST_AMQP=amqp://guest:guest@127.0.0.1:$(port port)/%2f"
}

# What the node and rabbitmqctl are told; nothing of it depends on the machine's own name or files.
node_environment() {
  export HOME=$INSTANCE                               # where the Erlang cookie is
  export RABBITMQ_CONF_ENV_FILE=$INSTANCE/env.conf    # else the one in /etc is read
  export RABBITMQ_NODENAME="makegood-$NAME@localhost"
  export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT RABBITMQ_DIST_PORT ERL_EPMD_PORT
  RABBITMQ_NODE_PORT=$(port port)
  RABBITMQ_DIST_PORT=$(port port-distribution)
  ERL_EPMD_PORT=$(port port-mapper)
  export ERL_EPMD_ADDRESS=127.0.0.1
  export RABBITMQ_MNESIA_BASE=$INSTANCE/data RABBITMQ_LOG_BASE=$INSTANCE/logs
  export RABBITMQ_PID_FILE=$INSTANCE/node.pid
  export RABBITMQ_CONFIG_FILE=$INSTANCE/rabbitmq.conf
  export RABBITMQ_ADVANCED_CONFIG_FILE=$INSTANCE/advanced.config
  export RABBITMQ_ENABLED_PLUGINS_FILE=$INSTANCE/enabled_plugins
  export RABBITMQ_GENERATED_CONFIG_DIR=$INSTANCE/config
  # The Erlang distribution listens on every interface unless told otherwise.
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
  export RUNNING_UNDER_SYSTEMD=true  # makes the start script become the node, so our pid is the node's
  export LANG=C.UTF-8 LC_ALL=C.UTF-8
}

configure() {
  [ ! -e "$INSTANCE/rabbitmq.conf" ] || return 0
  mkdir -p "$INSTANCE"/{data,logs,config}
  : >"$INSTANCE/env.conf"
  echo '[].' >"$INSTANCE/enabled_plugins"
  echo '[].' >"$INSTANCE/advanced.config"
  head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$INSTANCE/.erlang.cookie"
  chmod 400 "$INSTANCE/.erlang.cookie"
  cat >"$INSTANCE/rabbitmq.conf" <<CONF
listeners.tcp.default = 127.0.0.1:$(port port)
log.console = false
log.file.level = info
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GiB
CONF
  [ "$(id -u)" != 0 ] || chown -R "$ACCOUNT:" "$INSTANCE"
}

start() {
  packages "${PACKAGE[@]}"
  make_folder
  configure
  node_environment
  # The port mapper, in our hands: one that the node starts would listen everywhere and stay.
  if ! remembered mapper.pid >/dev/null; then
    launch mapper.pid log epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1
    wait_until 10 port_open "$ERL_EPMD_PORT" || failed_to_start "$INSTANCE/log"
  fi
  remembered pid >/dev/null || launch pid log $BIN/rabbitmq-server
  wait_until 90 ready_or_dead || failed_to_start "$INSTANCE/log"
  remembered pid >/dev/null || failed_to_start "$INSTANCE/log"
  environment
}

# The AMQP port opens last, after the queues are recovered.
ready_or_dead() { ! remembered pid >/dev/null || port_open "$(port port)"; }

stop() {
  end pid TERM 30
  end mapper.pid TERM 5
}

VERB=${1:-}
case $VERB in
  missing) missing "${PACKAGE[@]}"; exit ;;
  start | running | stop | restart | kill | freeze | thaw | psql | ctl | query) ;;
  *) usage ;;
esac
instance rabbitmq "${2:-main}" rabbitmq
case $VERB in
  start) start ;;
  running) remembered pid >/dev/null ;;
  stop) stop ;;
  restart) end pid TERM 30; start ;;
  kill) end pid KILL 10 ;;
  freeze) signal_family STOP pid ;;
  thaw) signal_family CONT pid ;;
  ctl) shift 2; node_environment; cd "$INSTANCE"; as_account $BIN/rabbitmqctl "$@" ;;
  *) usage ;;
esac
