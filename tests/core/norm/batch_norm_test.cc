// What batch norm computes, against the plain reference. Refusals, empty batches and values that
// are not finite stand in batch_norm_edges_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/norm/normalization.h"
#include "core/norm/running_stats.h"
#include "tests/core/norm/batch_norm_reference.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

// N, C and the spatial axes of every rank: around vectors and blocks of channels, and one value a
// place.
const std::vector<std::vector<int64_t>> kSizes = {
    {2, 1},          {3, 10},          {33, 17},        {5, 64},         {300, 3},
    {2, 3, 1},       {4, 5, 7},        {1, 4, 100},     {16, 2, 33},     {2, 3, 4, 5},
    {3, 8, 7, 7},    {1, 1, 1, 2},     {2, 16, 1, 9},   {4, 33, 3, 1},   {2, 3, 2, 3, 4},
    {1, 7, 3, 2, 5}, {3, 64, 1, 1, 1}, {2, 1, 1, 1, 1}, {2, 5, 4, 4, 4}, {2, 2, 70, 70},
};

constexpr Layout kLayouts[] = {Layout::kChannelsFirst, Layout::kChannelsLast};

std::string Describe(const TestBatch& batch) {
  return ShapeToString(batch.shape) +
         (batch.layout == Layout::kChannelsLast ? " channels last" : " channels first");
}

NormConfig ConfigOf(const TestBatch& batch) { return {.num_features = batch.channels()}; }

void ExpectOutput(const std::vector<float>& output, const ReferenceOutput& reference) {
  for (size_t i = 0; i < output.size(); ++i) {
    ASSERT_LE(std::abs(output[i] - reference.values[i]), reference.tolerance[i])
        << "output " << output[i] << " at " << i << ", expected "
        << static_cast<double>(reference.values[i]);
  }
}

class BatchNormTest : public testing::Test {
 protected:
  // A batch whose channels have means of up to 10 and deviations of up to 3.
  TestBatch RandomBatch(const std::vector<int64_t>& sizes, Layout layout) {
    TestBatch batch = MakeBatch(sizes, layout, [this] { return Normal(); });
    for (int64_t c = 0; c < batch.channels(); ++c) {
      const float mean = 10 * Uniform() - 5;
      const float deviation = 0.1F + 3 * Uniform();
      for (int64_t n = 0; n < batch.samples(); ++n) {
        for (int64_t s = 0; s < batch.spatial(); ++s) {
          float& x = batch.values[batch.Index(n, c, s)];
          x = mean + deviation * x;
        }
      }
    }
    return batch;
  }

  std::vector<float> RandomValues(int64_t length) {
    std::vector<float> values(static_cast<size_t>(length));
    for (float& x : values) x = Normal();
    return values;
  }

  // Calls visit(batch) with a random batch of every size in both layouts.
  template <class Visit>
  void ForEachBatch(Visit visit) {
    for (const std::vector<int64_t>& sizes : kSizes) {
      for (const Layout layout : kLayouts) {
        const TestBatch batch = RandomBatch(sizes, layout);
        SCOPED_TRACE(Describe(batch));
        visit(batch);
      }
    }
  }

  float Normal() { return std::normal_distribution<float>()(random_); }
  float Uniform() { return std::uniform_real_distribution<float>()(random_); }

  SeededRandom random_;
};

TEST_F(BatchNormTest, ChannelAxisIsOneOrTheLastAndCountIsSamplesTimesSpatial) {
  ForEachBatch([](const TestBatch& values) {
    const auto tensor = values.View();
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    const auto batch = Batch::Create(*tensor, ConfigOf(values));
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->count(), values.count());
    EXPECT_EQ(batch->sets(), static_cast<size_t>(values.channels()));
    EXPECT_EQ(batch->bytes().run(), AsBytes(values.values).data());
    EXPECT_EQ(batch->num_elements(), values.values.size());
  });
}

// Tolerance: 1e-12 of the largest value for the mean, 1e-9 relative for m2.
TEST_F(BatchNormTest, MomentsEqualTheReferenceInEveryRankAndLayout) {
  ForEachBatch([](const TestBatch& values) {
    const Batch batch = *Batch::Create(*values.View(), ConfigOf(values));
    const auto moments = ComputeBatchMoments(batch, NonFinitePolicy::kRefuse);
    ASSERT_TRUE(moments.ok()) << moments.status();
    const ReferenceMoments reference = ReferenceOf(values);
    EXPECT_EQ(moments->count, values.count());
    ASSERT_EQ(moments->mean.size(), reference.mean.size());
    ASSERT_EQ(moments->m2.size(), reference.m2.size());
    for (size_t c = 0; c < reference.mean.size(); ++c) {
      EXPECT_NEAR(moments->mean[c], static_cast<double>(reference.mean[c]), 30e-12) << c;
      EXPECT_NEAR(moments->m2[c], static_cast<double>(reference.m2[c]),
                  static_cast<double>(1e-9L * reference.m2[c]))
          << c;
    }
  });
}

TEST_F(BatchNormTest, TrainOutputUsesTheBiasedVariance) {
  ForEachBatch([this](const TestBatch& values) {
    const Batch batch = *Batch::Create(*values.View(), ConfigOf(values));
    const Moments moments = *ComputeBatchMoments(batch, NonFinitePolicy::kRefuse);
    const std::vector<float> weight = RandomValues(values.channels());
    const std::vector<float> bias = RandomValues(values.channels());
    std::vector<float> output(values.values.size());
    NormalizeBatchByItself(batch, moments, 1e-5, weight, bias, absl::MakeSpan(output));

    ReferenceMoments reference = ReferenceOf(values);
    for (long double& m2 : reference.m2) m2 /= static_cast<long double>(values.count());
    ExpectOutput(output,
                 ReferenceNormalize(values, reference.mean, reference.m2, 1e-5, weight, bias));
  });
}

TEST_F(BatchNormTest, RunningVarTakesTheUnbiasedVariance) {
  ForEachBatch([](const TestBatch& values) {
    const Batch batch = *Batch::Create(*values.View(), ConfigOf(values));
    RunningStats stats = RunningStats::Initial(values.channels());
    stats.Fold(*ComputeBatchMoments(batch, NonFinitePolicy::kRefuse), ConfigOf(values));
    const ReferenceMoments reference = ReferenceOf(values);
    for (size_t c = 0; c < reference.mean.size(); ++c) {
      const long double unbiased = reference.m2[c] / (values.count() - 1);
      EXPECT_NEAR(stats.mean[c], static_cast<double>(0.1L * reference.mean[c]), 1e-11);
      EXPECT_NEAR(stats.var[c], static_cast<double>(0.9L + 0.1L * unbiased),
                  static_cast<double>(1e-9L * (1 + unbiased)));
    }
  });
}

TEST_F(BatchNormTest, EvalUsesTheRunningStatistics) {
  ForEachBatch([this](const TestBatch& values) {
    const Batch batch = *Batch::Create(*values.View(), ConfigOf(values));
    const std::vector<float> weight = RandomValues(values.channels());
    const std::vector<float> bias = RandomValues(values.channels());
    std::vector<double> mean;
    std::vector<double> var;
    for (int64_t c = 0; c < values.channels(); ++c) {
      mean.push_back(static_cast<double>(Normal()) / 3);
      var.push_back(static_cast<double>(Uniform()) / 3);
    }
    std::vector<float> output(values.values.size());
    NormalizeBatch(batch, {.mean = mean, .var = var, .eps = 1e-3, .weight = weight, .bias = bias},
                   absl::MakeSpan(output));
    ExpectOutput(output, ReferenceNormalize(values, mean, var, 1e-3, weight, bias));
  });
}

TEST_F(BatchNormTest, WithoutAffineWeightIsOneAndBiasZero) {
  const TestBatch values = RandomBatch({4, 5, 6}, Layout::kChannelsFirst);
  const Batch batch = *Batch::Create(*values.View(), ConfigOf(values));
  const Moments moments = *ComputeBatchMoments(batch, NonFinitePolicy::kRefuse);
  std::vector<float> without(values.values.size());
  NormalizeBatchByItself(batch, moments, 1e-5, {}, {}, absl::MakeSpan(without));
  const std::vector<float> ones(5, 1.0F);
  const std::vector<float> zeros(5, 0.0F);
  std::vector<float> with(values.values.size());
  NormalizeBatchByItself(batch, moments, 1e-5, ones, zeros, absl::MakeSpan(with));
  EXPECT_EQ(without, with);
}

TEST_F(BatchNormTest, ChannelsFirstAndLastGiveTheSame) {
  for (const std::vector<int64_t>& sizes : kSizes) {
    const TestBatch first = RandomBatch(sizes, Layout::kChannelsFirst);
    SCOPED_TRACE(Describe(first));
    TestBatch last = MakeBatch(sizes, Layout::kChannelsLast, [] { return 0.0F; });
    const auto for_each_value = [&first](auto visit) {
      for (int64_t n = 0; n < first.samples(); ++n) {
        for (int64_t c = 0; c < first.channels(); ++c) {
          for (int64_t s = 0; s < first.spatial(); ++s) visit(n, c, s);
        }
      }
    };
    for_each_value([&](int64_t n, int64_t c, int64_t s) {
      last.values[last.Index(n, c, s)] = first.values[first.Index(n, c, s)];
    });
    std::vector<std::vector<float>> outputs;
    std::vector<Moments> moments;
    for (const TestBatch* values : {&first, &std::as_const(last)}) {
      const Batch batch = *Batch::Create(*values->View(), ConfigOf(*values));
      moments.push_back(*ComputeBatchMoments(batch, NonFinitePolicy::kRefuse));
      outputs.emplace_back(values->values.size());
      NormalizeBatchByItself(batch, moments.back(), 1e-5, {}, {}, absl::MakeSpan(outputs.back()));
    }
    EXPECT_EQ(moments[0].count, moments[1].count);
    for (int64_t c = 0; c < first.channels(); ++c) {
      EXPECT_NEAR(moments[0].mean[c], moments[1].mean[c], 30e-12);
      EXPECT_NEAR(moments[0].m2[c], moments[1].m2[c], 1e-9 * moments[0].m2[c]);
    }
    for_each_value([&](int64_t n, int64_t c, int64_t s) {
      const float expected = outputs[0][first.Index(n, c, s)];
      ASSERT_NEAR(outputs[1][last.Index(n, c, s)], expected, 3e-7 * (1 + std::abs(expected)));
    });
  }
}

// The same batch as moments: merged from halves of it, as clients do.
TEST_F(BatchNormTest, MomentsInsteadOfValuesGiveTheSameStatistics) {
  const TestBatch whole = RandomBatch({10, 4, 5}, Layout::kChannelsFirst);
  TestBatch head = whole;
  TestBatch tail = whole;
  head.shape[0] = 3;
  tail.shape[0] = 7;
  head.values.resize(3 * 20);
  tail.values.erase(tail.values.begin(), tail.values.begin() + 3 * 20);
  const auto moments_of = [](const TestBatch& values) {
    return *ComputeBatchMoments(*Batch::Create(*values.View(), ConfigOf(values)),
                                NonFinitePolicy::kRefuse);
  };
  Moments merged = moments_of(head);
  Merge(moments_of(tail), merged);
  ASSERT_TRUE(CheckMoments(merged, ConfigOf(whole)).ok());
  RunningStats by_moments = RunningStats::Initial(4);
  by_moments.Fold(merged, ConfigOf(whole));
  RunningStats by_values = RunningStats::Initial(4);
  by_values.Fold(moments_of(whole), ConfigOf(whole));
  for (size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(by_moments.mean[c], by_values.mean[c], 1e-14);
    EXPECT_NEAR(by_moments.var[c], by_values.var[c], 1e-13 * by_values.var[c]);
  }
}

// Mean 1e6, deviation 1: x * scale - mean * scale would be off by up to 0.03.
TEST_F(BatchNormTest, OutputOfIllConditionedDataIsExactToFloat32) {
  for (const Layout layout : kLayouts) {
    const TestBatch values = MakeBatch({64, 3, 10}, layout, [this] { return 1e6F + Normal(); });
    SCOPED_TRACE(Describe(values));
    const Batch batch = *Batch::Create(*values.View(), ConfigOf(values));
    const Moments moments = *ComputeBatchMoments(batch, NonFinitePolicy::kRefuse);
    ReferenceMoments reference = ReferenceOf(values);
    for (size_t c = 0; c < 3; ++c) {
      EXPECT_NEAR(moments.mean[c], static_cast<double>(reference.mean[c]), 1e-8);
      EXPECT_NEAR(moments.m2[c], static_cast<double>(reference.m2[c]),
                  static_cast<double>(1e-9L * reference.m2[c]));
      reference.m2[c] /= static_cast<long double>(values.count());
    }
    std::vector<float> output(values.values.size());
    NormalizeBatchByItself(batch, moments, 1e-5, {}, {}, absl::MakeSpan(output));
    const ReferenceOutput expected =
        ReferenceNormalize(values, reference.mean, reference.m2, 1e-5, {}, {});
    for (size_t i = 0; i < output.size(); ++i) {
      ASSERT_NEAR(output[i], static_cast<double>(expected.values[i]), 1e-6) << i;
    }
  }
}

// The rest of a mean that float32 cannot hold must not be lost: 2^24 + 0.5 is not a float.
TEST_F(BatchNormTest, EvalCentersByAMeanThatFloat32CannotHold) {
  const TestBatch values = MakeBatch({2, 1}, Layout::kChannelsFirst, [] { return 16777216.0F; });
  const Batch batch = *Batch::Create(*values.View(), ConfigOf(values));
  const std::vector<double> mean = {16777216.5};
  const std::vector<double> var = {0.25};
  std::vector<float> output(2);
  NormalizeBatch(batch, {.mean = mean, .var = var}, absl::MakeSpan(output));
  EXPECT_EQ(output[0], -1);
  EXPECT_EQ(output[1], -1);
}

TEST_F(BatchNormTest, OutputMayOverwriteTheInput) {
  TestBatch values = RandomBatch({9, 4, 3}, Layout::kChannelsFirst);
  const Batch batch = *Batch::Create(*values.View(), ConfigOf(values));
  const Moments moments = *ComputeBatchMoments(batch, NonFinitePolicy::kRefuse);
  std::vector<float> apart(values.values.size());
  NormalizeBatchByItself(batch, moments, 1e-5, {}, {}, absl::MakeSpan(apart));
  NormalizeBatchByItself(batch, moments, 1e-5, {}, {}, absl::MakeSpan(values.values));
  EXPECT_EQ(values.values, apart);
}

}  // namespace
}  // namespace normd
