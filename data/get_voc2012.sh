#!/usr/bin/env bash
# Fetch PASCAL VOC 2012, train and val, to FOLDER/VOCdevkit/VOC2012.
#
# Usage: data/get_voc2012.sh [FOLDER]      default: the folder of this script
# VOC_URL is the address of another copy of VOCtrainval_11-May-2012.tar (2.0 GB).
# Run it again to resume where it stopped. What is already there is left alone.
# Exit codes: 0 done, 1 not fetched, 2 bad usage.
. "$(dirname "$0")/fetch.sh"

set_folder "$@"
url=${VOC_URL:-http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar}
archive=$folder/VOCtrainval_11-May-2012.tar
target=$folder/VOCdevkit/VOC2012
if [ -d "$target" ]; then
  echo "$target is there already"
  exit
fi
download "$url" "$archive" md5 6cd6e144f989b92b3379bac3b3de84fd
unpack "$archive" VOCdevkit/VOC2012 "$target"
