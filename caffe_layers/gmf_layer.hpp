#ifndef GMF_LAYER_HPP_
#define GMF_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "gmf_kernels.hpp"

namespace caffe {

/**
 * @brief One half step of Gaussian mean field inference: the exact minimum of
 * the energy over the columns of one parity, the other columns held fixed.
 *
 * For a pixel i in an updated column, with @f$ W_{ij} = s_{ij} C @f$:
 * @f[ \mu'_i = (I + \sum_j W_{ij})^{-1} (r_i + \sum_j W_{ij} \mu_j) @f]     (2)
 * All other pixels keep their mean. With degree @f$ S_i = \sum_j s_{ij} @f$,
 * message @f$ m_i = \sum_j s_{ij} \mu_j @f$ and @f$ A_i = I + S_i C @f$, this
 * layer computes
 * @f[ \mu'_i = r_i + A_i^{-1} C (m_i - S_i r_i) @f]                        (2a)
 * which equals (2) and leaves r_i untouched, to the last bit, where s = 0.
 * With g = dE/dmu', the gradients are, for updated i and its neighbours j,
 * @f[ h_i = A_i^{-1} C g_i, \quad q_i = A_i^{-1} g_i = g_i - S_i h_i @f]   (2b)
 * @f[ \partial E / \partial r_i = q_i, \quad
 *     \partial E / \partial \mu_j = g_j + \sum_i s_{ij} h_i, \quad
 *     \partial E / \partial s_{ij} = h_i^T (\mu_j - \mu'_i) @f]
 * @f[ \partial E / \partial C = (G + G^T) / 2, \quad
 *     G = \sum_i q_i (m_i - S_i \mu'_i)^T @f]
 * and 0 for mu_i and r_j. C is the same at every pixel, so with
 * @f$ C = U diag(\lambda) U^T @f$ the operator @f$ A_i^{-1} C @f$ is two
 * products with U and a division by @f$ 1 + S_i \lambda_k @f$.
 *
 * R. Vemulapalli et al., "Gaussian Conditional Random Field Network for
 * Semantic Segmentation", CVPR 2016. The energy (1) sees only the symmetric
 * part of C, and so does this layer: docs/decisions.md, "symmetric part".
 *
 * @param bottom (length 4)
 *   -# @f$ (N \times K \times H \times W) @f$ means mu
 *   -# @f$ (N \times K \times H \times W) @f$ unary r
 *   -# @f$ (N \times P \times H \times W) @f$ similarities s in [0, 1], laid
 *      out as in neighbourhood.hpp; an entry whose second end is outside the
 *      image is not read, and has gradient 0
 *   -# @f$ (K \times K) @f$ compatibility C, positive semidefinite
 * @param top (length 1)
 *   -# @f$ (N \times K \times H \times W) @f$ means mu' (not in place)
 * gmf_param: window, in grid cells, odd, 3 to 1023, default 23.
 */
template <typename Dtype>
class GMFLayer : public Layer<Dtype> {
 public:
  /// @param parity 0 to update the even columns, 1 to update the odd ones
  GMFLayer(const LayerParameter& param, int parity)
      : Layer<Dtype>(param), parity_(parity) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;

  int ExactNumBottomBlobs() const override { return 4; }
  int ExactNumTopBlobs() const override { return 1; }

 protected:
  void Forward_cpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Backward_cpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom) override;
  void Forward_gpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Backward_gpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom) override;

 private:
  gmf::HalfStep StepFor(const Blob<Dtype>& means) const;
  /// Brings basis_, basis_transposed_ and eigenvalues_ up to date with C.
  void Diagonalise(const Blob<Dtype>& compatibility);
  /// Stops, because C holds a value that is not finite at (k, l).
  void RejectValue(Dtype value, int k, int l) const;
  /// Stops, because C has an eigenvalue below 0.
  void RejectEigenvalue(Dtype value) const;
  /// Stops if an earlier pass on the GPU met such a C. To wait for the GPU
  /// within a pass would cost more than the layer does, so the means are NaN
  /// then, and the layer's next pass says why.
  void CheckReport() const;
  /// out = A^-1 C in for each updated pixel; both are K x pixels, on the GPU.
  void ApplyOperator(const Blob<Dtype>& in, Blob<Dtype>* out);

  const int parity_;
  int window_;
  vector<Dtype> compatibility_;  // the C that the next three belong to
  vector<Dtype> basis_, basis_transposed_;  // U, a column for each eigenvalue
  vector<Dtype> eigenvalues_;
  // Half rows (the columns of one parity), laid out as in gmf_kernels.hpp.
  Blob<Dtype> kept_means_, messages_, weighted_, residuals_;
  // On the GPU: the C that U and lambda belong to, scratch to find them with,
  // and a product before it is made symmetric.
  Blob<Dtype> gpu_compatibility_, gpu_basis_, gpu_eigenvalues_, gpu_products_;
  Blob<double> gpu_scratch_, rotations_;  // 2 x K x K, (K + 1) / 2 x 2
  bool has_basis_;
  // What is wrong with C, read by the CPU: 1 for a value, at k, l; 2 for an
  // eigenvalue; 0 for nothing. Then the value, k, l.
  Blob<Dtype> report_;
  // The degrees of the updated pixels (N x H x half) and their m - S r, which
  // Backward reads, and scratch: K x (N x H x half).
  Blob<Dtype> degrees_, gpu_residuals_, gathered_, rotated_, solved_;
};

/// @brief The half step for columns 0, 2, 4, ...; comes first in a GMF layer.
template <typename Dtype>
class GMFEvenLayer : public GMFLayer<Dtype> {
 public:
  explicit GMFEvenLayer(const LayerParameter& param)
      : GMFLayer<Dtype>(param, 0) {}
  const char* type() const override { return "GMFEven"; }
};

/// @brief The half step for columns 1, 3, 5, ...
template <typename Dtype>
class GMFOddLayer : public GMFLayer<Dtype> {
 public:
  explicit GMFOddLayer(const LayerParameter& param)
      : GMFLayer<Dtype>(param, 1) {}
  const char* type() const override { return "GMFOdd"; }
};

}  // namespace caffe

#endif  // GMF_LAYER_HPP_
