#include "client/load/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace normd::load {

void LatencyHistogram::Record(int64_t nanoseconds) {
  const int64_t value = std::clamp<int64_t>(nanoseconds, 0, kNanosecondsMax);
  ++counts_[BucketOf(value)];
  ++count_;
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

double LatencyHistogram::Mean() const {
  return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
}

int64_t LatencyHistogram::Percentile(double percent) const {
  // 99.9 % of 1000 are 999, and a little more in double.
  const double rank = std::ceil(percent / 100 * static_cast<double>(count_) * (1 - 1e-12));
  int64_t left = std::clamp<int64_t>(static_cast<int64_t>(rank), 1, std::max<int64_t>(count_, 1));
  for (size_t bucket = 0; bucket < kBuckets; ++bucket) {
    left -= counts_[bucket];
    if (left <= 0) return std::min(LongestIn(bucket), max_);
  }
  return 0;
}

size_t LatencyHistogram::BucketOf(int64_t nanoseconds) {
  const auto value = static_cast<uint64_t>(nanoseconds);
  if (nanoseconds < kLinearBuckets) return value;
  // The leading one and the kLinearBits behind it say which.
  const int shift = std::bit_width(value) - 1 - kLinearBits;
  return (static_cast<size_t>(shift) << kLinearBits) + (value >> shift);
}

int64_t LatencyHistogram::LongestIn(size_t bucket) {
  if (bucket < kLinearBuckets) return static_cast<int64_t>(bucket);
  const size_t shift = (bucket >> kLinearBits) - 1;
  const size_t leading = kLinearBuckets + (bucket & (kLinearBuckets - 1));
  return static_cast<int64_t>(((leading + 1) << shift) - 1);
}

}  // namespace normd::load
