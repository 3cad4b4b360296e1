#ifndef MARGIN_LOSS_LAYER_HPP_
#define MARGIN_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layers/loss_layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "loss_sum.hpp"

namespace caffe {

/**
 * @brief Penalises a pixel whose own class does not win by the margin.
 * @f[ L_i = \max(0, T - (y_{i,l} - \max_{k \ne l} y_{i,k})) @f]          (6)
 * Where L_i > 0 the gradient is -1 for the label l and +1 for the rival, the
 * best other class (the lowest of equals); elsewhere, the kink included, 0.
 * Numbered as in R. Vemulapalli et al., "Gaussian Conditional Random Field
 * Network for Semantic Segmentation", CVPR 2016.
 * @param bottom (length 2)
 *   -# @f$ (N \times K \times H \times W) @f$ scores y, any values, K >= 2
 *   -# @f$ (N \times 1 \times H \times W) @f$ labels l, integers 0..K-1 or the
 *      ignore label; anything else is fatal. They get no gradient.
 * @param top (length 1)
 *   -# scalar: the sum of L_i over the pixels that are not ignored, over the
 *      normalizer; 0 (with zero gradients) if all of them are ignored
 * margin_loss_param: margin (T), in units of the score, > 0, default 0.5.
 * loss_param: ignore_label, normalization and normalize exactly as in
 * SoftmaxWithLoss; by default the mean over the pixels that are not ignored.
 */
template <typename Dtype>
class MarginLossLayer : public LossLayer<Dtype> {
 public:
  explicit MarginLossLayer(const LayerParameter& param)
      : LossLayer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;

  const char* type() const override { return "MarginLoss"; }

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

  /// What the sum is divided by; 0 for the number of pixels not ignored.
  int FixedNormalizer() const;

  /// The rival class of each pixel, or -1 where the loss is 0 (N x 1 x H x W).
  Blob<int> rival_;
  /// What Forward divided the sum by, one number.
  Blob<Dtype> normalizer_;
  // On the GPU: what each block found, and a wrong label.
  StructBlob<LossSum> block_sums_;
  GpuReport<WrongLabel> report_;
};

}  // namespace caffe

#endif  // MARGIN_LOSS_LAYER_HPP_
