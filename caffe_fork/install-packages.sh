#!/bin/bash
# Install those system packages of apt-packages.txt that are missing. Usually
# none are, and this takes a few milliseconds.
set -euo pipefail
cd "$(dirname "$0")"

die() {
  echo "install-packages.sh: $*" >&2
  exit 1
}

command -v dpkg-query apt-get >/dev/null ||
  die "dpkg-query or apt-get not found, expected Debian 12"
mapfile -t wanted < <(grep -v '^#' apt-packages.txt)
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort) \
  <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" \
    2>/dev/null | sed -n 's/^installed //p' | sort))
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null ||
    die "no sudo; as root, run: apt-get install --no-install-recommends ${missing[*]}"
  as_root=(sudo)
fi
echo "Installing ${#missing[@]} missing system packages: ${missing[*]}"
"${as_root[@]}" apt-get update -q ||
  die "apt-get update failed: is there a network? (the reason is above)"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
  --no-install-recommends "${missing[@]}" </dev/null ||
  die "apt-get install failed (the reason is above)"
