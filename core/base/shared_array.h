#ifndef NORMD_CORE_BASE_SHARED_ARRAY_H_
#define NORMD_CORE_BASE_SHARED_ARRAY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>

#include "absl/types/span.h"
#include "core/base/prefetch.h"

namespace normd {

// An array of float64 that is replaced whole and never changed, so that its copies share its
// memory, which stays as long as one of them is there. A value; thread-compatible, and copies may
// be used on different threads.
class SharedArray {
 public:
  using value_type = double;
  using const_iterator = const double*;

  SharedArray() = default;
  // Copies the values.
  explicit SharedArray(absl::Span<const double> values) {
    if (values.empty()) return;
    // In one piece with the count of the copies.
    std::shared_ptr<double[]> copied = std::make_shared_for_overwrite<double[]>(values.size());
    std::copy(values.begin(), values.end(), copied.get());
    values_ = std::move(copied);
    size_ = values.size();
  }
  SharedArray(std::initializer_list<double> values)
      : SharedArray(absl::MakeConstSpan(values.begin(), values.size())) {}

  SharedArray(const SharedArray&) = default;
  SharedArray& operator=(const SharedArray&) = default;
  // Leave `other` empty.
  SharedArray(SharedArray&& other) noexcept
      : values_(std::move(other.values_)), size_(std::exchange(other.size_, 0)) {}
  SharedArray& operator=(SharedArray&& other) noexcept {
    values_ = std::move(other.values_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  ~SharedArray() = default;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // Null when empty.
  const double* data() const { return values_.get(); }
  const double* begin() const { return data(); }
  const double* end() const { return data() + size_; }
  // REQUIRES: i < size().
  const double& operator[](size_t i) const { return data()[i]; }

  // About how many bytes of memory the values take, however many copies share it.
  int64_t MemoryBytes() const {
    return static_cast<int64_t>(empty() ? 0 : size_ * sizeof(double) + kCountBytes);
  }

  // Asks the processor for the memory that a copy, and the end of one, takes: that in which they
  // are counted (see Prefetch).
  void PrefetchCount() const { Prefetch(end(), empty() ? 0 : kCountBytes); }

  friend bool operator==(const SharedArray& a, const SharedArray& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  // About what libstdc++ counts the copies in, behind the values.
  static constexpr size_t kCountBytes = 40;

  std::shared_ptr<const double[]> values_;  // null when empty
  size_t size_ = 0;
};

}  // namespace normd

#endif  // NORMD_CORE_BASE_SHARED_ARRAY_H_
