// One layer, or a whole net, on blobs that the caller fills: float or double,
// forward and backward, with a new input size at any time. layer_runner.py
// loads it, because pycaffe knows only float and only nets.

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/net.hpp"

namespace {

using caffe::Blob;
using std::string;
using std::vector;

const int kMaxAxes = 32;  // as in caffe/blob.hpp

// Where a blob's values lie, until its next Reshape.
struct BlobView {
  int num_axes;
  int shape[kMaxAxes];
  void* data;
  void* diff;
};

class Runner {
 public:
  virtual ~Runner() {}
  virtual bool View(const string& name, BlobView* view) = 0;
  virtual void Reshape(const string& name, const vector<int>& shape) = 0;
  virtual void Forward() = 0;
  virtual void Backward(const vector<bool>& propagate_down) = 0;
};

template <typename Dtype>
class TypedRunner : public Runner {
 public:
  bool View(const string& name, BlobView* view) override {
    Blob<Dtype>* blob = Find(name);
    if (!blob) { return false; }
    view->num_axes = blob->num_axes();
    std::copy(blob->shape().begin(), blob->shape().end(), view->shape);
    blob->data()->keep_cpu_data();  // the caller keeps the pointers
    blob->diff()->keep_cpu_data();
    view->data = blob->mutable_cpu_data();
    view->diff = blob->mutable_cpu_diff();
    return true;
  }

  void Reshape(const string& name, const vector<int>& shape) override {
    Find(name)->Reshape(shape);
  }

 private:
  virtual Blob<Dtype>* Find(const string& name) = 0;
};

// The blobs are named bottom0, bottom1, ..., top0, ..., param0, ...
template <typename Dtype>
class LayerRunner : public TypedRunner<Dtype> {
 public:
  LayerRunner(const caffe::LayerParameter& param, int num_bottoms, int num_tops)
      : layer_(caffe::LayerRegistry<Dtype>::CreateLayer(param)),
        bottoms_(num_bottoms),
        tops_(num_tops) {
    for (auto& blob : bottoms_) { bottom_.push_back(&blob); }
    for (auto& blob : tops_) { top_.push_back(&blob); }
  }

  void Forward() override {
    if (!is_set_up_) { layer_->SetUp(bottom_, top_); }
    is_set_up_ = true;
    layer_->Forward(bottom_, top_);
  }

  void Backward(const vector<bool>& propagate_down) override {
    layer_->Backward(top_, propagate_down, bottom_);
  }

 private:
  Blob<Dtype>* Find(const string& name) override {
    for (size_t i = 0; i < bottoms_.size(); ++i) {
      if (name == "bottom" + std::to_string(i)) { return bottom_[i]; }
    }
    for (size_t i = 0; i < tops_.size(); ++i) {
      if (name == "top" + std::to_string(i)) { return top_[i]; }
    }
    for (size_t i = 0; i < layer_->blobs().size(); ++i) {
      if (name == "param" + std::to_string(i)) {
        return layer_->blobs()[i].get();
      }
    }
    return nullptr;
  }

  boost::shared_ptr<caffe::Layer<Dtype>> layer_;
  vector<Blob<Dtype>> bottoms_, tops_;
  vector<Blob<Dtype>*> bottom_, top_;
  bool is_set_up_ = false;
};

// The blobs have the net's names; a layer's first parameter blob has the
// layer's name with ".param" after it.
template <typename Dtype>
class NetRunner : public TypedRunner<Dtype> {
 public:
  explicit NetRunner(const caffe::NetParameter& param) : net_(param) {}

  void Forward() override { net_.Forward(); }

  void Backward(const vector<bool>& propagate_down) override {
    net_.ClearParamDiffs();
    net_.Backward();
  }

 private:
  Blob<Dtype>* Find(const string& name) override {
    if (net_.has_blob(name)) { return net_.blob_by_name(name).get(); }
    const string layer = name.substr(0, name.rfind(".param"));
    if (layer != name && net_.has_layer(layer)) {
      return net_.layer_by_name(layer)->blobs()[0].get();
    }
    return nullptr;
  }

  caffe::Net<Dtype> net_;
};

}  // namespace

// For ctypes. The new_... functions return null for text that cannot be
// parsed, having said why on standard error.
extern "C" {

Runner* new_layer(
    const char* text, int num_bottoms, int num_tops, bool is_double) {
  caffe::LayerParameter param;
  if (!google::protobuf::TextFormat::ParseFromString(text, &param)) {
    return nullptr;
  }
  if (is_double) {
    return new LayerRunner<double>(param, num_bottoms, num_tops);
  }
  return new LayerRunner<float>(param, num_bottoms, num_tops);
}

Runner* new_net(const char* text, bool is_double) {
  caffe::NetParameter param;
  if (!google::protobuf::TextFormat::ParseFromString(text, &param)) {
    return nullptr;
  }
  if (is_double) { return new NetRunner<double>(param); }
  return new NetRunner<float>(param);
}

void delete_runner(Runner* runner) { delete runner; }

bool view_blob(Runner* runner, const char* name, BlobView* view) {
  return runner->View(name, view);
}

void reshape_blob(
    Runner* runner, const char* name, int num_axes, const int* shape) {
  runner->Reshape(name, vector<int>(shape, shape + num_axes));
}

void forward(Runner* runner) { runner->Forward(); }

void backward(Runner* runner, int num_bottoms, const bool* propagate_down) {
  runner->Backward(vector<bool>(propagate_down, propagate_down + num_bottoms));
}

}  // extern "C"
