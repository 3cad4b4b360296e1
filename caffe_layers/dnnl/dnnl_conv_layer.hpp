#ifndef GCRF_DNNL_DNNL_CONV_LAYER_HPP_
#define GCRF_DNNL_DNNL_CONV_LAYER_HPP_

#include <vector>

#include "caffe/layers/conv_layer.hpp"
#include "dnnl/dnnl_memory.hpp"

namespace caffe {

/**
 * @brief ConvolutionLayer on oneDNN's kernels.
 *
 * The same blobs, parameters and results up to rounding, without a column
 * buffer. In the TEST phase each shape is computed by the fastest of these, as
 * timed in its first forward pass; the TRAIN phase always uses the first, which
 * rounds least:
 *   - direct convolution;
 *   - Winograd's algorithm, for 3 x 3 kernels without stride;
 *   - where dilated, the same over the d x d phases of the image: the pixels
 *     (y, x) of equal y % d and x % d are a smaller image, under a convolution
 *     that is not dilated.
 * An in-place ReLU that follows in the net is part of the forward pass.
 *
 * Where oneDNN has no fast kernel, the layer is Caffe's own, and says so.
 */
class DnnlConvolutionLayer : public ConvolutionLayer<float> {
 public:
  explicit DnnlConvolutionLayer(const LayerParameter& param)
      : ConvolutionLayer<float>(param), fuse_relu_(false), use_caffe_(false) {}
  virtual void Reshape(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void set_fuse_relu(const bool fuse) { fuse_relu_ = fuse; }

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  typedef dnnl::convolution_forward::primitive_desc ForwardDesc;

  struct Geometry {
    DnnlDims bottom, weights, bias, top, strides, dilations, pads;
  };

  struct ForwardKernel {
    ForwardDesc desc;
    int phases;  // d: the image is split into d x d; 1: it is whole
  };

  ForwardDesc DescribeForward(const Geometry& geometry, dnnl::prop_kind kind,
      dnnl::algorithm algorithm, bool fuse_relu) const;
  ForwardKernel MakeForward(int phases, dnnl::algorithm algorithm) const;
  const ForwardKernel& Forward();
  /// Winograd's algorithm, of the image or its phases; none where it is not
  /// for this convolution.
  shared_ptr<ForwardKernel> MakeWinograd() const;
  shared_ptr<ForwardKernel> ChooseForward() const;
  /// The layouts of the blobs: phases are taken of an image in blocks.
  DnnlDesc BottomDesc(const ForwardKernel& kernel) const;
  DnnlDesc TopDesc(const ForwardKernel& kernel) const;
  void RunForward(const ForwardKernel& kernel, const dnnl::memory& weights,
      const dnnl::memory& bias, const dnnl::memory& bottom,
      const dnnl::memory& top) const;
  double Milliseconds(const ForwardKernel& kernel) const;
  void MakeBackward();
  /// The gradient of the bottom as a convolution of the top's gradient with
  /// mirrored weights; none where oneDNN has no direct kernel for that either.
  shared_ptr<ForwardDesc> DescribeMirrored() const;
  shared_ptr<DnnlMemory> MirroredWeights() const;
  const dnnl::memory& ReorderedWeights(
      const DnnlDesc& desc, DnnlWeights* weights, bool mirror);
  dnnl::memory Bias() const;
  void AddToDiff(const dnnl::memory& diff, Blob<float>* blob);

  Geometry geometry_;
  bool fuse_relu_;
  bool use_caffe_;
  shared_ptr<ForwardKernel> forward_[2];  // without and with ReLU
  DnnlWeights forward_weights_;
  shared_ptr<dnnl::convolution_backward_data::primitive_desc> backward_data_;
  shared_ptr<dnnl::convolution_backward_weights::primitive_desc>
      backward_weights_;
  shared_ptr<ForwardDesc> mirrored_;  // instead of backward_data_
  DnnlWeights backward_data_weights_;
};

}  // namespace caffe

#endif  // GCRF_DNNL_DNNL_CONV_LAYER_HPP_
