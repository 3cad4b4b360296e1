#ifndef MATRIX_GEN_LAYER_HPP_
#define MATRIX_GEN_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief The learned compatibility of the classes, symmetric and positive
 * semidefinite by construction.
 * @f[ C = R R^T @f], R lower triangular                                  (3)
 * @f[ \partial E / \partial R = \mathrm{tril}((G + G^T) R) @f],
 * with @f$ G = \partial E / \partial C @f$
 * Numbered as in R. Vemulapalli et al., "Gaussian Conditional Random Field
 * Network for Semantic Segmentation", CVPR 2016.
 * @param bottom (length 0)
 * @param top (length 1)
 *   -# @f$ (K \times K) @f$ compatibility C, exactly symmetric
 * Learnable blob: R, K x K. It starts as D times the identity. What a filler,
 * a file or a solver leaves above the diagonal counts as 0: Forward clears it,
 * Backward gives it no gradient.
 * matrix_gen_param: num_classes (K), >= 1, default 21; diagonal (D), > 0,
 * default 1.
 */
template <typename Dtype>
class MatrixGenLayer : public Layer<Dtype> {
 public:
  explicit MatrixGenLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;

  const char* type() const override { return "MatrixGen"; }
  int ExactNumBottomBlobs() const override { return 0; }
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
};

}  // namespace caffe

#endif  // MATRIX_GEN_LAYER_HPP_
