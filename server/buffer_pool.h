#ifndef NORMD_SERVER_BUFFER_POOL_H_
#define NORMD_SERVER_BUFFER_POOL_H_

#include <grpcpp/support/slice.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace normd {

class BufferPool;

// Memory from a BufferPool, which gets it back. Empty when default-constructed or moved from.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  // Aligned to a cache line; null when empty.
  char* data() const;

  // Hands the memory to gRPC, which sends `size` bytes from data() + `offset` on and then gives it
  // back to the pool. Leaves the buffer empty.
  grpc::Slice ToSlice(size_t offset, size_t size) &&;

 private:
  friend class BufferPool;
  struct Block;
  explicit Buffer(Block* block) : block_(block) {}

  Block* block_ = nullptr;
};

// Memory for the tensors of messages, used again and again, so that it neither has to be cleared
// nor mapped. Lives as long as its buffers do. Thread-safe.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  // Keeps at most `idle_bytes_max` bytes that nobody uses.
  static std::shared_ptr<BufferPool> Create(int64_t idle_bytes_max);
  ~BufferPool();

  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // At least `size` bytes, of any content.
  Buffer Take(size_t size);

  // Bytes that nobody uses.
  int64_t idle_bytes() const;

 private:
  friend class Buffer;
  // Four sizes an octave from 1 KiB on: at most a fifth of a buffer is not asked for.
  static constexpr size_t kClasses = 4 * 24;

  explicit BufferPool(int64_t idle_bytes_max) : idle_bytes_max_(idle_bytes_max) {}

  // Gives a block back, and then lets go of the pool.
  static void Release(Buffer::Block* block);

  const int64_t idle_bytes_max_;

  mutable absl::Mutex mutex_;
  std::array<std::vector<Buffer::Block*>, kClasses> idle_ ABSL_GUARDED_BY(mutex_);
  int64_t idle_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace normd

#endif  // NORMD_SERVER_BUFFER_POOL_H_
