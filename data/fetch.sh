# Sourced by the get_*.sh scripts beside it: download, check and unpack, so that
# what lies under its final name is whole. See data/README.md.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$(basename "$0")

fail() { # fail MESSAGE [EXIT_CODE]
  printf '%s: %s\n' "$program" "$1" >&2
  exit "${2:-1}"
}

# parse_arguments "$@": sets folder, where to fetch to: the argument, or the
# scripts' own. --help prints the comment that the script begins with.
parse_arguments() {
  case ${1:-} in
    -h | --help)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    -*) fail "unknown option $1; see $program --help" 2 ;;
  esac
  [ $# -le 1 ] || fail "one folder at most, got $#; see $program --help" 2
  command -v curl >/dev/null || fail "curl is not installed; apt-get install curl"
  folder=${1:-$here}
  mkdir -p "$folder"
  folder=$(cd "$folder" && pwd)
}

# verify FILE NAME: succeeds where FILE has NAME's checksum, or NAME has none.
verify() {
  local algorithm digest found
  read -r algorithm digest < <(awk -v name="$2" \
    '$1 !~ /^#/ && $3 == name { print $1, $2 }' "$here/checksums.txt") || true
  if [ -z "${algorithm:-}" ]; then
    found=$(sha256sum <"$1" | cut -d ' ' -f 1)
    echo "$2: no checksum is known for it. To pin what you have, add to $here/checksums.txt:"
    echo "sha256 $found $2"
    return 0
  fi
  found=$("${algorithm}sum" <"$1" | cut -d ' ' -f 1)
  [ "$found" = "$digest" ] || {
    echo "$2: its $algorithm is $found, expected $digest" >&2
    return 1
  }
}

# download URL FILE: a transfer that breaks off goes on where it stopped, now
# or in the next run. FILE appears when it is complete and its checksum right.
download() {
  local url=$1 file=$2 partial=$2.partial name status code
  name=$(basename "$file")
  if [ -f "$file" ]; then
    verify "$file" "$name" || fail "$file: wrong checksum; remove it and run $program again"
    return
  fi
  for _ in 1 2 3 4 5; do
    echo "$name: fetching $url"
    status=0
    code=$(curl --fail --location --continue-at - --connect-timeout 30 \
      --speed-limit 1000 --speed-time 60 --progress-bar --write-out '%{http_code}' \
      --output "$partial" "$url") || status=$?
    case $status:$code in
      0:*) break ;;
      22:416 | 33:*) # nothing left to send, or a server that cannot resume
        if verify "$partial" "$name" >/dev/null 2>&1; then
          status=0
          break
        fi
        rm -f "$partial"
        ;;
      22:5??) sleep 1 ;;
      22:*) fail "$url: the server answered $code; correct the address, see data/README.md" ;;
      6:* | 7:* | 28:* | 35:*) sleep 1 ;;
      *) ;; # broken off: go on from there
    esac
  done
  [ "$status" -eq 0 ] || fail "$url: no complete transfer (curl's exit code $status). Run $program \
again once the network is there: it goes on from where it stopped"
  verify "$partial" "$name" || {
    rm -f "$partial"
    fail "$name: wrong checksum, so it was removed; run $program again, or try another mirror"
  }
  mv "$partial" "$file"
}

# unpack ARCHIVE MEMBER TARGET: MEMBER of the archive becomes the folder TARGET.
unpack() {
  local partial=$3.partial
  echo "$(basename "$1"): unpacking to $3"
  rm -rf "$partial"
  mkdir -p "$partial"
  tar -xf "$1" -C "$partial" || fail "$1: does not unpack; is the disk full?"
  [ -d "$partial/$2" ] || fail "$1: has no folder $2"
  mv "$partial/$2" "$3"
  rm -rf "$partial" "$1"
}
