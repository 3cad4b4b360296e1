#!/usr/bin/env bash
# Fetch DeepLab's published weights to FOLDER/weights/DeepLab-MSc-LargeFOV.caffemodel.
#
# Usage: data/get_deeplab_weights.sh [FOLDER]      FOLDER: where this script lies
# DEEPLAB_URL is the address of another copy, or of other weights of this net.
# DEEPLAB_SHA256 is what the file's SHA-256 must be; without it, any file passes,
# and its SHA-256 is printed to compare or to keep.
# Run again, it goes on where it stopped, and leaves alone what is there.
# Exit codes: 0 done, 1 not fetched, 2 bad usage.
. "$(dirname "$0")/fetch.sh"

set_folder "$@"
johns_hopkins=http://www.cs.jhu.edu/~alanlab/ccvl
url=${DEEPLAB_URL:-$johns_hopkins/DeepLab-MSc-LargeFOV/train2_iter_8000.caffemodel}
target=$folder/weights/DeepLab-MSc-LargeFOV.caffemodel
mkdir -p "$folder/weights"
[ ! -f "$target" ] || echo "$target is there already"
download "$url" "$target" ${DEEPLAB_SHA256:+sha256 "${DEEPLAB_SHA256,,}"}
echo "SHA-256 $(digest sha256 "$target")"
