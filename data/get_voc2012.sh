#!/usr/bin/env bash
# Fetch PASCAL VOC 2012 (train and val, 2 GB) to FOLDER/VOCdevkit/VOC2012.
#
# Usage: data/get_voc2012.sh [FOLDER]        FOLDER: this script's own by default
# VOC_URL: the address of another server with VOCtrainval_11-May-2012.tar.
# Run again, it resumes a broken transfer and leaves a finished one alone.
# Exit codes: 0 done, 1 not fetched, 2 bad usage.
. "$(dirname "${BASH_SOURCE[0]}")/fetch.sh"

parse_arguments "$@"
target=$folder/VOCdevkit/VOC2012
archive=$folder/VOCtrainval_11-May-2012.tar
if [ -d "$target" ]; then
  echo "$target is there already"
  exit 0
fi
download \
  "${VOC_URL:-http://host.robots.ox.ac.uk/pascal/VOC/voc2012}/$(basename "$archive")" "$archive"
mkdir -p "$folder/VOCdevkit"
unpack "$archive" VOCdevkit/VOC2012 "$target"
