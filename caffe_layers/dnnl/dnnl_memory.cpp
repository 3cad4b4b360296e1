#include "dnnl/dnnl_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "caffe/util/math_functions.hpp"

namespace caffe {

namespace {

// Large buffers go back and forth between layers: what the system gives anew
// costs it a page fault and a zeroing for each page.
class BufferPool {
 public:
  static BufferPool& Get() {
    static BufferPool* pool = new BufferPool;  // outlives all blobs
    return *pool;
  }

  void* Allocate(size_t size) {
    if (size >= kLarge) {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto free = free_.lower_bound(size);
      if (free != free_.end()) {
        void* buffer = free->second;
        sizes_[buffer] = free->first;
        free_.erase(free);
        return buffer;
      }
      // Too small ones would only add to the memory in use.
      for (const auto& size_and_buffer : free_) {
        std::free(size_and_buffer.second);
      }
      free_.clear();
    }
    void* buffer = nullptr;
    const size_t alignment = size >= kLarge ? kHugePage : kCacheLine;
    const size_t rounded = (size + alignment - 1) / alignment * alignment;
    CHECK_EQ(
        posix_memalign(&buffer, alignment, std::max(rounded, alignment)), 0)
        << "allocation of " << size << " bytes failed";
    if (size >= kLarge) {
      madvise(buffer, rounded, MADV_HUGEPAGE);
      std::lock_guard<std::mutex> lock(mutex_);
      sizes_[buffer] = rounded;
    }
    return buffer;
  }

  void Free(void* buffer) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto size = sizes_.find(buffer);
    if (size == sizes_.end()) {
      std::free(buffer);
    } else {
      free_.insert({size->second, buffer});
      sizes_.erase(size);
    }
  }

 private:
  static const size_t kLarge = 1 << 20;
  static const size_t kHugePage = 1 << 21;
  static const size_t kCacheLine = 64;

  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  std::unordered_map<void*, size_t> sizes_;  // of the large ones in use
};

dnnl::memory Reordered(const dnnl::memory& from, const dnnl::memory& to) {
  Execute(dnnl::reorder(from, to), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
  return to;
}

dnnl::memory PlainMemory(const DnnlDims& dims, const void* data) {
  return dnnl::memory(PlainDesc(dims), DnnlEngine(), const_cast<void*>(data));
}

}  // namespace

dnnl::engine& DnnlEngine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& DnnlStream() {
  static dnnl::stream stream(DnnlEngine());
  return stream;
}

DnnlDesc PlainDesc(const DnnlDims& dims) {
  DnnlDims strides(dims.size(), 1);
  for (size_t i = dims.size() - 1; i > 0; --i) {
    strides[i - 1] = strides[i] * dims[i];
  }
  return DnnlDesc(dims, dnnl::memory::data_type::f32, strides);
}

DnnlDesc AnyDesc(const DnnlDims& dims) {
  return DnnlDesc(
      dims, dnnl::memory::data_type::f32, dnnl::memory::format_tag::any);
}

DnnlDesc BlockedDesc(const DnnlDims& dims, int block) {
  typedef dnnl::memory::format_tag Tag;
  return DnnlDesc(dims, dnnl::memory::data_type::f32,
      block == 16 ? Tag::nChw16c : Tag::nChw8c);
}

DnnlDims Dims(const DnnlDesc& desc) {
#if DNNL_VERSION_MAJOR >= 3
  return desc.get_dims();
#else
  return desc.dims();
#endif
}

DnnlDims BlobDims(const vector<int>& shape) {
  return DnnlDims(shape.begin(), shape.end());
}

void Execute(const dnnl::primitive& primitive,
    const std::unordered_map<int, dnnl::memory>& arguments) {
  primitive.execute(DnnlStream(), arguments);
  DnnlStream().wait();
}

DnnlMemory::DnnlMemory(const DnnlDesc& desc)
    : count_(desc.get_size() / sizeof(float)),
      buffer_(BufferPool::Get().Allocate(desc.get_size())),
      memory_(desc, DnnlEngine(), buffer_),
      rectified_(false) {}

DnnlMemory::~DnnlMemory() { BufferPool::Get().Free(buffer_); }

void DnnlMemory::CopyToCPU(void* cpu_data) {
  Reordered(memory_, PlainMemory(Dims(memory_.get_desc()), cpu_data));
}

shared_ptr<DnnlMemory> FindDnnlMemory(
    const shared_ptr<SyncedMemory>& synced, const vector<int>& shape) {
  shared_ptr<DnnlMemory> memory =
      boost::dynamic_pointer_cast<DnnlMemory>(synced->private_data());
  if (memory && Dims(memory->memory().get_desc()) != BlobDims(shape)) {
    memory.reset();
  }
  return memory;
}

DnnlInput::DnnlInput(
    const shared_ptr<SyncedMemory>& from, const vector<int>& shape) {
  const shared_ptr<DnnlMemory> memory = FindDnnlMemory(from, shape);
  memory_ = memory ? memory->memory()
                   : PlainMemory(BlobDims(shape), from->cpu_data());
}

DnnlInput::DnnlInput(const shared_ptr<SyncedMemory>& from,
    const vector<int>& shape, const DnnlDesc& desc)
    : DnnlInput(from, shape) {
  if (memory_.get_desc() != desc) {
    converted_.reset(new DnnlMemory(desc));
    memory_ = Reordered(memory_, converted_->memory());
  }
}

DnnlOutput::DnnlOutput(const shared_ptr<SyncedMemory>& to, const DnnlDesc& desc)
    : to_(to) {
  to->release_private_data();
  const DnnlDims dims = Dims(desc);
  if (desc == PlainDesc(dims)) {
    memory_ = PlainMemory(dims, to->mutable_cpu_data());
    return;
  }
  private_.reset(new DnnlMemory(desc));
  memory_ = private_->memory();
}

void DnnlOutput::Finish() {
  if (!private_) { return; }
  if (to_->keeps_cpu_data()) {
    private_->CopyToCPU(to_->mutable_cpu_data());
  } else {
    to_->set_private_data(private_);
  }
}

void DnnlOutput::FinishRectified() {
  if (private_) { private_->set_rectified(); }
  Finish();
}

int ChannelBlock(const DnnlDesc& desc) {
  const DnnlDims dims = Dims(desc);
  if (desc == PlainDesc(dims)) { return 1; }
  if (dims.size() == 4) {
    for (int block : {8, 16}) {
      if (desc == BlockedDesc(dims, block)) { return block; }
    }
  }
  return 0;
}

void ParallelCopy(size_t count, const float* from, float* to) {
  const size_t kChunk = 1 << 16;
#pragma omp parallel for
  for (size_t begin = 0; begin < count; begin += kChunk) {
    caffe_copy<float>(
        std::min(kChunk, count - begin), from + begin, to + begin);
  }
}

}  // namespace caffe
