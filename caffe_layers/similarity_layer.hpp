#ifndef SIMILARITY_LAYER_HPP_
#define SIMILARITY_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

#include "similarity_kernels.hpp"

namespace caffe {

/**
 * @brief The similarity of each pixel to its neighbours, from features.
 *
 * @f[ s_{ij} = \exp(-\sum_m (p_{m,i} - p_{m,j})^2) @f]                   (4, 5)
 * for the pairs i, j of the neighbourhood window, where
 * @f$ p_m = f_m^T z @f$ comes from a 1 x 1 Convolution without bias, so that
 * the filters f_m are that layer's parameters. The gradient is
 * @f[ \partial E / \partial p_{m,i} =
 *     -2 \sum_j g_{ij} s_{ij} (p_{m,i} - p_{m,j}) @f]                      (5a)
 * with @f$ g_{ij} = \partial E / \partial s_{ij} @f$, over all neighbours j.
 *
 * R. Vemulapalli et al., "Gaussian Conditional Random Field Network for
 * Semantic Segmentation", CVPR 2016.
 *
 * @param bottom (length 1)
 *   -# @f$ (N \times M \times H \times W) @f$ features p, any values
 * @param top (length 1)
 *   -# @f$ (N \times P \times H \times W) @f$ similarities s in [0, 1], laid
 *      out as in neighbourhood.hpp; 0 where the second end is outside the image
 * similarity_param: window, in grid cells, odd, 3 to 1023, default 23.
 */
template <typename Dtype>
class SimilarityLayer : public Layer<Dtype> {
 public:
  explicit SimilarityLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;

  const char* type() const override { return "Similarity"; }
  int ExactNumBottomBlobs() const override { return 1; }
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
  similarity::Sizes SizesFor(const Blob<Dtype>& features) const;

  int window_;
  Blob<Dtype> padded_;  // scratch: the features with zeros around each row
};

}  // namespace caffe

#endif  // SIMILARITY_LAYER_HPP_
