#ifndef SIMILARITY_LOSS_LAYER_HPP_
#define SIMILARITY_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layers/loss_layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "loss_sum.hpp"
#include "neighbourhood.hpp"

namespace caffe {

/**
 * @brief Teaches similarities from labels: high where two pixels share a
 * class, below a threshold where they do not.
 * @f[ L_{ij} = -s_{ij} @f] if @f$ l_i = l_j @f$,
 * @f[ L_{ij} = \max(0, s_{ij} - h) @f] otherwise                         (7)
 * Numbered as in R. Vemulapalli et al., "Gaussian Conditional Random Field
 * Network for Semantic Segmentation", CVPR 2016.
 *
 * Erratum: the paper prints @f$ \min(0, s_{ij} - h) @f$ for unlike pairs. Its
 * gradient is 0 above h and 1 below, so it would leave high similarities of
 * unlike pixels alone; the text under (7) asks for the opposite, and so do we.
 * At s = h the gradient is 0.
 *
 * A pair is valid if both ends are inside the image and neither label is
 * ignored. Entries of s that are not valid do not count, whatever they hold.
 * @param bottom (length 2)
 *   -# @f$ (N \times P \times H \times W) @f$ similarities s, in [0, 1], laid
 * out as in neighbourhood.hpp
 *   -# @f$ (N \times 1 \times H \times W) @f$ labels l, integers >= 0 or the
 *      ignore label; anything else is fatal. They get no gradient.
 * @param top (length 1)
 *   -# scalar: the mean of L_ij over the valid pairs of the batch; 0 (with zero
 *      gradients) if there are none
 * similarity_loss_param: window, in grid cells, odd, 3 to 1023, default 23;
 * threshold (h), on a similarity, in [0, 1], default e^-10.
 * loss_param: ignore_label; a normalization other than VALID is rejected.
 */
template <typename Dtype>
class SimilarityLossLayer : public LossLayer<Dtype> {
 public:
  explicit SimilarityLossLayer(const LayerParameter& param)
      : LossLayer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;

  const char* type() const override { return "SimilarityLoss"; }

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

  PairGrid GridOf(const Blob<Dtype>& similarities) const;

  /// How many pairs of the batch Forward found valid, at least 1.
  Blob<Dtype> normalizer_;
  // On the GPU: what each block found, and a wrong label.
  StructBlob<LossSum> block_sums_;
  GpuReport<WrongLabel> report_;
};

}  // namespace caffe

#endif  // SIMILARITY_LOSS_LAYER_HPP_
