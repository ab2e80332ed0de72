#include "server/buffer_pool.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/numeric/bits.h"

namespace normd {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kSmallest = 1024;

struct SizeClass {
  size_t index;
  size_t bytes;
};

// The smallest size that holds `size` bytes.
SizeClass ClassOf(size_t size) {
  const size_t wanted = std::max(size, kSmallest) - 1;
  const auto octave = static_cast<size_t>(absl::bit_width(wanted)) - 1;
  const size_t step = size_t{1} << (octave - 2);
  const size_t quarter = (wanted >> (octave - 2)) & 3;
  const size_t first = static_cast<size_t>(absl::bit_width(kSmallest - 1)) - 1;
  return {4 * (octave - first) + quarter, (size_t{1} << octave) + (quarter + 1) * step};
}

}  // namespace

// Stands before the memory that it describes.
struct alignas(kAlignment) Buffer::Block {
  std::shared_ptr<BufferPool> pool;  // null while idle
  size_t index = 0;
  size_t bytes = 0;

  char* memory() { return reinterpret_cast<char*>(this + 1); }

  static Block* Allocate(const SizeClass& size_class) {
    void* const memory =
        ::operator new(sizeof(Block) + size_class.bytes, std::align_val_t(kAlignment));
    return new (memory) Block{nullptr, size_class.index, size_class.bytes};
  }

  static void Free(Block* block) {
    block->~Block();
    ::operator delete(block, std::align_val_t(kAlignment));
  }
};

Buffer::Buffer(Buffer&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(block_, other.block_);
  return *this;
}

Buffer::~Buffer() {
  if (block_ != nullptr) BufferPool::Release(block_);
}

char* Buffer::data() const { return block_ == nullptr ? nullptr : block_->memory(); }

grpc::Slice Buffer::ToSlice(size_t offset, size_t size) && {
  Block* const block = std::exchange(block_, nullptr);
  return grpc::Slice(
      block->memory() + offset, size,
      [](void* released) { BufferPool::Release(static_cast<Block*>(released)); }, block);
}

std::shared_ptr<BufferPool> BufferPool::Create(int64_t idle_bytes_max) {
  return std::shared_ptr<BufferPool>(new BufferPool(idle_bytes_max));
}

BufferPool::~BufferPool() {
  absl::MutexLock lock(&mutex_);
  for (const std::vector<Buffer::Block*>& blocks : idle_) {
    for (Buffer::Block* block : blocks) Buffer::Block::Free(block);
  }
}

Buffer BufferPool::Take(size_t size) {
  const SizeClass size_class = ClassOf(size);
  Buffer::Block* block = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    std::vector<Buffer::Block*>& idle = idle_[size_class.index];
    if (!idle.empty()) {
      block = idle.back();
      idle.pop_back();
      idle_bytes_ -= static_cast<int64_t>(block->bytes);
    }
  }
  if (block == nullptr) block = Buffer::Block::Allocate(size_class);
  block->pool = shared_from_this();
  return Buffer(block);
}

int64_t BufferPool::idle_bytes() const {
  absl::MutexLock lock(&mutex_);
  return idle_bytes_;
}

void BufferPool::Release(Buffer::Block* block) {
  const std::shared_ptr<BufferPool> pool = std::move(block->pool);
  {
    absl::MutexLock lock(&pool->mutex_);
    const auto bytes = static_cast<int64_t>(block->bytes);
    if (pool->idle_bytes_ + bytes <= pool->idle_bytes_max_) {
      pool->idle_[block->index].push_back(block);
      pool->idle_bytes_ += bytes;
      return;
    }
  }
  Buffer::Block::Free(block);
}

}  // namespace normd
