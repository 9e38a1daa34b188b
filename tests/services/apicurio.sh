#!/usr/bin/env bash
# A private Apicurio Registry on loopback for the tests: a schema registry with Confluent's API.
#
#   apicurio.sh missing               the Debian packages that are not installed
#   apicurio.sh usable                whether it can be had here; where not, says why: status 1
#   apicurio.sh install               the program from Maven Central, once
#   apicurio.sh start [NAME]          the same where it is missing; starts it, or starts it again
#                                     with the same data and port; prints KEY=VALUE lines
#   apicurio.sh running [NAME]        whether it runs: exit status 0
#   apicurio.sh stop|restart [NAME]   in good order
#   apicurio.sh kill [NAME]           kill -9: a crash
#
# MAKEGOOD_TEST_DATA    the folder of all instances; a fresh one where it is not set
# MAKEGOOD_TEST_TOOLS   where the program is kept; default: makegood in the user's cache
# MAKEGOOD_TEST_JAVA    a Java of version 21 or newer; default: the newest one found
. "$(dirname "$0")/instance.sh"

VERSION=3.3.3
# The oldest Java that reads its classes. Debian 12 has 17.
JAVA_VERSION=21
HOME_FOLDER=${MAKEGOOD_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/makegood}/apicurio-$VERSION
MAVEN=(/usr/bin/mvn maven)
CLIENT=(/usr/bin/curl curl)
JVM=(-Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto)

environment() {
  echo "MAKEGOOD_TEST_DATA=$MAKEGOOD_TEST_DATA"
  echo "MAKEGOOD_TEST_SERVICES=$SERVICES"
  echo "MAKEGOOD_TEST_REGISTRY=$(api)"
}

api() { echo "http://127.0.0.1:$(port port)/apis/ccompat/v7"; }

# A Java that is new enough: the newest that there is.
java_here() {
  local java version best=0 found=
  for java in ${MAKEGOOD_TEST_JAVA:-/usr/lib/jvm/*/bin/java "$(command -v java || true)"}; do
    [ -x "$java" ] || continue
    version=$("$java" -version 2>&1 | sed -nE '1s/.* version "([0-9]+).*/\1/p') || continue
    [ "${version:-0}" -gt "$best" ] && best=$version found=$java
  done
  [ "$best" -ge "$JAVA_VERSION" ] && echo "$found"
}

usable() {
  java_here >/dev/null || { say "no Java $JAVA_VERSION or newer here, which Apicurio Registry $VERSION needs"; return 1; }
  [ -e "$HOME_FOLDER/complete" ] || install || { say "Apicurio Registry $VERSION cannot be had from Maven"; return 1; }
}

install() {
  packages "${CLIENT[@]}"
  [ ! -e "$HOME_FOLDER/complete" ] || return 0
  packages "${MAVEN[@]}"
  mkdir -p "$HOME_FOLDER"
  exec 8>"$HOME_FOLDER/lock"
  flock 8
  [ -e "$HOME_FOLDER/complete" ] && return 0
  say "fetching Apicurio Registry $VERSION, 160 MB, once"
  # The archive is of use only until it is unpacked.
  local fetched=$HOME_FOLDER/fetched
  mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    "-Dartifact=io.apicurio:apicurio-registry-app:$VERSION:tar.gz:all" "-DoutputDirectory=$fetched" \
    >&2 </dev/null || return 1
  tar -xzf "$fetched/apicurio-registry-app-$VERSION-all.tar.gz" -C "$HOME_FOLDER" || return 1
  rm -rf "$fetched"
  touch "$HOME_FOLDER/complete"
  exec 8>&-
}

start() {
  local java
  usable || exit 1
  java=$(java_here)
  mkdir -p "$INSTANCE"
  if ! remembered pid >/dev/null; then
    : >"$INSTANCE/log"
    # On disk: what is registered outlives a restart. Its management would listen everywhere.
    launch pid log "$java" "${JVM[@]}" \
      -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$(port port)" \
      -Dquarkus.management.host=127.0.0.1 "-Dquarkus.management.port=$(port port-management)" \
      "-Dapicurio.datasource.url=jdbc:h2:file:$INSTANCE/data/registry" \
      -Dapicurio.datasource.jdbc.initial-size=2 -Dapicurio.datasource.jdbc.min-size=2 \
      -jar "$HOME_FOLDER/quarkus-run.jar"
  fi
  wait_until 90 ready_or_dead || failed_to_start "$INSTANCE/log"
  remembered pid >/dev/null || failed_to_start "$INSTANCE/log"
  environment
}

ready_or_dead() { ! remembered pid >/dev/null || curl -fsS -m 2 -o /dev/null "$(api)/subjects" 2>/dev/null; }

VERB=${1:-}
case $VERB in
  missing)
    missing "${CLIENT[@]}"
    [ -e "$HOME_FOLDER/complete" ] || ! java_here >/dev/null || missing "${MAVEN[@]}"
    exit ;;
  usable) usable; exit ;;
  install) install; exit ;;
  start | running | stop | restart | kill) ;;
  *) usage ;;
esac
# Nothing of it minds being root, and the program may be where only this user gets.
instance apicurio "${2:-main}" "$(id -un)"
case $VERB in
  start) start ;;
  running) remembered pid >/dev/null ;;
  stop) end pid TERM 20 ;;
  restart) end pid TERM 20; start ;;
  kill) end pid KILL 10 ;;
esac
