#ifndef NEIGHBOURHOOD_HPP_
#define NEIGHBOURHOOD_HPP_

#include <string>
#include <vector>

#include "caffe/common.hpp"

namespace caffe {

/// The pair (y, x) - (y + dy, x + dx); it is stored at (y, x).
struct PairOffset {
  int dy, dx;
};

/**
 * @brief Half the number of rows, and of columns, that a pixel is joined to:
 * the odd numbers up to window / 2 (figure 2 of the paper; 6 for window 23).
 */
inline int OddOffsets(int window) { return (window / 2 + 1) / 2; }

/// The number of unordered pairs per pixel: 72 for window 23, 8 for window 7.
inline int NumPairs(int window) {
  return 2 * OddOffsets(window) * OddOffsets(window);
}

/**
 * @brief The unordered pairs of a neighbourhood window, in channel order.
 *
 * dy = 1, 3, ... outermost and dx = ..., -3, -1, 1, 3, ... innermost, both odd
 * and up to window / 2 in size. Both ends of no pair lie in columns of the same
 * parity: all even columns can be updated at once, and so can all odd ones.
 */
inline std::vector<PairOffset> PairOffsets(int window) {
  const int reach = 2 * OddOffsets(window) - 1;
  std::vector<PairOffset> offsets;
  for (int dy = 1; dy <= reach; dy += 2) {
    for (int dx = -reach; dx <= reach; dx += 2) { offsets.push_back({dy, dx}); }
  }
  return offsets;
}

/// Columns of a scratch row: whole vectors of the longest kind (16 floats).
inline int WholeVectors(int columns) { return (columns + 15) / 16 * 16; }

/// Stops unless the window is an odd number of grid cells, 3 or more.
inline void CheckWindow(
    const std::string& layer, const std::string& param, int window) {
  CHECK(window >= 3 && window % 2 == 1)
      << "Layer " << layer << ": window is " << window
      << ", expected an odd number of at least 3. Set " << param
      << " { window: 23 } for the paper's neighbourhood.";
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
