#!/bin/sh
# Installs, repairs or upgrades inboxd as systemd services; the command may be repeated.
#
#   sudo deploy/install.sh [--wheels DIR]         install packages from DIR, without network (deploy/wheelhouse.sh fills it)
#   sudo deploy/install.sh --stage                with the packages that [stage] needs
#   sudo deploy/install.sh rollback               switch back to the previous release
#   sudo deploy/install.sh status | sync          show the services, or apply changed inboxes
#   sudo deploy/install.sh uninstall              remove the services; keep settings and data
#   sudo deploy/install.sh purge [--yes]          remove the services, settings and data
#   deploy/install.sh --user …                    manage services of the current user, without root
#
# Creates a virtual environment for each release in /opt/inboxd/releases, with /usr/bin/python3 or $PYTHON. `inboxd systemd`
# in the new release then checks the settings, and switches to the release only if they are valid.
set -eu
python=${PYTHON:-/usr/bin/python3}
source=$(cd "$(dirname "$0")/.." && pwd)
top=/opt/inboxd wheels= lock=requirements.txt command=install user= yes=

refuse() { echo "$1" >&2; echo "    remedy: $2" >&2; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
        --wheels) wheels=$(cd "$2" && pwd); shift ;;
        --stage) lock=requirements-stage.txt ;;
        --user) user=--user top=${HOME}/.local/share/inboxd ;;
        --yes) yes=--yes ;;
        install | sync | status | rollback | uninstall | purge) command=$1 ;;
        *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
    shift
done

[ -n "$user" ] || [ "$(id -u)" = 0 ] || refuse "$0: needs root" "use sudo, or --user"

if [ "$command" != install ]; then
    [ -x "$top/current/bin/inboxd" ] || refuse "$top/current: inboxd is not installed" "sudo deploy/install.sh"
    cd / && exec "$top/current/bin/inboxd" systemd "$command" $user $yes
fi

[ -x "$python" ] || refuse "$python: no such program" "apt install python3, or set PYTHON to another one"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || refuse "$python: older than Python 3.11" "set PYTHON to a newer one"
"$python" -c 'import ensurepip, venv' 2>/dev/null || refuse "$python: can't create virtual environments" "apt install python3-venv"
real=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
case $user$real in
    /root/* | /home/*) refuse "$real: the sandbox hides /root and /home" "set PYTHON to a system-wide Python" ;;
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
    pip install --no-index --find-links "$wheels" --no-deps --require-hashes -r "$source/$lock"
else
    pip install --no-deps --require-hashes -r "$source/$lock"
fi
pip install --no-index --no-deps --no-build-isolation "$source"
(cd / && "$release/bin/inboxd" --version >/dev/null)
(cd / && "$release/bin/inboxd" systemd install $user) || {
    code=$?
    [ "$(readlink -f "$top/current" 2>/dev/null)" != "$release" ] || trap - EXIT # keep a failed first release for inspection
    exit $code
}
trap - EXIT
