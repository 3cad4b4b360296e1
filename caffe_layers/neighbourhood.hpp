#ifndef NEIGHBOURHOOD_HPP_
#define NEIGHBOURHOOD_HPP_

#include <algorithm>
#include <string>

#include "caffe/common.hpp"

#ifdef __CUDACC__
#define HOST_AND_DEVICE __host__ __device__
#else
#define HOST_AND_DEVICE
#endif

namespace caffe {

/// From a pixel to another one of its pair.
struct PairOffset {
  int dy, dx;
};

/// Both ends of a pair. The lower one may be outside the image.
struct PixelPair {
  int n, p;              // the image and the channel
  int y, x;              // the upper end, where the pair is stored
  int lower_y, lower_x;  // the lower end
};

/**
 * @brief A grid of pixels, and where a similarity map has its pairs.
 *
 * A pixel is joined to the pixels an odd number of rows and an odd number of
 * columns away, up to half the window (figure 2 of the paper): 2n rows and 2n
 * columns, n = 6 for window 23. Both ends of no pair lie in columns of the same
 * parity: all even columns can be updated at once, and so can all odd ones.
 *
 * A similarity map, N x P x H x W, has each pair once, at its upper end. The
 * channel says where the lower end is: dy = 1, 3, ... outermost and
 * dx = ..., -3, -1, 1, 3, ... innermost.
 */
struct PairGrid {
  PairGrid(int height, int width, int window)
      : height(height), width(width), offsets((window / 2 + 1) / 2) {}

  int height, width;
  int offsets;  // n, the number of odd numbers up to half the window

  /// The number of rows, and of columns, that a pixel has neighbours in.
  HOST_AND_DEVICE int across() const { return 2 * offsets; }
  /// The largest offset, 11 for window 23.
  HOST_AND_DEVICE int reach() const { return 2 * offsets - 1; }
  /// P, the number of unordered pairs per pixel: 72 for window 23.
  HOST_AND_DEVICE int pairs() const { return across() * offsets; }

  /// The offsets along an axis: -reach, ..., -1, 1, ..., reach for i = 0..2n-1.
  HOST_AND_DEVICE int OffsetAlong(int i) const { return 2 * i - reach(); }
  /// The offset of channel p, from the upper to the lower end.
  HOST_AND_DEVICE PairOffset OffsetOf(int p) const {
    return {p / across() * 2 + 1, OffsetAlong(p % across())};
  }

  HOST_AND_DEVICE bool Contains(int y, int x) const {
    return y >= 0 && y < height && x >= 0 && x < width;
  }

  /// The entry of (y, x) and (y + dy, x + dx), either of them the upper end,
  /// counted from the image's first.
  HOST_AND_DEVICE int EntryOf(int y, int x, int dy, int dx) const {
    if (dy < 0) {
      y += dy, x += dx;
      dy = -dy, dx = -dx;
    }
    const int p = dy / 2 * across() + (dx + reach()) / 2;
    return (p * height + y) * width + x;
  }
  /// The pair of an entry, counted from the first of the batch.
  HOST_AND_DEVICE PixelPair PairOf(int entry) const {
    const int x = entry % width, y = entry / width % height;
    const int p = entry / width / height % pairs();
    const int n = entry / width / height / pairs();
    const PairOffset offset = OffsetOf(p);
    return {n, p, y, x, y + offset.dy, x + offset.dx};
  }

  /// The columns x for which x + dx is inside, too: begin..end-1.
  int BeginColumn(int dx) const { return std::min(width, std::max(0, -dx)); }
  int EndColumn(int dx) const {
    return std::max(0, std::min(width, width - dx));
  }
};

/// The number of unordered pairs per pixel: 72 for window 23, 8 for window 7.
inline int NumPairs(int window) { return PairGrid(0, 0, window).pairs(); }

/// Columns of a scratch row: whole vectors of the longest kind (16 floats).
inline int WholeVectors(int columns) { return (columns + 15) / 16 * 16; }

/// The largest window: 131,072 pairs per pixel. A blob of many more could not
/// hold a grid that is worth a window.
const int kMaxWindow = 1023;

/// Stops unless the window is an odd number of grid cells, 3 to kMaxWindow.
inline void CheckWindow(
    const std::string& layer, const std::string& param, unsigned int window) {
  CHECK(window >= 3 && window <= kMaxWindow && window % 2 == 1)
      << "Layer " << layer << ": window is " << window
      << ", expected an odd number from 3 to " << kMaxWindow << ". Set "
      << param << " { window: 23 } for the paper's neighbourhood.";
}

/// Stops unless the similarities hold one channel for each pair of the window.
inline void CheckPairChannels(const std::string& layer,
    const std::string& param, int window, int channels) {
  const int pairs = NumPairs(window);
  CHECK_EQ(channels, pairs)
      << "Layer " << layer << ": the similarities have " << channels
      << " channels, expected " << pairs << " (the pairs of window " << window
      << "). Give " << param
      << " the same window as the Similarity layer that made them.";
}

}  // namespace caffe

#endif  // NEIGHBOURHOOD_HPP_
