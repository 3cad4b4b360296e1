#!/usr/bin/env bash
# Fetch DeepLab's published weights to FOLDER/weights/DeepLab-MSc-LargeFOV.caffemodel.
#
# Usage: data/get_deeplab_weights.sh [FOLDER]      default: the folder of this script
# DEEPLAB_URL is the address of another copy, or of other weights of this net.
# DEEPLAB_SHA256 is the SHA-256 that the file must have. Without it any file passes,
# and its SHA-256 is printed so that you can compare or keep it.
# Run it again to resume where it stopped. What is already there is left alone.
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
