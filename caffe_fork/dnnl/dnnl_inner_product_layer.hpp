#ifndef GCRF_DNNL_INNER_PRODUCT_LAYER_HPP_
#define GCRF_DNNL_INNER_PRODUCT_LAYER_HPP_

#include <vector>

#include "caffe/layers/inner_product_layer.hpp"
#include "dnnl_memory.hpp"

namespace caffe {

/**
 * @brief InnerProductLayer on oneDNN's kernel, which wants the weights in a
 *        layout of its own.
 *
 * The same blobs, parameters and results up to rounding. In the TRAIN phase the
 * weights change in every step, and to reorder them takes longer than the
 * kernel saves; Backward is as fast in the BLAS: see docs/performance.md.
 */
class DnnlInnerProductLayer : public InnerProductLayer<float> {
 public:
  explicit DnnlInnerProductLayer(const LayerParameter& param)
      : InnerProductLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);

 private:
  const dnnl::memory& ReorderedWeights(const DnnlDesc& desc);

  DnnlWeights weights_;
};

}  // namespace caffe

#endif  // GCRF_DNNL_INNER_PRODUCT_LAYER_HPP_
