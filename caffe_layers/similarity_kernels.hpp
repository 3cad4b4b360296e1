#ifndef SIMILARITY_KERNELS_HPP_
#define SIMILARITY_KERNELS_HPP_

#include "neighbourhood.hpp"

namespace caffe {
namespace similarity {

/// The sizes of a batch, and of the padded copy N x H x M x stride of its
/// features: column x of a row is at margin + x, with zeros on both sides.
struct Sizes : PairGrid {
  Sizes(int num, int channels, int height, int width, int window);

  int num, channels;
  int padded;  // width, rounded up to a multiple of the longest vector
  int margin;
  int stride;  // padded + 2 * margin
};

/// Eq. (4) with (5). Fills padded, which Backward reads.
template <typename Dtype>
struct Forward {
  Sizes sizes;
  const Dtype* features;
  Dtype *padded, *similarities;
  void Run() const;
};

/// Eq. (5a).
template <typename Dtype>
struct Backward {
  Sizes sizes;
  const Dtype *padded, *similarities, *similarities_diff;
  Dtype* features_diff;
  void Run() const;
};

}  // namespace similarity
}  // namespace caffe

#endif  // SIMILARITY_KERNELS_HPP_
