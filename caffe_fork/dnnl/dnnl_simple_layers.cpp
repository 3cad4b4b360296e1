#include "dnnl_simple_layers.hpp"

#include <algorithm>
#include <vector>

namespace caffe {

namespace {

size_t Count(const DnnlDesc& desc) { return desc.get_size() / sizeof(float); }

/// to = sum of coefficients[i] * the blob from[i], in the first one's layout.
void Sum(const vector<shared_ptr<SyncedMemory> >& from,
    const vector<float>& coefficients, const vector<int>& shape,
    const shared_ptr<SyncedMemory>& to) {
  const DnnlDesc desc = DnnlInput(from[0], shape).desc();
  const size_t count = Count(desc);
  DnnlOutput output(to, desc);
  float* sum = output.data();
  for (size_t i = 0; i < from.size(); ++i) {
    const DnnlInput input(from[i], shape, desc);
    const float* x = input.data();
    const float coefficient = coefficients[i];
    if (i == 0) {
#pragma omp parallel for simd
      for (size_t j = 0; j < count; ++j) { sum[j] = coefficient * x[j]; }
    } else {
#pragma omp parallel for simd
      for (size_t j = 0; j < count; ++j) { sum[j] += coefficient * x[j]; }
    }
  }
  output.Finish();
}

void Rectify(size_t count, float slope, const float* x, float* y) {
#pragma omp parallel for simd
  for (size_t i = 0; i < count; ++i) {
    y[i] = std::max(x[i], 0.f) + slope * std::min(x[i], 0.f);
  }
}

}  // namespace

void DnnlReLULayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  const float slope = this->layer_param_.relu_param().negative_slope();
  const vector<int>& shape = bottom[0]->shape();
  if (bottom[0] != top[0]) {
    const DnnlInput input(bottom[0]->data(), shape);
    DnnlOutput output(top[0]->data(), input.desc());
    Rectify(Count(input.desc()), slope, input.data(), output.data());
    output.Finish();
    return;
  }
  const shared_ptr<DnnlMemory> memory =
      FindDnnlMemory(bottom[0]->data(), shape);
  if (!memory) {
    float* data = top[0]->mutable_cpu_data();
    Rectify(top[0]->count(), slope, data, data);
  } else if (!memory->rectified() || slope != 0) {
    Rectify(memory->count(), slope, memory->data(), memory->data());
    top[0]->data()->set_private_data(memory);
  }
}

void DnnlReLULayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (!propagate_down[0]) { return; }
  const float slope = this->layer_param_.relu_param().negative_slope();
  const DnnlInput data(bottom[0]->data(), bottom[0]->shape());
  const size_t count = Count(data.desc());
  const float* x = data.data();
  const auto propagate = [&](const float* top_diff, float* bottom_diff) {
#pragma omp parallel for simd
    for (size_t i = 0; i < count; ++i) {
      bottom_diff[i] = top_diff[i] * (x[i] > 0 ? 1.f : slope);
    }
  };
  const shared_ptr<DnnlMemory> diff =
      FindDnnlMemory(top[0]->diff(), top[0]->shape());
  if (bottom[0] == top[0] && diff && diff->memory().get_desc() == data.desc()) {
    propagate(diff->data(), diff->data());
    bottom[0]->diff()->set_private_data(diff);
    return;
  }
  const DnnlInput top_diff(top[0]->diff(), top[0]->shape(), data.desc());
  if (bottom[0] == top[0] && ChannelBlock(data.desc()) == 1) {
    float* bottom_diff = bottom[0]->mutable_cpu_diff();
    propagate(bottom_diff, bottom_diff);
    return;
  }
  DnnlOutput bottom_diff(bottom[0]->diff(), data.desc());
  propagate(top_diff.data(), bottom_diff.data());
  bottom_diff.Finish();
}

void DnnlDropoutLayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  if (this->phase_ == TRAIN || bottom[0] != top[0]) {
    DropoutLayer<float>::Forward_cpu(bottom, top);
  }
}

void DnnlDropoutLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (this->phase_ == TRAIN || bottom[0] != top[0]) {
    DropoutLayer<float>::Backward_cpu(top, propagate_down, bottom);
  }
}

void DnnlSplitLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (!propagate_down[0]) { return; }
  vector<shared_ptr<SyncedMemory> > diffs;
  for (const Blob<float>* blob : top) { diffs.push_back(blob->diff()); }
  Sum(diffs, vector<float>(top.size(), 1), bottom[0]->shape(),
      bottom[0]->diff());
}

void DnnlEltwiseLayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  if (!is_sum()) {
    EltwiseLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  vector<shared_ptr<SyncedMemory> > data;
  vector<float> coefficients;
  for (size_t i = 0; i < bottom.size(); ++i) {
    data.push_back(bottom[i]->data());
    coefficients.push_back(coefficient(i));
  }
  Sum(data, coefficients, top[0]->shape(), top[0]->data());
}

void DnnlEltwiseLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (!is_sum()) {
    EltwiseLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  for (size_t i = 0; i < bottom.size(); ++i) {
    if (!propagate_down[i]) { continue; }
    Sum({top[0]->diff()}, {coefficient(i)}, top[0]->shape(), bottom[i]->diff());
  }
}

bool DnnlConcatLayer::IsRun(
    const vector<Blob<float>*>& bottom, int block) const {
  if (this->concat_axis_ != 1 || block <= 1) { return false; }
  for (const Blob<float>* blob : bottom) {
    if (blob->shape(1) % block) { return false; }
  }
  return true;
}

void DnnlConcatLayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  const DnnlDesc first =
      DnnlInput(bottom[0]->data(), bottom[0]->shape()).desc();
  const int block = ChannelBlock(first);
  if (bottom.size() == 1 || !IsRun(bottom, block)) {
    ConcatLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  DnnlOutput output(
      top[0]->data(), BlockedDesc(BlobDims(top[0]->shape()), block));
  size_t begin = 0;
  for (const Blob<float>* blob : bottom) {
    const DnnlInput input(blob->data(), blob->shape(),
        BlockedDesc(BlobDims(blob->shape()), block));
    for (int n = 0; n < this->num_concats_; ++n) {
      ParallelCopy(blob->count(1), input.data() + n * blob->count(1),
          output.data() + begin + n * top[0]->count(1));
    }
    begin += blob->count(1);
  }
  output.Finish();
}

void DnnlConcatLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  const DnnlInput top_diff(top[0]->diff(), top[0]->shape());
  const int block = ChannelBlock(top_diff.desc());
  if (bottom.size() == 1 || !IsRun(bottom, block)) {
    ConcatLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  size_t begin = 0;
  for (size_t i = 0; i < bottom.size(); ++i) {
    const size_t count = bottom[i]->count(1);
    if (propagate_down[i]) {
      DnnlOutput bottom_diff(
          bottom[i]->diff(), BlockedDesc(BlobDims(bottom[i]->shape()), block));
      for (int n = 0; n < this->num_concats_; ++n) {
        ParallelCopy(count, top_diff.data() + begin + n * top[0]->count(1),
            bottom_diff.data() + n * count);
      }
      bottom_diff.Finish();
    }
    begin += count;
  }
}

}  // namespace caffe
