#!/bin/sh
# checksums.sh DIRECTORY [KEY]: writes SHA256SUMS of the files in a directory
# and, with the path of a private SSH key, the signature SHA256SUMS.sig. Verify:
#
#	ssh-keygen -Y verify -f ALLOWED_SIGNERS -I release@tnat64d -n file -s SHA256SUMS.sig <SHA256SUMS
#	sha256sum -c SHA256SUMS
#
# ALLOWED_SIGNERS has one line: release@tnat64d and the public key. A key with a
# passphrase, in an agent or on a token works too (ssh-keygen(1), -Y sign).
set -eu
cd "$1"
key=${2:-}
rm -f SHA256SUMS SHA256SUMS.sig
sums=$(LC_ALL=C sha256sum -- *)
printf '%s\n' "$sums" >SHA256SUMS
[ -n "$key" ] || exit 0
if ! ssh-keygen -q -Y sign -f "$key" -n file SHA256SUMS; then
	rm -f SHA256SUMS SHA256SUMS.sig
	echo "checksums.sh: cannot sign with $key" >&2
	exit 1
fi
