#!/bin/sh
# Downloads all pinned packages of inboxd into a folder, those of [stage] included, for `install.sh --wheels` on a machine without network.
#
#   deploy/wheelhouse.sh DIR [VERSION…]       VERSION: further Python versions, such as 3.13
set -eu
[ $# -gt 0 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
pins=$(cd "$(dirname "$0")/.." && pwd)/requirements-stage.txt
to=$1
shift
pip=$(mktemp -d)
trap 'rm -rf "$pip"' EXIT
${PYTHON:-/usr/bin/python3} -m venv "$pip"
own=$("$pip/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for version in "$own" "$@"; do
    # pip evaluates markers for its own Python; take the pins of all releases of this version: 3.11.2 needs more than 3.11.7
    "$pip/bin/python" - "$pins" "$version" >"$pip/pins" <<'END'
import re, sys
from pip._vendor.packaging.markers import Marker
text, version = open(sys.argv[1]).read().replace("\\\n", " "), sys.argv[2]
releases = [{"python_version": version, "python_full_version": f"{version}.{patch}"} for patch in range(100)]
for line in filter(None, text.splitlines()):
    pin, marker, hashes = re.fullmatch(r"(\S+)\s*(?:;(.*?))?((?:\s+--hash=\S+)*)\s*", line).groups()
    if not marker or any(map(Marker(marker).evaluate, releases)):
        print(pin + hashes)
END
    "$pip/bin/python" -m pip --disable-pip-version-check --quiet download --only-binary=:all: --no-deps --require-hashes \
        --dest "$to" --python-version "$version" -r "$pip/pins"
done
