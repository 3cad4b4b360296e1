#ifndef GCRF_DNNL_SIMPLE_LAYERS_HPP_
#define GCRF_DNNL_SIMPLE_LAYERS_HPP_

#include <vector>

#include "caffe/layers/concat_layer.hpp"
#include "caffe/layers/dropout_layer.hpp"
#include "caffe/layers/eltwise_layer.hpp"
#include "caffe/layers/relu_layer.hpp"
#include "caffe/layers/split_layer.hpp"
#include "dnnl_memory.hpp"

/**
 * Caffe's own layers between those of the DNNL engine, on blobs in the engine's
 * layouts. They need no kernel of oneDNN: they treat all pixels and channels
 * alike, so that the same loop does for every layout.
 */
namespace caffe {

/// @brief ReLULayer, which a convolution may have done already.
class DnnlReLULayer : public ReLULayer<float> {
 public:
  explicit DnnlReLULayer(const LayerParameter& param)
      : ReLULayer<float>(param) {}

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);
};

/// @brief DropoutLayer, which leaves the blob alone when it has nothing to do.
class DnnlDropoutLayer : public DropoutLayer<float> {
 public:
  explicit DnnlDropoutLayer(const LayerParameter& param)
      : DropoutLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);
};

/// @brief SplitLayer, whose gradients are summed in the layout of the first.
class DnnlSplitLayer : public SplitLayer<float> {
 public:
  explicit DnnlSplitLayer(const LayerParameter& param)
      : SplitLayer<float>(param) {}

 protected:
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);
};

/// @brief EltwiseLayer, whose sums are in the layout of the first bottom.
class DnnlEltwiseLayer : public EltwiseLayer<float> {
 public:
  explicit DnnlEltwiseLayer(const LayerParameter& param)
      : EltwiseLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  float coefficient(int i) const {
    const EltwiseParameter& param = this->layer_param_.eltwise_param();
    return param.coeff_size() ? param.coeff(i) : 1.f;
  }
  bool is_sum() const {
    return this->layer_param_.eltwise_param().operation() ==
           EltwiseParameter_EltwiseOp_SUM;
  }
};

/// @brief ConcatLayer of channels, in a blocked layout where all bottoms are.
class DnnlConcatLayer : public ConcatLayer<float> {
 public:
  explicit DnnlConcatLayer(const LayerParameter& param)
      : ConcatLayer<float>(param) {}

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  /// Whether a bottom can be a run of whole blocks in a top of this layout.
  bool IsRun(const vector<Blob<float>*>& bottom, int block) const;
};

}  // namespace caffe

#endif  // GCRF_DNNL_SIMPLE_LAYERS_HPP_
