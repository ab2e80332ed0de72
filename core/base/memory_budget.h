#ifndef NORMD_CORE_BASE_MEMORY_BUDGET_H_
#define NORMD_CORE_BASE_MEMORY_BUDGET_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

namespace normd {

// What memory is used for.
enum class MemoryUse {
  kCache,    // states; takes what the others leave, and gives way to them
  kWrites,   // changed states on their way to the disk
  kStreams,  // requests and responses that streams have in hand
  kCalls,    // unary calls, their requests and responses
  kWatches,  // events that wait for watchers
};
inline constexpr size_t kMemoryUses = 5;

// Counts the bytes of memory in use against one maximum. Each use has a share that no other can
// take from it (limits.h), so none can starve another. Counting is all it does: who is about to
// take memory asks whether there is room; who is refused turns his client away or reads no further.
// Thread-safe; takes no lock.
//
// Memory that is there already, as a message that was read, is counted even beyond the share. So a
// use goes beyond it by what was on its way when it filled up: with TryResize by one reservation,
// with Resize by one of each that takes.
class MemoryBudget {
 public:
  // REQUIRES: bytes_max >= 0.
  explicit MemoryBudget(int64_t bytes_max);

  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // A budget without bounds, for what stands alone; lives for ever.
  static MemoryBudget* Unlimited();

  // Whether `use` is below its share, and so may begin something more, however large.
  bool HasRoom(MemoryUse use) const { return used(use) < share(use); }

  // The error for who finds no room: LIMIT_REACHED.
  absl::Status NoRoom(MemoryUse use) const;

  // What the cache may hold now: all that the other uses leave, but for the spare part.
  int64_t CacheBytesMax() const;
  // Whether all uses together hold more than the maximum, so that the cache must give way.
  bool IsExceeded() const;

  int64_t used(MemoryUse use) const {
    return used_[static_cast<size_t>(use)].load(std::memory_order_relaxed);
  }
  int64_t share(MemoryUse use) const { return shares_[static_cast<size_t>(use)]; }

  // Counts `bytes` more (or less, when negative), room or not. For who cannot keep a
  // MemoryReservation; gives back himself what he took.
  void Add(MemoryUse use, int64_t bytes) {
    used_[static_cast<size_t>(use)].fetch_add(bytes, std::memory_order_relaxed);
  }
  // The same when there is room; else false.
  bool TryAdd(MemoryUse use, int64_t bytes);

 private:
  // Constant after construction.
  const int64_t bytes_max_;
  const std::array<int64_t, kMemoryUses> shares_;

  std::array<std::atomic<int64_t>, kMemoryUses> used_ = {};
};

// Bytes that one holder (a stream, a call, a queue) counts in a budget; given back with the object.
// Movable; thread-compatible.
class MemoryReservation {
 public:
  // Of no bytes. `budget` outlives the reservation.
  MemoryReservation(MemoryBudget* budget, MemoryUse use) : budget_(budget), use_(use) {}
  MemoryReservation(MemoryReservation&& other) noexcept;
  MemoryReservation& operator=(MemoryReservation&& other) noexcept;
  ~MemoryReservation() { Resize(0); }

  // Counts `bytes` from now on, room or not. REQUIRES: bytes >= 0.
  void Resize(int64_t bytes);

  // The same, unless it would be more than now and there is no room: then false, changing nothing.
  [[nodiscard]] bool TryResize(int64_t bytes);

  int64_t bytes() const { return bytes_; }

 private:
  MemoryBudget* budget_;
  MemoryUse use_;
  int64_t bytes_ = 0;
};

}  // namespace normd

#endif  // NORMD_CORE_BASE_MEMORY_BUDGET_H_
