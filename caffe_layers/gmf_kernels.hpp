#ifndef GMF_KERNELS_HPP_
#define GMF_KERNELS_HPP_

#include "neighbourhood.hpp"

namespace caffe {
namespace gmf {

/**
 * @brief The sizes of one half step, and of the half rows it works on.
 *
 * A half row holds the columns of one parity side by side, so that the
 * neighbours of a run of updated columns are a run as well:
 *   - kept means, weighted: N x H x (K + 1) x stride; column c of the half row
 *     is at margin + c, with zeros on both sides
 *   - messages: N x H x (K + 1) x half, for the updated columns
 *   - residuals: 2 x K x N x H x half, for the updated columns
 * Channel K of the kept means is 1 inside the image, so that channel K of the
 * messages is the degree S.
 */
struct HalfStep : PairGrid {
  HalfStep(
      int num, int channels, int height, int width, int parity, int window);
  /// The half step that updates the other columns.
  HalfStep Other() const;

  int num, channels;
  int parity;  // of the updated columns
  int half;    // length of a half row, a multiple of the longest vector
  int margin;  // columns before and after it
  int stride;  // half + 2 * margin
};

/// C = U diag(lambda) U', K x K each, row-major; U has eigenvectors in columns.
template <typename Dtype>
struct Eigenbasis {
  const Dtype* basis;
  const Dtype* basis_transposed;
  const Dtype* eigenvalues;
};

/// Eq. (2a). Fills kept_means and messages, which the gradients need.
template <typename Dtype>
struct Forward {
  HalfStep step;
  Eigenbasis<Dtype> compatibility;
  const Dtype *means, *unary, *similarities;
  Dtype *kept_means, *messages, *top;
  void Run() const;
};

/// Eq. (2b): h of the updated pixels into weighted (channel K is -h' mu'), q
/// and m - S mu' into residuals, and, unless it is null, the gradient of the
/// unary.
template <typename Dtype>
struct BackwardUpdate {
  HalfStep step;
  Eigenbasis<Dtype> compatibility;
  const Dtype *messages, *top, *top_diff;
  Dtype *weighted, *residuals, *unary_diff;
  void Run() const;
};

/// The gradient of the means, from h in weighted.
template <typename Dtype>
struct BackwardMeans {
  HalfStep step;
  const Dtype *similarities, *weighted, *top_diff;
  Dtype* means_diff;
  void Run() const;
};

/// The gradient of the similarities, from h in weighted.
template <typename Dtype>
struct BackwardSimilarities {
  HalfStep step;
  const Dtype *kept_means, *weighted;
  Dtype* similarities_diff;
  void Run() const;
};

/// The gradient of C, (G + G') / 2, from q and m - S mu' in residuals.
template <typename Dtype>
struct BackwardCompatibility {
  HalfStep step;
  const Dtype* residuals;
  Dtype* compatibility_diff;
  void Run() const;
};

}  // namespace gmf
}  // namespace caffe

#endif  // GMF_KERNELS_HPP_
