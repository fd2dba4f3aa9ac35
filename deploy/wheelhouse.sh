#!/bin/sh
# Fills a folder with all packages that inboxd needs, exactly the pinned ones, for `install.sh --wheels` on a machine without network.
#
#   deploy/wheelhouse.sh DIR [VERSION…]       VERSION: for other Pythons than this machine's, such as 3.13
set -eu
[ $# -gt 0 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
pins=$(cd "$(dirname "$0")/.." && pwd)/requirements.txt
to=$1
shift
pip=$(mktemp -d)
trap 'rm -rf "$pip"' EXIT
${PYTHON:-/usr/bin/python3} -m venv "$pip"
get() { "$pip/bin/python" -m pip --disable-pip-version-check --quiet download --only-binary=:all: --require-hashes --dest "$to" "$@"; }
get -r "$pins"
for version; do
    # pip looks at this Python's version when a pin is only for some: choose the other's pins for it
    "$pip/bin/python" - "$pins" "$version" >"$pip/pins" <<'END'
import re, sys
from pip._vendor.packaging.markers import Marker
text, version = open(sys.argv[1]).read().replace("\\\n", " "), sys.argv[2]
for line in filter(None, text.splitlines()):
    pin, marker, hashes = re.fullmatch(r"(\S+)\s*(?:;(.*?))?((?:\s+--hash=\S+)*)\s*", line).groups()
    if not marker or Marker(marker).evaluate({"python_version": version, "python_full_version": f"{version}.5"}):
        print(pin + hashes)
END
    get --no-deps -r "$pip/pins" --python-version "$version"
done
