#ifndef NEIGHBOURHOOD_CUH_
#define NEIGHBOURHOOD_CUH_

#include "caffe/common.hpp"

namespace caffe {

// Kernels over the pixels of the CRF's grid have small blocks: 64 x 64 pixels
// are few, and spread over more multiprocessors than large blocks would be.
const int kPixelThreads = 128;
inline int PixelBlocks(int count) {
  return (count + kPixelThreads - 1) / kPixelThreads;
}

// Channels that a thread handles at once: it reads a similarity once for all of
// them, and keeps their sums in registers. More would leave too few threads.
const int kChunk = 4;
inline int Chunks(int channels) { return (channels + kChunk - 1) / kChunk; }

/// Calls visit(entry, y', x') for each neighbour (y', x') of the pixel (y, x).
/// The entry of their pair counts from the first similarity of the image.
/// offsets: the odd numbers up to window / 2, n of neighbourhood.hpp.
template <typename Visitor>
__device__ inline void ForEachNeighbour(const int y, const int x,
    const int height, const int width, const int offsets, Visitor visit) {
  const int across = 2 * offsets, reach = across - 1;
  for (int dy = -reach; dy <= reach; dy += 2) {
    if (y + dy < 0 || y + dy >= height) { continue; }
    for (int dx = -reach; dx <= reach; dx += 2) {
      if (x + dx < 0 || x + dx >= width) { continue; }
      // The pair is stored at its upper end.
      const int pair = dy > 0 ? dy / 2 * across + (reach + dx) / 2
                              : -dy / 2 * across + (reach - dx) / 2;
      const int upper_y = dy > 0 ? y : y + dy, upper_x = dy > 0 ? x : x + dx;
      visit((pair * height + upper_y) * width + upper_x, y + dy, x + dx);
    }
  }
}

}  // namespace caffe

#endif  // NEIGHBOURHOOD_CUH_
