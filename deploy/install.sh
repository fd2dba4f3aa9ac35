#!/bin/sh
# Installs inboxd as systemd services, repairs or upgrades it: the same command each time.
#
#   sudo deploy/install.sh [--wheels DIR]         DIR: no network; all packages come from there (deploy/wheelhouse.sh fills it)
#   sudo deploy/install.sh rollback               back to the release before
#   sudo deploy/install.sh status | sync
#   sudo deploy/install.sh uninstall              keeps settings and data
#   sudo deploy/install.sh purge [--yes]          keeps nothing
#   deploy/install.sh --user …                    services of your own, without root
#
# Makes an environment of its own for each release, in /opt/inboxd/releases, with Debian's own Python (PYTHON names another),
# checks the settings with it, and only then switches. What does it is `inboxd systemd`, in the release.
set -eu
python=${PYTHON:-/usr/bin/python3}
source=$(cd "$(dirname "$0")/.." && pwd)
top=/opt/inboxd wheels= command=install user= yes=

refuse() { echo "$1" >&2; echo "    remedy: $2" >&2; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
        --wheels) wheels=$(cd "$2" && pwd); shift ;;
        --user) user=--user top=${HOME}/.local/share/inboxd ;;
        --yes) yes=--yes ;;
        install | sync | status | rollback | uninstall | purge) command=$1 ;;
        *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
    shift
done

[ -n "$user" ] || [ "$(id -u)" = 0 ] || refuse "$0: needs root" "put sudo before it, or use --user"

if [ "$command" != install ]; then
    [ -x "$top/current/bin/inboxd" ] || refuse "$top/current: nothing is installed there" "sudo deploy/install.sh"
    cd / && exec "$top/current/bin/inboxd" systemd "$command" $user $yes
fi

[ -x "$python" ] || refuse "$python: there is no such program" "apt install python3, or name one with PYTHON="
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || refuse "$python: older than 3.11" "name a newer one with PYTHON="
"$python" -c 'import ensurepip, venv' 2>/dev/null || refuse "$python: can't make environments" "apt install python3-venv"
real=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
case $user$real in
    /root/* | /home/*) refuse "$real: the services can't see /root and /home" "name a Python of the system's with PYTHON=" ;;
esac

umask 022
release=$top/releases/$(date -u +%Y%m%dT%H%M%S)
[ ! -e "$release" ] || { sleep 1; release=$top/releases/$(date -u +%Y%m%dT%H%M%S); }
mkdir -p "$top/releases"
trap 'rm -rf "$release"' EXIT
trap 'exit 130' INT TERM
"$python" -m venv "$release"
pip() { "$release/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
if [ -n "$wheels" ]; then
    pip install --no-index --find-links "$wheels" --no-deps --require-hashes -r "$source/requirements.txt"
else
    pip install --no-deps --require-hashes -r "$source/requirements.txt"
fi
pip install --no-index --no-deps --no-build-isolation "$source"
(cd / && "$release/bin/inboxd" --version >/dev/null)
(cd / && "$release/bin/inboxd" systemd install $user) || {
    code=$?
    [ "$(readlink -f "$top/current" 2>/dev/null)" != "$release" ] || trap - EXIT # a first one that failed to start is looked into
    exit $code
}
trap - EXIT
