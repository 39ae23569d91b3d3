#!/bin/sh
# go test -exec: runs a test binary as an ordinary user, without the long tests,
# and then as the user that called. It is linked once for both.
set -eu
here=$(dirname "$0")
"$here/once-more.sh" "$here/as-nobody.sh" "$@" -test.short=true
exec "$here/once-more.sh" "$@"
