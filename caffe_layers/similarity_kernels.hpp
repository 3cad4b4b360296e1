#ifndef SIMILARITY_KERNELS_HPP_
#define SIMILARITY_KERNELS_HPP_

namespace caffe {
namespace similarity {

/// The sizes of a batch, and of the padded copy N x H x M x stride of its
/// features: column x of a row is at margin + x, with zeros on both sides.
struct Sizes {
  Sizes(int num, int channels, int height, int width, int window);

  int num, channels, height, width;
  int offsets;  // odd numbers up to window / 2: n of neighbourhood.hpp
  int padded;   // width, rounded up to a multiple of the longest vector
  int margin;
  int stride;  // padded + 2 * margin
};

/// Eq. (4) with (5). Fills padded, which Backward reads.
template <typename Dtype>
void Forward(const Sizes& sizes, const Dtype* features, Dtype* padded,
    Dtype* similarities);

/// Eq. (5a).
template <typename Dtype>
void Backward(const Sizes& sizes, const Dtype* padded,
    const Dtype* similarities, const Dtype* similarities_diff,
    Dtype* features_diff);

}  // namespace similarity
}  // namespace caffe

#endif  // SIMILARITY_KERNELS_HPP_
