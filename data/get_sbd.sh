#!/usr/bin/env bash
# Fetch the Semantic Boundaries Dataset to FOLDER/benchmark_RELEASE.
#
# Usage: data/get_sbd.sh [FOLDER]          default: the folder of this script
# SBD_URL is the address of another copy of benchmark.tgz (1.4 GB).
# Run it again to resume where it stopped. What is already there is left alone.
# Exit codes: 0 done, 1 not fetched, 2 bad usage.
. "$(dirname "$0")/fetch.sh"

set_folder "$@"
berkeley=https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping
url=${SBD_URL:-$berkeley/semantic_contours/benchmark.tgz}
archive=$folder/benchmark.tgz
target=$folder/benchmark_RELEASE
if [ -d "$target" ]; then
  echo "$target is there already"
  exit
fi
download "$url" "$archive" md5 82b4d87ceb2ed10f6038a1cba92111cb
unpack "$archive" benchmark_RELEASE "$target"
