#ifndef GMF_KERNELS_HPP_
#define GMF_KERNELS_HPP_

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
 * Channel K of the kept means is 1 inside the image, so that channel K of the
 * messages is the degree S.
 */
struct HalfStep {
  HalfStep(
      int num, int channels, int height, int width, int parity, int window);
  /// The half step that updates the other columns.
  HalfStep Other() const;

  int num, channels, height, width;
  int parity;   // of the updated columns
  int offsets;  // odd numbers up to window / 2: n of neighbourhood.hpp
  int half;     // length of a half row, a multiple of the longest vector
  int margin;   // columns before and after it
  int stride;   // half + 2 * margin
};

/// C = U diag(lambda) U', K x K each, row-major; U has eigenvectors in columns.
template <typename Dtype>
struct Eigenbasis {
  const Dtype* basis;
  const Dtype* basis_transposed;
  const Dtype* eigenvalues;
};

/// Eq. (2a). Fills kept_means and messages, which Backward reads.
template <typename Dtype>
void Forward(const HalfStep& step, const Eigenbasis<Dtype>& compatibility,
    const Dtype* means, const Dtype* unary, const Dtype* similarities,
    Dtype* kept_means, Dtype* messages, Dtype* top);

/**
 * @brief Eq. (2b): h of the updated pixels into weighted (channel K is
 * -h' mu'), q and m - S mu' into residuals (2 x K x N x H x half), and, unless
 * it is null, the gradient of the unary.
 */
template <typename Dtype>
void BackwardUpdate(const HalfStep& step,
    const Eigenbasis<Dtype>& compatibility, const Dtype* messages,
    const Dtype* top, const Dtype* top_diff, Dtype* weighted, Dtype* residuals,
    Dtype* unary_diff);

/// The gradient of the means, from h in weighted.
template <typename Dtype>
void BackwardMeans(const HalfStep& step, const Dtype* similarities,
    const Dtype* weighted, const Dtype* top_diff, Dtype* means_diff);

/// The gradient of the similarities, from h in weighted.
template <typename Dtype>
void BackwardSimilarities(const HalfStep& step, const Dtype* kept_means,
    const Dtype* weighted, Dtype* similarities_diff);

/// The gradient of C, (G + G') / 2, from q and m - S mu' in residuals.
template <typename Dtype>
void BackwardCompatibility(
    const HalfStep& step, const Dtype* residuals, Dtype* compatibility_diff);

}  // namespace gmf
}  // namespace caffe

#endif  // GMF_KERNELS_HPP_
