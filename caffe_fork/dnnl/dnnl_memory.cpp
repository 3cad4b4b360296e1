#include "dnnl_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "caffe/util/math_functions.hpp"

namespace caffe {

namespace {

// Large buffers go back and forth between layers: what the system gives anew
// costs it a page fault and a zeroing for each page. They are cut out of
// regions that are never given back; what lies side by side and is free becomes
// one.
class BufferPool {
 public:
  static BufferPool& Get() {
    static BufferPool* pool = new BufferPool;  // outlives all blobs
    return *pool;
  }

  void* Allocate(size_t size) {
    if (size < kLarge) {
      void* buffer = nullptr;
      CHECK_EQ(
          posix_memalign(&buffer, kCacheLine, std::max(size, kCacheLine)), 0)
          << "allocation of " << size << " bytes failed";
      return buffer;
    }
    size = (size + kPage - 1) / kPage * kPage;
    std::lock_guard<std::mutex> lock(mutex_);
    auto best = BestFit(size);
    if (best == free_.end()) {
      AddRegion(size);
      best = BestFit(size);
    }
    char* const buffer = best->first;
    const size_t rest = best->second - size;
    free_.erase(best);
    if (rest > 0) { free_[buffer + size] = rest; }
    used_[buffer] = size;
    return buffer;
  }

  void Free(void* buffer) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto used = used_.find(static_cast<char*>(buffer));
    if (used == used_.end()) {
      std::free(buffer);
      return;
    }
    AddFree(used->first, used->second);
    used_.erase(used);
  }

 private:
  typedef std::map<char*, size_t> Ranges;  // address and size

  Ranges::iterator BestFit(size_t size) {
    auto best = free_.end();
    for (auto range = free_.begin(); range != free_.end(); ++range) {
      if (range->second >= size &&
          (best == free_.end() || range->second < best->second)) {
        best = range;
      }
    }
    return best;
  }

  void AddRegion(size_t size) {
    const size_t rounded = (size + kHugePage - 1) / kHugePage * kHugePage;
    void* const region = mmap(nullptr, rounded, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(region != MAP_FAILED) << "allocation of " << size << " bytes failed";
    madvise(region, rounded, MADV_HUGEPAGE);
    AddFree(static_cast<char*>(region), rounded);
  }

  void AddFree(char* begin, size_t size) {
    auto range = free_.insert({begin, size}).first;
    const auto next = std::next(range);
    if (next != free_.end() && begin + size == next->first) {
      range->second += next->second;
      free_.erase(next);
    }
    if (range == free_.begin()) { return; }
    const auto previous = std::prev(range);
    if (previous->first + previous->second == begin) {
      previous->second += range->second;
      free_.erase(range);
    }
  }

  static constexpr size_t kLarge = 1 << 20;
  static constexpr size_t kHugePage = 1 << 21;
  static constexpr size_t kPage = 1 << 12;
  static constexpr size_t kCacheLine = 64;

  std::mutex mutex_;
  Ranges free_, used_;
};

constexpr size_t BufferPool::kCacheLine;

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

dnnl::primitive_attr DnnlAttributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

void Reorder(const dnnl::memory& from, const dnnl::memory& to) {
  Run<dnnl::reorder>(dnnl::reorder::primitive_desc(from, to, DnnlAttributes()),
      {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

void AddToDiff(
    const dnnl::memory& diff, const DnnlDesc& desc, Blob<float>* blob) {
  const dnnl::memory sum(desc, DnnlEngine(), blob->mutable_cpu_diff());
  dnnl::post_ops add;
  add.append_sum(1.f);
  dnnl::primitive_attr attributes = DnnlAttributes();
  attributes.set_post_ops(add);
  Run<dnnl::reorder>(dnnl::reorder::primitive_desc(diff, sum, attributes),
      {{DNNL_ARG_FROM, diff}, {DNNL_ARG_TO, sum}});
}

DnnlMemory::DnnlMemory(const DnnlDesc& desc)
    : count_(desc.get_size() / sizeof(float)),
      buffer_(BufferPool::Get().Allocate(desc.get_size())),
      memory_(desc, DnnlEngine(), buffer_),
      rectified_(false) {}

DnnlMemory::~DnnlMemory() { BufferPool::Get().Free(buffer_); }

void DnnlMemory::CopyToCPU(void* cpu_data) {
  Reorder(memory_, PlainMemory(Dims(memory_.get_desc()), cpu_data));
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
    Reorder(memory_, converted_->memory());
    memory_ = converted_->memory();
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

const dnnl::memory& DnnlWeights::Get(const shared_ptr<SyncedMemory>& from,
    const DnnlDesc& desc, const std::function<void(const dnnl::memory&)>& write,
    bool free_others) {
  if (!memory_ || memory_->memory().get_desc() != desc || from_ != from ||
      version_ != from->version() || from->keeps_cpu_data()) {
    memory_.reset(new DnnlMemory(desc));
    write(memory_->memory());
    if (free_others && !from->keeps_cpu_data()) {
      from->set_private_data(memory_);
      from->free_old_cpu_data();
    }
    from_ = from;
    version_ = from->version();
  }
  return memory_->memory();
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
