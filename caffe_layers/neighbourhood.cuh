#ifndef NEIGHBOURHOOD_CUH_
#define NEIGHBOURHOOD_CUH_

#include "neighbourhood.hpp"

namespace caffe {

// Kernels over the pixels of the CRF's grid have small blocks: 64 x 64 pixels
// are few, and spread over more multiprocessors than large blocks would be.
const int kPixelThreads = 128;
inline int PixelBlocks(int count) {
  return (count + kPixelThreads - 1) / kPixelThreads;
}

// Channels that a thread handles at once: it reads a similarity once for all of
// them, and keeps their sums in registers. More would leave too few threads.
const int kThreadChannels = 4;
HOST_AND_DEVICE inline int ChannelGroups(int channels) {
  return (channels + kThreadChannels - 1) / kThreadChannels;
}

/// Calls visit(entry, y', x') for each neighbour (y', x') of the pixel (y, x).
/// The entry of their pair counts from the first similarity of the image.
template <typename Visitor>
__device__ inline void ForEachNeighbour(
    const int y, const int x, const PairGrid grid, Visitor visit) {
  for (int dy = -grid.reach(); dy <= grid.reach(); dy += 2) {
    for (int dx = -grid.reach(); dx <= grid.reach(); dx += 2) {
      if (grid.Contains(y + dy, x + dx)) {
        visit(grid.EntryOf(y, x, dy, dx), y + dy, x + dx);
      }
    }
  }
}

}  // namespace caffe

#endif  // NEIGHBOURHOOD_CUH_
