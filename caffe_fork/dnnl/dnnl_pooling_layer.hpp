#ifndef GCRF_DNNL_POOLING_LAYER_HPP_
#define GCRF_DNNL_POOLING_LAYER_HPP_

#include <string>
#include <vector>

#include "caffe/layers/pooling_layer.hpp"
#include "dnnl_memory.hpp"

namespace caffe {

/**
 * @brief PoolingLayer on oneDNN's kernels, MAX and AVE, with one top.
 *
 * The same results. It is Caffe's own layer, and says so, for average windows
 * that oneDNN counts otherwise: Caffe divides by the size of the window, as far
 * as it lies inside the padded image.
 */
class DnnlPoolingLayer : public PoolingLayer<float> {
 public:
  explicit DnnlPoolingLayer(const LayerParameter& param)
      : PoolingLayer<float>(param), use_caffe_(false) {}
  virtual void Reshape(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  bool is_max() const {
    return this->layer_param_.pooling_param().pool() ==
           PoolingParameter_PoolMethod_MAX;
  }
  bool has_pads() const { return pads_[0] > 0 || pads_[1] > 0; }
  dnnl::algorithm algorithm() const;
  /// Empty where oneDNN has what the layer needs.
  string WhyNotDnnl(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  DnnlPoolingForward::primitive_desc DescribeForward(
      dnnl::prop_kind kind, const DnnlDesc& bottom) const;

  bool use_caffe_;
  DnnlDims bottom_, top_, kernel_, strides_, pads_, end_pads_;
  /// Which pixel each maximum came from, of the TRAIN phase's last forward.
  shared_ptr<DnnlMemory> argmax_;
};

}  // namespace caffe

#endif  // GCRF_DNNL_POOLING_LAYER_HPP_
