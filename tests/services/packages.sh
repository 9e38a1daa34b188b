# Debian packages, installed where they are missing and where that is possible. Sourced, never run.
#
# shellcheck shell=bash

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n -- "$@"; fi; }

# Whether packages can be had here without asking anybody.
can_install() { command -v apt-get >/dev/null && as_root true 2>/dev/null; }

# missing PATH PACKAGE…: prints the packages where the path that they bring is not there.
missing() {
  local path=$1
  shift
  [ -e "$path" ] || printf '%s\n' "$@"
}

# packages PATH PACKAGE…: installs them where the path that they bring is missing.
packages() {
  local path=$1
  shift
  [ ! -e "$path" ] || return 0
  install_packages "$@" || return 1
  [ -e "$path" ] || { echo "$* is installed, but there is still no $path" >&2; return 1; }
}

install_packages() {
  if ! can_install; then
    echo "not installed: $*. As root: apt-get install --no-install-recommends $*" >&2
    return 1
  fi
  echo "installing $*" >&2
  as_root bash -s -- "$@" >&2 <<'SCRIPT'
    set -eu
    # One at a time: what this forbids for a moment, the next would allow again.
    mkdir -p /run/lock
    exec 9>/run/lock/makegood-apt
    flock 9
    # The packages would start servers of their own on the standard ports.
    policy=/usr/sbin/policy-rc.d
    # Debian's PostgreSQL would make a cluster on port 5432.
    cluster=/etc/postgresql-common/createcluster.d/makegood-tests.conf
    undo() { rm -f $cluster; [ ! -e $policy.makegood ] || rm -f $policy $policy.makegood; }
    trap undo EXIT
    if [ ! -e $policy ]; then
      : >$policy.makegood
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod +x $policy
    fi
    mkdir -p "$(dirname $cluster)"
    echo 'create_main_cluster = false' >$cluster
    export DEBIAN_FRONTEND=noninteractive
    # Nothing of this may read the rest of this script.
    apt-get update -qq </dev/null
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" </dev/null
    # Nor are the packages' own servers wanted after the next boot. Their units are named like them.
    for unit in "$@"; do systemctl disable --quiet "$unit" 2>/dev/null || true; done
SCRIPT
}
