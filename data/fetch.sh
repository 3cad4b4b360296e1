# Sourced by the get_*.sh scripts beside it. Fetches, checks and unpacks, so that
# whatever has its final name is complete.

set -euo pipefail
program=$(basename "$0")

fail() { # fail MESSAGE [EXIT_CODE]
  printf '%s: %s\n' "$program" "$1" >&2
  exit "${2:-1}"
}

# set_folder "$@": set $folder to the script's only argument, or to its own folder.
# --help prints the script's leading comment.
set_folder() {
  case ${1:-} in
    -h | --help)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
      exit
      ;;
    -*) fail "unknown option $1; see $program --help" 2 ;;
  esac
  [ $# -le 1 ] || fail "$# arguments, expected one folder; see $program --help" 2
  folder=${1:-$(dirname "$0")}
  mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] || fail "$folder: cannot write to it"
}

command -v curl >/dev/null || fail "curl not found; install the package curl"

# lock FILE: until this script ends.
lock() {
  exec 9>>"$1"
  flock --nonblock 9 || fail "$1: another run is working on it; wait for it"
}

# digest ALGORITHM FILE: print it.
digest() { "$1sum" <"$2" | cut -d ' ' -f 1; }

# download URL FILE [ALGORITHM DIGEST]: FILE appears when it is complete and has
# that digest. A transfer that breaks off is resumed where it stopped: at once if
# it has brought anything, else in the next run.
download() {
  local url=$1 file=$2 algorithm=${3:-} expected=${4:-}
  local partial before status answer found
  partial=$(dirname "$file")/$(basename "$url").partial
  if [ -f "$file" ]; then
    lock "$file"
    partial=$file
  else
    lock "$partial"
    echo "Fetching $url"
    while true; do
      before=$(stat --format %s "$partial") status=0
      answer=$(fetch "$url" "$partial") || status=$?
      case $status:${answer%% *} in
        *:416 | 33:*) # nothing after this byte, or a server that cannot resume
          [ -z "$expected" ] || [ "$(digest "$algorithm" "$partial")" != "$expected" ] || break
          [ "$before" -gt 0 ] || fail "$url: ${answer#* }"
          : >"$partial"
          ;;
        0:*) break ;;
        *) [ "$(stat --format %s "$partial")" -gt "$before" ] || fail "$url: ${answer#* }; run \
$program again when that is fixed; it resumes at byte $before" ;;
      esac
    done
  fi
  found=
  if grep -aqiE '<html|<!doctype' < <(head -c 512 "$partial"); then
    found="the server sent a web page"
  elif [ -n "$expected" ] && [ "$(digest "$algorithm" "$partial")" != "$expected" ]; then
    found="${algorithm^^} $(digest "$algorithm" "$partial"), expected $expected"
  fi
  if [ -n "$found" ]; then
    [ "$partial" != "$file" ] || fail "$file: $found; remove it and run $program again"
    rm "$partial"
    fail "$url: $found; try again, or another address: $program --help"
  fi
  [ "$partial" = "$file" ] || mv "$partial" "$file"
}

# fetch URL FILE: append one transfer to FILE; print the server's answer and what
# went wrong.
fetch() {
  local progress=--silent
  [ ! -t 2 ] || progress=--progress-bar
  curl --fail --location "$progress" --connect-timeout 30 --speed-limit 1000 --speed-time 60 \
    --continue-at - --output "$2" --write-out '%{http_code} %{errormsg}' "$1"
}

# unpack ARCHIVE MEMBER TARGET: the folder MEMBER of the archive becomes TARGET,
# and the archive is removed.
unpack() {
  local archive=$1 member=$2 target=$3 partial=$1.unpacked.partial output
  echo "Unpacking $archive"
  rm -rf "$partial"
  mkdir "$partial"
  output=$(tar --no-same-owner -xf "$archive" -C "$partial" "$member" 2>&1) || {
    rm -rf "$partial"
    fail "$archive: ${output%%$'\n'*}"
  }
  sync --file-system "$partial"
  mkdir -p "$(dirname "$target")"
  mv "$partial/$member" "$target"
  rm -rf "$partial" "$archive"
  echo "$target is there"
}
