#ifndef STRUCT_BLOB_HPP_
#define STRUCT_BLOB_HPP_

#include "caffe/common.hpp"
#include "caffe/syncedmem.hpp"

namespace caffe {

/// What Blob is for numbers, for plain structs. Its memory starts as zeros.
template <typename T>
class StructBlob {
 public:
  void Reshape(int count) {
    const size_t size = count * sizeof(T);
    if (!memory_ || memory_->size() < size) {
      memory_.reset(new SyncedMemory(size));
    }
  }
  T* mutable_cpu_data() { return static_cast<T*>(memory_->mutable_cpu_data()); }
  T* mutable_gpu_data() { return static_cast<T*>(memory_->mutable_gpu_data()); }

 private:
  shared_ptr<SyncedMemory> memory_;
};

/**
 * @brief A struct in which a kernel says what is wrong with a layer's input.
 *
 * To wait for the GPU within a pass would cost more than the layer does, so the
 * pass's results are NaN, and the layer's next pass stops with the reason. Both
 * sides use the CPU's memory, which the GPU reaches because Caffe locks the
 * pages in GPU mode. The kernel fills in the member that says so last, after a
 * __threadfence_system().
 */
template <typename T>
class GpuReport {
 public:
  GpuReport() { struct_.Reshape(1); }
  /// For the kernel and the CPU.
  T* get() { return struct_.mutable_cpu_data(); }

 private:
  StructBlob<T> struct_;
};

}  // namespace caffe

#endif  // STRUCT_BLOB_HPP_
