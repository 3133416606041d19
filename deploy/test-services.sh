#!/usr/bin/env bash
# Installs Debian packages that only the tests use. It starts nothing: each test starts its own server on loopback.
set -uo pipefail
missing=()
command -v redis-server >/dev/null || command -v valkey-server >/dev/null || missing+=(redis-server)
command -v promtool >/dev/null || missing+=(prometheus)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
command -v pgbouncer >/dev/null || missing+=(pgbouncer)
command -v docker-registry >/dev/null || missing+=(docker-registry)
command -v skopeo >/dev/null || missing+=(skopeo)
command -v htpasswd >/dev/null || missing+=(apache2-utils)
[ ${#missing[@]} = 0 ] && exit 0
skipped="Some tests will be skipped; install these Debian packages to run them: ${missing[*]}"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "$skipped" >&2
  exit 0
fi
echo "Installing for the tests: ${missing[*]}" >&2
# No service may start by itself, now or at the next boot: the tests start their own. The units of PgBouncer and of the
# registry, which would listen on every interface, are masked; `systemctl unmask docker-registry pgbouncer` undoes that.
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && trap 'rm -f "$policy"' EXIT; }
for service in docker-registry pgbouncer; do
  unit=/etc/systemd/system/$service.service
  [[ " ${missing[*]} " != *" $service "* ]] || [ -e "$unit" ] || { mkdir -p "${unit%/*}" && ln -sf /dev/null "$unit"; }
done
apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
  || echo "apt-get failed. $skipped" >&2
exit 0
