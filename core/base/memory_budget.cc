#include "core/base/memory_budget.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/error.h"
#include "core/base/limits.h"

namespace normd {
namespace {

// What each use takes memory for, as an error tells it.
constexpr absl::string_view kNames[kMemoryUses] = {"states", "changed states", "streams", "calls",
                                                   "watches"};

// In the order of MemoryUse.
constexpr int64_t kParts[kMemoryUses] = {kCacheMemoryParts, kWritesMemoryParts, kStreamsMemoryParts,
                                         kCallsMemoryParts, kWatchesMemoryParts};

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

std::array<int64_t, kMemoryUses> SharesOf(int64_t bytes_max) {
  std::array<int64_t, kMemoryUses> shares;
  for (size_t i = 0; i < kMemoryUses; ++i) {
    shares[i] = bytes_max == kUnlimited ? kUnlimited : bytes_max / kMemoryParts * kParts[i];
  }
  return shares;
}

}  // namespace

MemoryBudget::MemoryBudget(int64_t bytes_max)
    : bytes_max_(bytes_max), shares_(SharesOf(bytes_max)) {}

MemoryBudget* MemoryBudget::Unlimited() {
  static auto* const kBudget = new MemoryBudget(kUnlimited);
  return kBudget;
}

absl::Status MemoryBudget::NoRoom(MemoryUse use) const {
  const absl::string_view name = kNames[static_cast<size_t>(use)];
  return MakeError(Reason::kLimitReached,
                   absl::StrCat(name, " hold ", used(use), " bytes of memory, expected less than ",
                                share(use), " (their share of --memory-bytes-max); try again"),
                   {{"limit", absl::StrCat(share(use))}});
}

int64_t MemoryBudget::CacheBytesMax() const {
  int64_t left = bytes_max_ - bytes_max_ / kMemoryParts * kSpareMemoryParts;
  for (const std::atomic<int64_t>& used : used_) left -= used.load(std::memory_order_relaxed);
  return std::max<int64_t>(0, left + used(MemoryUse::kCache));
}

bool MemoryBudget::IsExceeded() const {
  int64_t left = bytes_max_;
  for (const std::atomic<int64_t>& used : used_) left -= used.load(std::memory_order_relaxed);
  return left < 0;
}

bool MemoryBudget::TryAdd(MemoryUse use, int64_t bytes) {
  std::atomic<int64_t>& used = used_[static_cast<size_t>(use)];
  int64_t before = used.load(std::memory_order_relaxed);
  do {
    if (before >= share(use)) return false;
  } while (!used.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
  return true;
}

MemoryReservation::MemoryReservation(MemoryReservation&& other) noexcept
    : budget_(other.budget_), use_(other.use_), bytes_(std::exchange(other.bytes_, 0)) {}

MemoryReservation& MemoryReservation::operator=(MemoryReservation&& other) noexcept {
  if (this == &other) return *this;
  Resize(0);
  budget_ = other.budget_;
  use_ = other.use_;
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

void MemoryReservation::Resize(int64_t bytes) {
  if (bytes != bytes_) budget_->Add(use_, bytes - std::exchange(bytes_, bytes));
}

bool MemoryReservation::TryResize(int64_t bytes) {
  if (bytes <= bytes_) {
    Resize(bytes);
    return true;
  }
  if (!budget_->TryAdd(use_, bytes - bytes_)) return false;
  bytes_ = bytes;
  return true;
}

}  // namespace normd
