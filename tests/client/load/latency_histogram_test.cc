#include "client/load/latency_histogram.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/testing/seeded_random.h"

namespace normd::load {
namespace {

constexpr double kPercents[] = {0.001, 1, 50, 90, 99, 99.9, 100};

// The shortest of the sorted values that `percent`, to three decimals, of them do not exceed.
int64_t Exact(const std::vector<int64_t>& sorted, double percent) {
  const auto thousandths = static_cast<size_t>(std::lround(percent * 1000));
  const size_t rank = (thousandths * sorted.size() + 99999) / 100000;
  return sorted[std::max<size_t>(rank, 1) - 1];
}

TEST(LatencyHistogramTest, HasNothingToTellAtFirst) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.max(), 0);
  EXPECT_EQ(histogram.Mean(), 0);
  for (const double percent : kPercents) EXPECT_EQ(histogram.Percentile(percent), 0);
}

TEST(LatencyHistogramTest, IsExactForShortDurations) {
  LatencyHistogram histogram;
  for (int64_t i = 1; i <= 100; ++i) histogram.Record(i);
  EXPECT_EQ(histogram.Percentile(50), 50);
  EXPECT_EQ(histogram.Percentile(99), 99);
  EXPECT_EQ(histogram.Percentile(99.1), 100);
  EXPECT_EQ(histogram.Percentile(100), 100);
  EXPECT_EQ(histogram.Mean(), 50.5);
}

TEST(LatencyHistogramTest, IsWithinOneIn128AroundEveryPowerOfTwo) {
  for (int bits = 0; bits < 40; ++bits) {
    const int64_t power = int64_t{1} << bits;
    for (const int64_t value : {power - 1, power, power + 1, power + power / 3}) {
      LatencyHistogram histogram;
      histogram.Record(value);
      histogram.Record(LatencyHistogram::kNanosecondsMax);
      EXPECT_GE(histogram.Percentile(50), value);
      EXPECT_LE(histogram.Percentile(50), value + value / 128) << value;
    }
  }
}

TEST(LatencyHistogramTest, IsWithinOneIn128OfThePercentilesOfRandomDurations) {
  SeededRandom random;
  std::lognormal_distribution<double> duration(11, 3);
  LatencyHistogram histogram;
  std::vector<int64_t> values;
  double sum = 0;
  for (int i = 0; i < 20000; ++i) {
    values.push_back(static_cast<int64_t>(std::min(duration(random), 1e12)));
    histogram.Record(values.back());
    sum += static_cast<double>(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double percent : kPercents) {
    const int64_t exact = Exact(values, percent);
    EXPECT_GE(histogram.Percentile(percent), exact) << percent;
    EXPECT_LE(histogram.Percentile(percent), exact + exact / 128) << percent;
  }
  EXPECT_EQ(histogram.max(), values.back());
  EXPECT_EQ(histogram.Percentile(100), values.back());
  EXPECT_NEAR(histogram.Mean(), sum / 20000, 1e-9 * sum);
}

TEST(LatencyHistogramTest, CountsExactlyWhereThePercentHasNoExactDouble) {
  LatencyHistogram histogram;
  for (int i = 0; i < 998; ++i) histogram.Record(1);
  histogram.Record(2);
  histogram.Record(3);
  EXPECT_EQ(histogram.Percentile(99.8), 1);
  EXPECT_EQ(histogram.Percentile(99.9), 2);
  EXPECT_EQ(histogram.Percentile(99.91), 3);
}

TEST(LatencyHistogramTest, TakesWhatIsOutOfRangeAsTheNearestInIt) {
  LatencyHistogram histogram;
  histogram.Record(-5);
  histogram.Record(int64_t{1} << 50);
  EXPECT_EQ(histogram.Percentile(50), 0);
  EXPECT_EQ(histogram.max(), LatencyHistogram::kNanosecondsMax);
  EXPECT_EQ(histogram.count(), 2);
}

TEST(LatencyHistogramTest, MergesAsIfAllHadBeenRecordedInOne) {
  LatencyHistogram one;
  LatencyHistogram other;
  LatencyHistogram both;
  for (int64_t i = 1; i <= 5000; ++i) {
    (i % 3 == 0 ? one : other).Record(i * i);
    both.Record(i * i);
  }
  one.Merge(other);
  EXPECT_EQ(one.count(), 5000);
  EXPECT_EQ(one.max(), both.max());
  EXPECT_EQ(one.Mean(), both.Mean());
  for (const double percent : kPercents) {
    EXPECT_EQ(one.Percentile(percent), both.Percentile(percent)) << percent;
  }
}

}  // namespace
}  // namespace normd::load
