#!/bin/bash
# Run `make demo` and `make test` as a newcomer would: a user with sudo, on a
# fresh Debian 12, from a clone of what is committed here. This finds what a
# machine in use hides, such as a package missing from apt-packages.txt.
#
#   sudo tests/fresh_debian.sh /var/tmp/fresh    # about 30 minutes and 7 GB
#
# The folder is kept for inspection; it must not exist before.
set -euo pipefail
if [ $# -ne 1 ] || [ -e "$1" ] || [ "$(id -u)" -ne 0 ]; then
  sed -n '2,/^set/s/^# \?//p' "$0" >&2
  exit 2
fi
checkout=$(cd "$(dirname "$0")/.." && pwd)
debian=$1

debootstrap --variant=minbase --include=ca-certificates,git,make,sudo \
  bookworm "$debian"
for file in hosts pip.conf resolv.conf ssl/certs/ca-certificates.crt; do
  [ ! -e "/etc/$file" ] || cp "/etc/$file" "$debian/etc/$file"  # the network's
done
echo "ann ALL=(ALL) NOPASSWD: ALL" >"$debian/etc/sudoers.d/ann"
chroot "$debian" useradd --create-home --shell /bin/bash ann
git clone -q "$checkout" "$debian/home/ann/gcrf"
chroot "$debian" chown -R ann: /home/ann/gcrf

# shellcheck disable=SC2016
# The mounts end with the command; nothing of the caller's environment is passed.
unshare --mount --fork bash -euo pipefail -c '
  for folder in proc sys dev; do mount --rbind "/$folder" "$1/$folder"; done
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$1" \
    su --login ann -c "cd gcrf && time make demo && time make test"
' - "$debian"
