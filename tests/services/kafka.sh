#!/usr/bin/env bash
# A private Apache Kafka on loopback for the tests: one process, broker and controller in one.
#
#   kafka.sh missing               the Debian packages that are not installed
#   kafka.sh install               these, and the broker's jars from Maven Central, once
#   kafka.sh start [NAME]          the same where it is missing; starts it, or starts it again
#                                  with the same data and port; prints KEY=VALUE lines
#   kafka.sh start NAME tls        one that also listens with TLS, by a certificate of its own
#   kafka.sh cluster NAME          three of them, NAME-1 to NAME-3, each with a copy of all data;
#                                  `stop NAME` stops all that are left of them
#   kafka.sh running [NAME]        whether it runs: exit status 0
#   kafka.sh stop|restart [NAME]   in good order
#   kafka.sh kill [NAME]           kill -9: a crash
#   kafka.sh freeze|thaw [NAME]    SIGSTOP and SIGCONT
#
# The members of a cluster are instances by themselves: `kill NAME-2`, `start NAME-2`.
#
# MAKEGOOD_TEST_DATA    the folder of all instances; a fresh one where it is not set
# MAKEGOOD_TEST_TOOLS   where the jars are kept; default: makegood in the user's cache
#
# After kill -9 the only broker comes back when its own registration has expired: 6 s, because
# the session below is short; on a busy machine a shorter one would expire by itself. Of three one
# may do that: the others lead meanwhile.
. "$(dirname "$0")/instance.sh"

# The same as in kafka/pom.xml.
VERSION=4.3.1
JARS=${MAKEGOOD_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/makegood}/kafka-$VERSION
# What the packages bring.
JAVA=(/usr/bin/java default-jre-headless)
MAVEN=(/usr/bin/mvn maven)
# One second of start is saved by not optimising much; there is little to collect.
JVM=(-Xms128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Djava.awt.headless=true)
# The largest heap, of one that is alone and of each of three.
HEAP=-Xmx512m
HEAP_OF_THREE=-Xmx256m
MEMBERS=(1 2 3)
LOGIN='org.apache.kafka.common.security.plain.PlainLoginModule required user_tests="right";'

environment() {
  echo "MAKEGOOD_TEST_DATA=$MAKEGOOD_TEST_DATA"
  echo "MAKEGOOD_TEST_SERVICES=$SERVICES"
  echo "MAKEGOOD_TEST_KAFKA=$1"
}

install() {
  packages "${JAVA[@]}"
  [ ! -e "$JARS/complete" ] || return 0
  packages "${MAVEN[@]}"
  mkdir -p "$JARS"
  exec 8>"$JARS/lock"
  flock 8
  [ -e "$JARS/complete" ] && return 0
  local copy=(mvn -B -q -f "$SERVICES/kafka/pom.xml" dependency:copy-dependencies
    -DincludeScope=runtime "-DoutputDirectory=$JARS")
  # Maven asks nobody for what its own repository has, when it is told not to.
  "${copy[@]:0:1}" -o "${copy[@]:1}" >/dev/null 2>&1 </dev/null || "${copy[@]}" >&2 </dev/null ||
    die "Maven could not fetch Apache Kafka $VERSION"
  touch "$JARS/complete"
  exec 8>&-
}

# configure ID VOTERS COPIES HEAP SESSION: the number of this broker, all controllers, copies of each
# message, and the milliseconds after which a silent broker is dead.
configure() {
  [ ! -e "$INSTANCE/server.properties" ] || return 0
  echo "$4" >"$INSTANCE/heap"
  cat >"$INSTANCE/log4j2.properties" <<CONF
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %p %m (%c{1})%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
CONF
  cat >"$INSTANCE/server.properties" <<CONF
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$2
listeners=PLAINTEXT://127.0.0.1:$(port port),SASL://127.0.0.1:$(port port-sasl),CONTROLLER://127.0.0.1:$(port port-controller)
advertised.listeners=PLAINTEXT://127.0.0.1:$(port port),SASL://127.0.0.1:$(port port-sasl)
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=$LOGIN
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$INSTANCE/data
default.replication.factor=$3
min.insync.replicas=$((($3 + 1) / 2))
offsets.topic.replication.factor=$3
transaction.state.log.replication.factor=$3
transaction.state.log.min.isr=$((($3 + 1) / 2))
share.coordinator.state.topic.replication.factor=$3
share.coordinator.state.topic.min.isr=$((($3 + 1) / 2))
# Fifty of each would slow down the first who joins a group.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
unclean.leader.election.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=$5
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=8388608
CONF
  # One identity for all members of a cluster.
  java "${JVM[@]}" "-Dlog4j2.configurationFile=$INSTANCE/log4j2.properties" -cp "$JARS/*" \
    kafka.tools.StorageTool format -t MakegoodTestsAAAAAAAAA -c "$INSTANCE/server.properties" \
    >"$INSTANCE/format.log" 2>&1 || failed_to_start "$INSTANCE/format.log"
}

# One more listener, with a certificate that only its own clients trust.
speak_tls() {
  [ ! -e "$INSTANCE/certificate.pem" ] || return 0
  local listener
  listener=TLS://127.0.0.1:$(port port-tls)
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$INSTANCE/key.pem" -out "$INSTANCE/certificate.pem" 2>/dev/null ||
    die "openssl could not make a certificate"
  cat "$INSTANCE/key.pem" "$INSTANCE/certificate.pem" >"$INSTANCE/keystore.pem"
  sed -i -E "s|^(advertised.)?listeners=|&$listener,|; s|^listener.security.protocol.map=|&TLS:SASL_SSL,|" \
    "$INSTANCE/server.properties"
  cat >>"$INSTANCE/server.properties" <<CONF
listener.name.tls.plain.sasl.jaas.config=$LOGIN
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location=$INSTANCE/keystore.pem
CONF
}

start() {
  install
  mkdir -p "$INSTANCE"
  configure 1 "1@127.0.0.1:$(port port-controller)" 1 "$HEAP" 6000
  [ "${1:-}" != tls ] || speak_tls
  run
  await
  environment "127.0.0.1:$(port port)"
  echo "MAKEGOOD_TEST_KAFKA_SASL=127.0.0.1:$(port port-sasl)"
  [ ! -e "$INSTANCE/certificate.pem" ] || {
    echo "MAKEGOOD_TEST_KAFKA_TLS=127.0.0.1:$(port port-tls)"
    echo "MAKEGOOD_TEST_KAFKA_CA=$INSTANCE/certificate.pem"
  }
}

cluster() {
  local name=$NAME member voters='' all=''
  install
  for member in "${MEMBERS[@]}"; do
    instance kafka "$name-$member" "$ACCOUNT"
    mkdir -p "$INSTANCE"
    voters="$voters,$member@127.0.0.1:$(port port-controller)"
    all="$all,127.0.0.1:$(port port)"
  done
  for member in "${MEMBERS[@]}"; do
    instance kafka "$name-$member" "$ACCOUNT"
    configure "$member" "${voters#,}" 3 "$HEAP_OF_THREE" 3000
    run
  done
  for member in "${MEMBERS[@]}"; do
    instance kafka "$name-$member" "$ACCOUNT"
    await
  done
  environment "${all#,}"
}

# Together: who is left over would wait for a controller that is gone.
stop() {
  local name=$NAME member
  end pid TERM 30 &
  for member in "${MEMBERS[@]}"; do
    [ -d "$MAKEGOOD_TEST_DATA/kafka-$name-$member" ] || continue
    instance kafka "$name-$member" "$ACCOUNT"
    end pid TERM 30 &
  done
  wait
}

run() {
  remembered pid >/dev/null && return
  : >"$INSTANCE/log"  # what is waited for must be said by this one
  launch pid log java "$(cat "$INSTANCE/heap")" "${JVM[@]}" "-Dlog4j2.configurationFile=$INSTANCE/log4j2.properties" \
    -cp "$JARS/*" kafka.Kafka "$INSTANCE/server.properties"
}

await() {
  wait_until 90 ready_or_dead || failed_to_start "$INSTANCE/log"
  remembered pid >/dev/null || failed_to_start "$INSTANCE/log"
}

ready_or_dead() { ! remembered pid >/dev/null || grep -q 'Kafka Server started' "$INSTANCE/log"; }

VERB=${1:-}
case $VERB in
  missing)
    missing "${JAVA[@]}"
    [ -e "$JARS/complete" ] || missing "${MAVEN[@]}"
    exit ;;
  install) install; exit ;;
  start | cluster | running | stop | restart | kill | freeze | thaw) ;;
  *) usage ;;
esac
# Nothing of it minds being root, and the jars may be where only this user gets.
instance kafka "${2:-main}" "$(id -un)"
case $VERB in
  start) start "${3:-}" ;;
  cluster) cluster ;;
  running) remembered pid >/dev/null ;;
  stop) stop ;;
  restart) end pid TERM 30; start ;;
  kill) end pid KILL 10 ;;
  freeze) signal_family STOP pid ;;
  thaw) signal_family CONT pid ;;
  *) usage ;;
esac
