#ifndef NORMD_CLIENT_LOAD_LATENCY_HISTOGRAM_H_
#define NORMD_CLIENT_LOAD_LATENCY_HISTOGRAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace normd::load {

// How many operations took how long, in log-linear buckets as HdrHistogram's: every power of two is
// cut into 128 equal ones. So memory is fixed (34 KiB), recording is a few instructions, and what
// is told of a percentile is at most 1/128 above the exact value and never below it. Durations are
// in nanoseconds. Thread-compatible.
class LatencyHistogram {
 public:
  // What is longer counts as this: 18 minutes.
  static constexpr int64_t kNanosecondsMax = (int64_t{1} << 40) - 1;

  // What is negative counts as 0.
  void Record(int64_t nanoseconds);
  // As if all that `other` has recorded had been recorded here.
  void Merge(const LatencyHistogram& other);

  int64_t count() const { return count_; }
  // The longest; 0 when there is none.
  int64_t max() const { return max_; }
  // 0 when there is none.
  double Mean() const;
  // The shortest duration that `percent` of all do not exceed; 0 when there is none. REQUIRES:
  // 0 < percent <= 100.
  int64_t Percentile(double percent) const;

 private:
  static constexpr int kLinearBits = 7;
  static constexpr int64_t kLinearBuckets = int64_t{1} << kLinearBits;
  // The values below kLinearBuckets have buckets of their own; then 128 for each further bit.
  static constexpr size_t kBuckets = (40 - kLinearBits + 1) << kLinearBits;

  static size_t BucketOf(int64_t nanoseconds);
  // The longest duration that falls into the bucket.
  static int64_t LongestIn(size_t bucket);

  std::vector<int64_t> counts_ = std::vector<int64_t>(kBuckets, 0);
  int64_t count_ = 0;
  int64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace normd::load

#endif  // NORMD_CLIENT_LOAD_LATENCY_HISTOGRAM_H_
