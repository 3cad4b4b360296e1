#include <opencv2/core.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmf_kernels.hpp"
#include "gmf_layer.hpp"
#include "neighbourhood.hpp"

namespace caffe {

template <typename Dtype>
void GMFLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const GMFParameter& param = this->layer_param_.gmf_param();
  CheckWindow(this->layer_param_.name(), "gmf_param", param.window());
  window_ = param.window();
  has_basis_ = false;
}

template <typename Dtype>
gmf::HalfStep GMFLayer<Dtype>::StepFor(const Blob<Dtype>& means) const {
  return gmf::HalfStep(means.num(), means.channels(), means.height(),
      means.width(), parity_, window_);
}

template <typename Dtype>
void GMFLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  const Blob<Dtype>& means = *bottom[0];
  CHECK_EQ(means.num_axes(), 4)
      << "Layer " << name << ": the means have shape " << means.shape_string()
      << ", expected N x K x H x W.";
  CHECK(bottom[1]->shape() == means.shape())
      << "Layer " << name << ": the unary has shape "
      << bottom[1]->shape_string() << ", expected the means' shape, "
      << means.shape_string() << ". Bottoms are mu, r, s, C in this order.";
  const Blob<Dtype>& similarities = *bottom[2];
  CHECK(similarities.num_axes() == 4 && similarities.num() == means.num() &&
        similarities.height() == means.height() &&
        similarities.width() == means.width())
      << "Layer " << name << ": the similarities have shape "
      << similarities.shape_string() << ", expected N x P x H x W with the N, "
      << "H and W of the means, " << means.shape_string()
      << ". Make them from features of the same grid.";
  CheckPairChannels(name, "gmf_param", window_, similarities.channels());
  const int classes = means.channels();
  CHECK(bottom[3]->shape() == vector<int>(2, classes))
      << "Layer " << name << ": the compatibility has shape "
      << bottom[3]->shape_string()
      << ", expected K x K for the means' K = " << classes
      << ". Set matrix_gen_param { num_classes: " << classes << " }.";
  for (int i = 0; i < 4; ++i) {
    CHECK_NE(top[0], bottom[i])
        << "Layer " << name << ": works in place on bottom " << i
        << ", expected a top of its own. Give the top another name.";
  }
  top[0]->ReshapeLike(means);
  const gmf::HalfStep step = StepFor(means);
  kept_means_.Reshape(step.num, step.height, classes + 1, step.stride);
  messages_.Reshape(step.num, step.height, classes + 1, step.half);
  weighted_.ReshapeLike(kept_means_);
  residuals_.Reshape(2, classes, step.num * step.height, step.half);

  const int half = (means.width() + 1 - parity_) / 2;
  degrees_.Reshape({means.num(), means.height(), half});
  for (Blob<Dtype>* blob : {&gpu_residuals_, &gathered_, &rotated_, &solved_}) {
    blob->Reshape({classes, means.num(), means.height(), half});
  }
  has_basis_ = has_basis_ && gpu_basis_.shape() == bottom[3]->shape();
  gpu_compatibility_.ReshapeLike(*bottom[3]);
  gpu_basis_.ReshapeLike(*bottom[3]);
  gpu_eigenvalues_.Reshape({classes});
  gpu_products_.ReshapeLike(*bottom[3]);
  gpu_scratch_.Reshape({2, classes, classes});
  rotations_.Reshape({(classes + 1) / 2, 2});
  report_.Reshape({4});
}

template <typename Dtype>
void GMFLayer<Dtype>::RejectValue(Dtype value, int k, int l) const {
  LOG(FATAL) << "Layer " << this->layer_param_.name()
             << ": the compatibility holds " << value << " at (" << k << ", "
             << l << "), expected finite numbers. Training has diverged: lower "
             << "the learning rate, or set clip_gradients in the solver.";
}

template <typename Dtype>
void GMFLayer<Dtype>::RejectEigenvalue(Dtype value) const {
  LOG(FATAL) << "Layer " << this->layer_param_.name()
             << ": the compatibility has the eigenvalue " << value
             << ", expected none below 0. Take C = R R' from a MatrixGen "
             << "layer.";
}

template <typename Dtype>
void GMFLayer<Dtype>::CheckReport() const {
  const Dtype* const found = report_.cpu_data();
  if (found[0] == 1) { RejectValue(found[1], found[2], found[3]); }
  if (found[0] == 2) { RejectEigenvalue(found[1]); }
}

template <typename Dtype>
void GMFLayer<Dtype>::Diagonalise(const Blob<Dtype>& compatibility) {
  const Dtype* const C = compatibility.cpu_data();
  const int classes = compatibility.shape(0), count = compatibility.count();
  if (compatibility_.size() == count &&
      std::equal(C, C + count, compatibility_.begin())) {
    return;
  }
  cv::Mat1d symmetric(classes, classes), values, vectors;
  for (int k = 0; k < classes; ++k) {
    for (int l = 0; l < classes; ++l) {
      if (!std::isfinite(C[k * classes + l])) {
        RejectValue(C[k * classes + l], k, l);
      }
      symmetric(k, l) =
          (static_cast<double>(C[k * classes + l]) + C[l * classes + k]) / 2;
    }
  }
  // OpenCV's solver and not LAPACK's: OpenBLAS wakes all threads for each of
  // the many products of a K x K matrix, which takes longer than the work.
  CHECK(cv::eigen(symmetric, values, vectors))  // descending, in rows
      << "Layer " << this->layer_param_.name()
      << ": no eigenvalues found for the compatibility.";
  // Rounding makes the zero eigenvalues of a singular R R' slightly negative.
  const double rounding =
      classes * values(0) * std::numeric_limits<Dtype>::epsilon();
  if (values(classes - 1) < -rounding) {
    RejectEigenvalue(values(classes - 1));
  }
  compatibility_.assign(C, C + count);
  eigenvalues_.resize(classes);
  basis_.resize(count);
  basis_transposed_.resize(count);
  for (int k = 0; k < classes; ++k) {
    eigenvalues_[k] = std::max(values(k), 0.);
    for (int l = 0; l < classes; ++l) {
      basis_transposed_[k * classes + l] = vectors(k, l);
      basis_[l * classes + k] = vectors(k, l);
    }
  }
}

template <typename Dtype>
void GMFLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  Diagonalise(*bottom[3]);
  gmf::Forward<Dtype>{StepFor(*bottom[0]),
      {basis_.data(), basis_transposed_.data(), eigenvalues_.data()},
      bottom[0]->cpu_data(), bottom[1]->cpu_data(), bottom[2]->cpu_data(),
      kept_means_.mutable_cpu_data(), messages_.mutable_cpu_data(),
      top[0]->mutable_cpu_data()}
      .Run();
}

template <typename Dtype>
void GMFLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  const gmf::HalfStep step = StepFor(*bottom[0]);
  gmf::BackwardUpdate<Dtype>{step,
      {basis_.data(), basis_transposed_.data(), eigenvalues_.data()},
      messages_.cpu_data(), top[0]->cpu_data(), top[0]->cpu_diff(),
      weighted_.mutable_cpu_data(), residuals_.mutable_cpu_data(),
      propagate_down[1] ? bottom[1]->mutable_cpu_diff() : NULL}
      .Run();
  if (propagate_down[0]) {
    gmf::BackwardMeans<Dtype>{step, bottom[2]->cpu_data(), weighted_.cpu_data(),
        top[0]->cpu_diff(), bottom[0]->mutable_cpu_diff()}
        .Run();
  }
  if (propagate_down[2]) {
    gmf::BackwardSimilarities<Dtype>{step, kept_means_.cpu_data(),
        weighted_.cpu_data(), bottom[2]->mutable_cpu_diff()}
        .Run();
  }
  if (propagate_down[3]) {
    gmf::BackwardCompatibility<Dtype>{
        step, residuals_.cpu_data(), bottom[3]->mutable_cpu_diff()}
        .Run();
  }
}

#ifdef CPU_ONLY
template <typename Dtype>
void GMFLayer<Dtype>::ApplyOperator(const Blob<Dtype>&, Blob<Dtype>*) {
  NO_GPU;
}
STUB_GPU(GMFLayer);
#endif

template class GMFLayer<float>;
template class GMFLayer<double>;
INSTANTIATE_CLASS(GMFEvenLayer);
INSTANTIATE_CLASS(GMFOddLayer);
REGISTER_LAYER_CLASS(GMFEven);
REGISTER_LAYER_CLASS(GMFOdd);

}  // namespace caffe
