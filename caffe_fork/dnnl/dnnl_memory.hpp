#ifndef GCRF_DNNL_MEMORY_HPP_
#define GCRF_DNNL_MEMORY_HPP_

#include <dnnl.hpp>

#include <cstddef>
#include <functional>
#include <unordered_map>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/syncedmem.hpp"

/**
 * What the layers of the DNNL engine share: oneDNN's objects, memory in its
 * layouts, and the way from and to a blob.
 *
 * A layer asks oneDNN which layouts its kernels like best. It writes a blob in
 * such a layout, as the private data of the blob's SyncedMemory; the next layer
 * of the engine reads it as it is, and anybody else sees Caffe's layout, since
 * SyncedMemory converts it on access.
 */
namespace caffe {

typedef dnnl::memory::desc DnnlDesc;
typedef dnnl::memory::dims DnnlDims;

dnnl::engine& DnnlEngine();
dnnl::stream& DnnlStream();

/// Caffe's layout: rows of the last axis, one after the other.
DnnlDesc PlainDesc(const DnnlDims& dims);
/// Any layout that a kernel likes.
DnnlDesc AnyDesc(const DnnlDims& dims);
/// Rows of blocks of 8 or 16 channels, (N, C / block, H, W, block).
DnnlDesc BlockedDesc(const DnnlDims& dims, int block);
DnnlDims Dims(const DnnlDesc& desc);
DnnlDims BlobDims(const vector<int>& shape);
/// The attributes of all kernels: Run gives them their scratch memory.
dnnl::primitive_attr DnnlAttributes();

/// Describe a kernel by the arguments of oneDNN 3's primitive_desc, without
/// engine and attributes; oneDNN 2 takes them by way of a `desc`. Throws
/// dnnl::error where oneDNN has no such kernel.
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl::pooling_forward DnnlPoolingForward;
typedef dnnl::pooling_backward DnnlPoolingBackward;
template <typename Primitive, typename... Arguments>
typename Primitive::primitive_desc Describe(
    const dnnl::primitive_attr& attributes, const Arguments&... arguments) {
  return typename Primitive::primitive_desc(
      DnnlEngine(), arguments..., attributes);
}
template <typename Primitive, typename Forward, typename... Arguments>
typename Primitive::primitive_desc DescribeBackward(
    const Forward& forward, const Arguments&... arguments) {
  return typename Primitive::primitive_desc(
      DnnlEngine(), arguments..., forward, DnnlAttributes());
}
#else
typedef dnnl::pooling_v2_forward DnnlPoolingForward;
typedef dnnl::pooling_v2_backward DnnlPoolingBackward;
template <typename Primitive, typename... Arguments>
typename Primitive::primitive_desc Describe(
    const dnnl::primitive_attr& attributes, const Arguments&... arguments) {
  return typename Primitive::primitive_desc(
      typename Primitive::desc(arguments...), attributes, DnnlEngine());
}
template <typename Primitive, typename Forward, typename... Arguments>
typename Primitive::primitive_desc DescribeBackward(
    const Forward& forward, const Arguments&... arguments) {
  return
      typename Primitive::primitive_desc(typename Primitive::desc(arguments...),
          DnnlAttributes(), DnnlEngine(), forward);
}
#endif

/// Memory in one of oneDNN's layouts, from a pool that all layers share.
class DnnlMemory : public PrivateMemory {
 public:
  explicit DnnlMemory(const DnnlDesc& desc);
  ~DnnlMemory();
  virtual void CopyToCPU(void* cpu_data);

  const dnnl::memory& memory() const { return memory_; }
  float* data() const { return static_cast<float*>(buffer_); }
  /// With the padding of channels to a multiple of the block, which is zero.
  size_t count() const { return count_; }

  /// Whether a ReLU was applied already.
  bool rectified() const { return rectified_; }
  void set_rectified() { rectified_ = true; }

 private:
  size_t count_;
  void* buffer_;
  dnnl::memory memory_;
  bool rectified_;

  DISABLE_COPY_AND_ASSIGN(DnnlMemory);
};

typedef std::unordered_map<int, dnnl::memory> DnnlArguments;

/// Run a kernel, and wait for it. oneDNN keeps what it has compiled.
template <typename Primitive>
void Run(
    const typename Primitive::primitive_desc& desc, DnnlArguments arguments) {
  // From the pool; oneDNN itself would keep it for each kernel.
  const DnnlMemory scratch(desc.scratchpad_desc());
  arguments.insert({DNNL_ARG_SCRATCHPAD, scratch.memory()});
  Primitive(desc).execute(DnnlStream(), arguments);
  DnnlStream().wait();
}

/// Convert from one layout to the other.
void Reorder(const dnnl::memory& from, const dnnl::memory& to);
/// Add to a blob's diff, which is in the layout `desc`.
void AddToDiff(
    const dnnl::memory& diff, const DnnlDesc& desc, Blob<float>* blob);

/// The private data of a blob's data or diff, where a DNNL layer wrote it and
/// the blob has the same shape still; or NULL.
shared_ptr<DnnlMemory> FindDnnlMemory(
    const shared_ptr<SyncedMemory>& synced, const vector<int>& shape);

/// The contents of a blob's data or diff.
class DnnlInput {
 public:
  /// In the layout that they have.
  DnnlInput(const shared_ptr<SyncedMemory>& from, const vector<int>& shape);
  /// In this layout.
  DnnlInput(const shared_ptr<SyncedMemory>& from, const vector<int>& shape,
      const DnnlDesc& desc);

  const dnnl::memory& memory() const { return memory_; }
  DnnlDesc desc() const { return memory_.get_desc(); }
  const float* data() const {
    return static_cast<const float*>(memory_.get_data_handle());
  }

 private:
  dnnl::memory memory_;
  shared_ptr<DnnlMemory> converted_;
};

/// New contents of a blob's data or diff, in this layout.
class DnnlOutput {
 public:
  DnnlOutput(const shared_ptr<SyncedMemory>& to, const DnnlDesc& desc);
  const dnnl::memory& memory() const { return memory_; }
  float* data() const { return static_cast<float*>(memory_.get_data_handle()); }
  /// To be called when the contents are written.
  void Finish();
  void FinishRectified();

 private:
  shared_ptr<SyncedMemory> to_;
  dnnl::memory memory_;
  shared_ptr<DnnlMemory> private_;
};

/// A layer's weights in a kernel's layout, made anew when they have changed.
class DnnlWeights {
 public:
  /// Of `from`, which write(memory) puts into the layout. Where nobody else
  /// needs them, Caffe's copy is freed.
  const dnnl::memory& Get(const shared_ptr<SyncedMemory>& from,
      const DnnlDesc& desc,
      const std::function<void(const dnnl::memory&)>& write, bool free_others);

 private:
  shared_ptr<SyncedMemory> from_;
  size_t version_;
  shared_ptr<DnnlMemory> memory_;
};

/// The block of BlockedDesc, 1 for Caffe's layout, 0 for any other.
int ChannelBlock(const DnnlDesc& desc);

/// Copy in all threads.
void ParallelCopy(size_t count, const float* from, float* to);

}  // namespace caffe

#endif  // GCRF_DNNL_MEMORY_HPP_
