#!/bin/bash
# Make the patched Caffe source tree: fetch.sh FOLDER
#
# Takes BVLC Caffe at commit 99bd997 from Debian's source package, or copies the
# user's own checkout if CAFFE_SRC names one (which is never written to), and
# applies Debian's patches, then ours. FOLDER appears only when it is complete,
# and is made again when this script, a patch or the checkout changes.
set -euo pipefail

version=1.0.0+git20180821.99bd997
orig=caffe_$version.orig.tar.gz
orig_sha256=e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c
debian=caffe_$version-8.debian.tar.xz
debian_sha256=07cf073227494a6b07234e40cb5df91db566616593eef9baafdc4d06ad159f21
suite=bullseye
# A suite that has left the mirrors is kept here.
archive=http://archive.debian.org/debian

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gcrf-caffe
source_dir=${1:?usage: fetch.sh FOLDER}
caffe_src=${CAFFE_SRC:-}

die() {
  echo "fetch.sh: $*" >&2
  exit 1
}

# try WHAT COMMAND...: run it, or die with WHAT and the first line of its output.
try() {
  local what=$1 output free_mb
  shift
  output=$("$@" 2>&1) && return
  free_mb=$(df --output=avail -BM "$work" | tail -n 1 | tr -dc 0-9)
  [ "$free_mb" -ge 50 ] || die "$what: the disk is full, $free_mb MB left"
  die "$what: ${output%%$'\n'*}"
}

# Identifies what the tree is made from: the same key means the same tree.
key() {
  {
    cat "$here/fetch.sh" "$here"/patches/*.patch
    [ -z "$caffe_src" ] || {
      echo "$caffe_src"
      find "$caffe_src" \( -name .git -o -path "$caffe_src/build" \) -prune \
        -o -type f -printf '%P %s %T@\n' | sort
    }
  } | sha256sum
}

has_sha256() { echo "$2  $1" | sha256sum --check --status 2>/dev/null; }

# download MIRROR: get both archives from this Debian mirror into $work.
download() {
  rm -rf "$work/apt"
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" &&
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
      "$1 $suite main" >"$work/apt/sources.list" || return
  local options=(-q
    -o "Dir::Etc::SourceList=$work/apt/sources.list"
    -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$work/apt/lists"
    -o "Dir::Cache=$work/apt/cache"
    -o APT::Sandbox::User=
    -o Acquire::Check-Valid-Until=false
    -o Acquire::Retries=1 -o Acquire::http::Timeout=30)
  (
    cd "$work" && apt-get "${options[@]}" --error-on=any update &&
      apt-get "${options[@]}" --download-only source "caffe=$version-8"
  ) 2>&1
}

fetch_archives() {
  if has_sha256 "$cache/$orig" $orig_sha256 &&
    has_sha256 "$cache/$debian" $debian_sha256; then
    return
  fi
  local mirror output
  # The machine's own mirror: the first one that is not for security updates.
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' |
    grep -v -- security | head -n 1) || true
  echo "Fetching Caffe's source from ${mirror:-$archive}"
  output=$(download "${mirror:-$archive}" || download "$archive") ||
    die "cannot fetch Caffe's source; is there a network? $(
      grep -m 1 -E '^  |^E:' <<<"$output" | sed 's/^ *//'
    )"
  local archive_sha256 name
  for name in "$orig" "$debian"; do
    archive_sha256=$orig_sha256
    [ "$name" = "$orig" ] || archive_sha256=$debian_sha256
    has_sha256 "$work/$name" $archive_sha256 || die "$name: SHA-256 is $(
      sha256sum "$work/$name" | cut -d ' ' -f 1
    ), expected $archive_sha256"
    try "cannot write $cache" mkdir -p "$cache"
    try "cannot write $cache/$name" cp "$work/$name" "$cache/$name.tmp"
    mv "$cache/$name.tmp" "$cache/$name"
  done
}

copy_checkout() {
  tar -C "$caffe_src" --exclude=./.git --exclude=./build \
    --exclude=./python/caffe/_caffe.so -cf - . | tar -C "$work/tree" -xmf -
}

# All files get the current time: one that was changed back to upstream's would
# otherwise be too old to be compiled again.
unpack() {
  mkdir "$work/tree"
  try "cannot unpack $debian" tar -C "$work/tree" -xmf "$cache/$debian"
  if [ -n "$caffe_src" ]; then
    try "cannot copy $caffe_src" copy_checkout
  else
    try "cannot unpack $orig" tar -C "$work/tree" -xmf "$cache/$orig"
  fi
}

# Debian's patches, then ours. A user's own checkout may have some of them: those
# are taken out first, so that the result is the same.
apply_patches() {
  local patches i
  mapfile -t patches < <(
    sed "s|^|$work/tree/debian/patches/|" "$work/tree/debian/patches/series"
    ls "$here"/patches/*.patch
  )
  if [ -n "$caffe_src" ]; then
    for ((i = ${#patches[@]} - 1; i >= 0; --i)); do
      patch_tree -R --dry-run "${patches[i]}" >/dev/null || continue
      patch_tree -R "${patches[i]}" >/dev/null
    done
  fi
  for ((i = 0; i < ${#patches[@]}; ++i)); do
    try "${patches[i]##*/} does not apply to ${caffe_src:-$orig}" \
      patch_tree -N "${patches[i]}"
  done
}

patch_tree() {
  patch -d "$work/tree" -p1 -s --force --no-backup-if-mismatch -r - "${@:1:$#-1}" \
    <"${@: -1}"
}

# Files that have not changed since the last tree keep their time, so that they
# are not compiled again.
keep_times() {
  local line
  while read -r line; do
    line=${line#"Files $source_dir/"}
    echo "${line%% and *}"
  done < <(LC_ALL=C diff -rqs "$source_dir" "$work/tree" | grep ' identical$') |
    tar -C "$source_dir" --files-from=- -cf - | tar -C "$work/tree" -xf -
}

if [ -n "$caffe_src" ]; then
  [ -f "$caffe_src/src/caffe/proto/caffe.proto" ] &&
    [ -f "$caffe_src/CMakeLists.txt" ] ||
    die "CAFFE_SRC=$caffe_src holds no src/caffe/proto/caffe.proto, expected a checkout of BVLC Caffe"
  caffe_src=$(cd "$caffe_src" && pwd)
fi
key=$(key)
[ "$(cat "$source_dir/.made-from" 2>/dev/null)" != "$key" ] || exit 0

work=$source_dir.tmp
rm -rf "$work"
mkdir -p "$work" || die "cannot write $work"
work=$(cd "$work" && pwd)
trap 'rm -rf "$work"' EXIT
fetch_archives
unpack
apply_patches
echo "$key" >"$work/tree/.made-from" || die "cannot write $work/tree"
[ ! -d "$source_dir" ] || try "cannot write $work/tree" keep_times
rm -rf "$source_dir"
mv "$work/tree" "$source_dir"
