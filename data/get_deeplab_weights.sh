#!/usr/bin/env bash
# Fetch DeepLab-MSc-LargeFOV's published weights to FOLDER/weights.
#
# Usage: data/get_deeplab_weights.sh [FOLDER]    FOLDER: this script's own by default
# DEEPLAB_URL: the address of another copy, or of other weights of this net.
# Run again, it resumes a broken transfer and leaves a finished one alone.
# Exit codes: 0 done, 1 not fetched, 2 bad usage.
. "$(dirname "${BASH_SOURCE[0]}")/fetch.sh"

default=http://www.cs.jhu.edu/~alanlab/ccvl/DeepLab-MSc-LargeFOV/train2_iter_8000.caffemodel
parse_arguments "$@"
target=$folder/weights/DeepLab-MSc-LargeFOV.caffemodel
if [ -f "$target" ]; then
  echo "$target is there already"
  exit 0
fi
mkdir -p "$folder/weights"
download "${DEEPLAB_URL:-$default}" "$target"
if head -c 512 "$target" | grep -aqiE '<html|<!doctype'; then
  rm -f "$target"
  fail "the server sent a web page, no weights, so it was removed; check DEEPLAB_URL"
fi
