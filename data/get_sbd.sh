#!/usr/bin/env bash
# Fetch the Semantic Boundaries Dataset (1.4 GB) to FOLDER/benchmark_RELEASE.
#
# Usage: data/get_sbd.sh [FOLDER]            FOLDER: this script's own by default
# SBD_URL: the address of another server with benchmark.tgz.
# Run again, it resumes a broken transfer and leaves a finished one alone.
# Exit codes: 0 done, 1 not fetched, 2 bad usage.
. "$(dirname "${BASH_SOURCE[0]}")/fetch.sh"

default=https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours
parse_arguments "$@"
target=$folder/benchmark_RELEASE
archive=$folder/benchmark.tgz
if [ -d "$target" ]; then
  echo "$target is there already"
  exit 0
fi
download "${SBD_URL:-$default}/benchmark.tgz" "$archive"
unpack "$archive" benchmark_RELEASE "$target"
