#!/usr/bin/env bash
# Creates the virtual environment from the lock file: Python 3.11 or later, every file checked against its hash.
set -euo pipefail
venv=${VENV:-.venv}

python=
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  echo "registry-gc needs Python 3.11 or later; none was found as python3. Set PYTHON=/path/to/python3.11 and try again." >&2
  exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
  else
    echo "$python cannot create virtual environments; install Debian's package python3-venv and try again." >&2
    exit 1
  fi
fi

echo "Setting up $venv with $("$python" --version)" >&2
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
touch "$venv/.ready"
