#ifndef GMF_LAYER_HPP_
#define GMF_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "gmf_kernels.hpp"
#include "struct_blob.hpp"

namespace caffe {

/// What is wrong with C, if anything.
template <typename Dtype>
struct WrongCompatibility {
  enum { kNothing, kNotFinite, kNegative } kind;
  Dtype value;  // C at (k, l), or an eigenvalue
  int k, l;
};

/// A rotation of two vectors in their plane.
struct JacobiRotation {
  double cosine, sine;
};

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
  /// What the CPU keeps from Forward to Backward, and scratch.
  struct CpuState {
    gmf::Eigenbasis<Dtype> eigenbasis() const {
      return {basis.data(), basis_transposed.data(), eigenvalues.data()};
    }
    vector<Dtype> compatibility;  // the C that the next three belong to
    vector<Dtype> basis, basis_transposed;  // U, a column for each eigenvalue
    vector<Dtype> eigenvalues;
    // Half rows (the columns of one parity), laid out as in gmf_kernels.hpp.
    Blob<Dtype> kept_means, messages, weighted, residuals;
  };

  /// The same for the GPU. The updated columns lie side by side in arrays of
  /// K x pixels, pixels = N x H x half, without padding.
  struct GpuState {
    bool has_basis = false;
    Blob<Dtype> compatibility;  // the C that the next two belong to
    Blob<Dtype> basis, eigenvalues;
    Blob<double> matrices;                 // scratch, 2 x K x K
    StructBlob<JacobiRotation> rotations;  // scratch, (K + 1) / 2
    Blob<Dtype> product;                   // G
    GpuReport<WrongCompatibility<Dtype>> report;
    Blob<Dtype> degrees;                    // N x H x half
    Blob<Dtype> residuals;                  // m - S r
    Blob<Dtype> gathered, rotated, solved;  // scratch
  };

  /// The sizes of the half step on these means.
  gmf::HalfStep StepFor(const Blob<Dtype>& means) const;
  /// Brings the CPU's eigenbasis up to date with C.
  void Diagonalise(const Blob<Dtype>& compatibility);
  /// Stops if there is something wrong with C, and says what.
  void StopIfWrong(const WrongCompatibility<Dtype>& found) const;
  /// out = A^-1 C in for each updated pixel; both are K x pixels, on the GPU.
  void ApplyOperator(const Blob<Dtype>& in, Blob<Dtype>* out);

  const int parity_;
  int window_;
  CpuState cpu_;
  GpuState gpu_;
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
