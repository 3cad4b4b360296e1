#ifndef GCRF_DNNL_DNNL_INNER_PRODUCT_LAYER_HPP_
#define GCRF_DNNL_DNNL_INNER_PRODUCT_LAYER_HPP_

#include <vector>

#include "caffe/layers/inner_product_layer.hpp"
#include "dnnl/dnnl_memory.hpp"

namespace caffe {

/**
 * @brief InnerProductLayer on oneDNN's kernels.
 *
 * The same blobs, parameters and results up to rounding.
 */
class DnnlInnerProductLayer : public InnerProductLayer<float> {
 public:
  explicit DnnlInnerProductLayer(const LayerParameter& param)
      : InnerProductLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  typedef dnnl::inner_product_forward::primitive_desc ForwardDesc;

  DnnlDesc BottomDesc() const;
  DnnlDesc TopDesc() const;
  /// Caffe's layout of the weights: outputs x inputs, or transposed.
  DnnlDesc WeightsDesc() const;
  DnnlDesc BiasDesc() const;
  ForwardDesc DescribeForward() const;
  const dnnl::memory& ReorderedWeights(
      const DnnlDesc& desc, DnnlWeights* weights);

  DnnlWeights forward_weights_, backward_weights_;
};

}  // namespace caffe

#endif  // GCRF_DNNL_DNNL_INNER_PRODUCT_LAYER_HPP_
