#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/util/math_functions.hpp"
#include "gmf_kernels.hpp"
#include "gmf_layer.hpp"
#include "neighbourhood.hpp"

// LAPACK, part of every BLAS that Caffe is built with: eigenvalues, ascending,
// into w and eigenvectors into the rows of a (its columns, in Fortran order).
extern "C" void dsyev_(const char* jobz, const char* uplo, const int* n,
    double* a, const int* lda, double* w, double* work, const int* lwork,
    int* info);

namespace caffe {

template <typename Dtype>
void GMFLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  window_ = this->layer_param_.gmf_param().window();
  CheckWindow(this->layer_param_.name(), "gmf_param", window_);
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
      << bottom[3]->shape_string() << ", expected K x K for the means' K = "
      << classes << ". Set matrix_gen_param { num_classes: " << classes
      << " }.";
  for (int i = 0; i < 4; ++i) {
    CHECK_NE(top[0], bottom[i])
        << "Layer " << name << ": works in place on bottom " << i
        << ", expected a top of its own. Give the top another name.";
  }
  top[0]->ReshapeLike(means);
  const gmf::HalfStep step(means.num(), classes, means.height(), means.width(),
      parity_, window_);
  kept_means_.Reshape(step.num, step.height, classes + 1, step.stride);
  messages_.Reshape(step.num, step.height, classes + 1, step.half);
  weighted_.ReshapeLike(kept_means_);
  residuals_.Reshape(2, classes, step.num * step.height, step.half);
}

template <typename Dtype>
void GMFLayer<Dtype>::Diagonalise(const Blob<Dtype>& compatibility) {
  const Dtype* const C = compatibility.cpu_data();
  const int classes = compatibility.shape(0), count = compatibility.count();
  if (compatibility_.size() == count &&
      std::equal(C, C + count, compatibility_.begin())) {
    return;
  }
  const string& name = this->layer_param_.name();
  vector<double> vectors(count), values(classes);
  for (int k = 0; k < classes; ++k) {
    for (int l = 0; l < classes; ++l) {
      const double sum = C[k * classes + l] + C[l * classes + k];
      CHECK(std::isfinite(sum))
          << "Layer " << name << ": the compatibility holds "
          << C[k * classes + l] << " at (" << k << ", " << l
          << "), expected finite numbers. Training has diverged: lower the "
          << "learning rate, or clip_gradients.";
      vectors[k * classes + l] = sum / 2;
    }
  }
  const int work_size = 34 * classes;  // LAPACK's block size is at most 32
  vector<double> work(work_size);
  int info;
  dsyev_("V", "U", &classes, vectors.data(), &classes, values.data(),
      work.data(), &work_size, &info);
  CHECK_EQ(info, 0) << "Layer " << name << ": no eigenvalues were found for "
                    << "the compatibility (LAPACK's dsyev: " << info << ").";
  // Rounding makes the zero eigenvalues of a singular R R' slightly negative.
  const double rounding = classes * values.back() *
                          std::numeric_limits<Dtype>::epsilon();
  CHECK_GE(values.front(), -rounding)
      << "Layer " << name << ": the compatibility has the eigenvalue "
      << values.front() << ", expected none below 0. Take C = R R' from a "
      << "MatrixGen layer.";
  compatibility_.assign(C, C + count);
  eigenvalues_.assign(classes, 0);
  basis_.resize(count);
  basis_transposed_.assign(vectors.begin(), vectors.end());
  for (int k = 0; k < classes; ++k) {
    eigenvalues_[k] = std::max(values[k], 0.);
    for (int l = 0; l < classes; ++l) {
      basis_[l * classes + k] = vectors[k * classes + l];
    }
  }
}

template <typename Dtype>
void GMFLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  Diagonalise(*bottom[3]);
  const gmf::HalfStep step(bottom[0]->num(), bottom[0]->channels(),
      bottom[0]->height(), bottom[0]->width(), parity_, window_);
  const gmf::Eigenbasis<Dtype> compatibility = {
      basis_.data(), basis_transposed_.data(), eigenvalues_.data()};
  gmf::Forward(step, compatibility, bottom[0]->cpu_data(),
      bottom[1]->cpu_data(), bottom[2]->cpu_data(),
      kept_means_.mutable_cpu_data(), messages_.mutable_cpu_data(),
      top[0]->mutable_cpu_data());
}

template <typename Dtype>
void GMFLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  const gmf::HalfStep step(bottom[0]->num(), bottom[0]->channels(),
      bottom[0]->height(), bottom[0]->width(), parity_, window_);
  const gmf::Eigenbasis<Dtype> compatibility = {
      basis_.data(), basis_transposed_.data(), eigenvalues_.data()};
  gmf::BackwardUpdate(step, compatibility, messages_.cpu_data(),
      top[0]->cpu_data(), top[0]->cpu_diff(), weighted_.mutable_cpu_data(),
      residuals_.mutable_cpu_data(),
      propagate_down[1] ? bottom[1]->mutable_cpu_diff() : NULL);
  if (propagate_down[0]) {
    gmf::BackwardMeans(step, bottom[2]->cpu_data(), weighted_.cpu_data(),
        top[0]->cpu_diff(), bottom[0]->mutable_cpu_diff());
  }
  if (propagate_down[2]) {
    gmf::BackwardSimilarities(step, kept_means_.cpu_data(),
        weighted_.cpu_data(), bottom[2]->mutable_cpu_diff());
  }
  if (propagate_down[3]) {
    const int classes = step.channels, columns = residuals_.count(2);
    const Dtype* const q = residuals_.cpu_data();
    Dtype* const C_diff = bottom[3]->mutable_cpu_diff();
    caffe_cpu_gemm(CblasNoTrans, CblasTrans, classes, classes, columns,
        Dtype(1), q, q + classes * columns, Dtype(0), C_diff);
    for (int k = 0; k < classes; ++k) {
      for (int l = 0; l < k; ++l) {
        Dtype& lower = C_diff[k * classes + l];
        Dtype& upper = C_diff[l * classes + k];
        lower = upper = (lower + upper) / 2;
      }
    }
  }
}

template class GMFLayer<float>;
template class GMFLayer<double>;
INSTANTIATE_CLASS(GMFEvenLayer);
INSTANTIATE_CLASS(GMFOddLayer);
REGISTER_LAYER_CLASS(GMFEven);
REGISTER_LAYER_CLASS(GMFOdd);

}  // namespace caffe
