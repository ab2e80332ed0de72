// Refusals, empty batches, variance zero and values that are not finite.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/norm/normalization.h"
#include "core/norm/running_stats.h"
#include "tests/core/error_matchers.h"
#include "tests/core/norm/batch_norm_reference.h"

namespace normd {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

using Shape = std::vector<int64_t>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kHuge = int64_t{1} << 40;

// A batch of zeros.
absl::StatusOr<Batch> CreateBatch(const Shape& shape, Layout layout, int64_t num_features) {
  static const std::vector<float>* const kZeros = new std::vector<float>(1000);
  const auto bytes = ShapeBytes(DataType::kFloat32, shape);
  const auto tensor =
      TensorView::Create(DataType::kFloat32, layout, shape,
                         absl::string_view(reinterpret_cast<const char*>(kZeros->data()),
                                           static_cast<size_t>(*bytes)));
  return Batch::Create(*tensor, {.num_features = num_features});
}

TEST(BatchCreateTest, RefusesRanksOtherThanTwoToFive) {
  for (const auto& [shape, message] :
       {std::pair(Shape{}, "input has rank 0 (shape []), expected rank 2 to 5"),
        std::pair(Shape{3}, "input has rank 1 (shape [3]), expected rank 2 to 5"),
        std::pair(Shape{1, 3, 1, 1, 1, 2},
                  "input has rank 6 (shape [1,3,1,1,1,2]), expected rank 2 to 5")}) {
    const auto batch = CreateBatch(shape, Layout::kChannelsFirst, 3);
    EXPECT_THAT(batch, IsError(Reason::kRankUnsupported, message));
    EXPECT_THAT(GetErrorMetadata(batch.status()),
                Contains(Pair("actual", std::to_string(shape.size()))));
  }
  EXPECT_THAT(CreateBatch(Shape(500, 1), Layout::kChannelsLast, 1),
              IsError(Reason::kRankUnsupported, HasSubstr("input has rank 500")));
}

TEST(BatchCreateTest, RefusesAnotherNumberOfChannels) {
  const auto batch = CreateBatch({8, 32}, Layout::kChannelsFirst, 64);
  EXPECT_THAT(batch, IsError(Reason::kChannelCountMismatch,
                             "num_features is 64, input has 32 channels (axis 1 of shape [8,32])"));
  EXPECT_THAT(
      GetErrorMetadata(batch.status()),
      ElementsAre(Pair("actual", "32"), Pair("expected", "64"), Pair("field", "input.shape")));
  EXPECT_THAT(CreateBatch({2, 3, 4, 5}, Layout::kChannelsLast, 3),
              IsError(Reason::kChannelCountMismatch,
                      "num_features is 3, input has 5 channels (axis 3 of shape [2,3,4,5])"));
  EXPECT_THAT(CreateBatch({4, 0}, Layout::kChannelsFirst, 3),
              HasReason(Reason::kChannelCountMismatch));
  EXPECT_THAT(CreateBatch({0, 2}, Layout::kChannelsFirst, 3),
              HasReason(Reason::kChannelCountMismatch));
}

TEST(BatchNormEdgesTest, EmptyBatchHasCountZeroAndAnEmptyOutput) {
  struct Case {
    Shape shape;
    Layout layout;
  };
  const std::vector<Case> cases = {
      {{0, 3}, Layout::kChannelsFirst},
      {{0, 3}, Layout::kChannelsLast},
      {{4, 3, 0}, Layout::kChannelsFirst},
      {{4, 0, 3}, Layout::kChannelsLast},
      {{2, 3, 5, 0}, Layout::kChannelsFirst},
      {{2, 3, 0, 5}, Layout::kChannelsFirst},
      {{2, 3, 0, 4, 5}, Layout::kChannelsFirst},
      {{2, 0, 4, 5, 3}, Layout::kChannelsLast},
      {{0, 3, 0, 0}, Layout::kChannelsFirst},
      {{0, 3, kHuge, kHuge}, Layout::kChannelsFirst},
      {{0, kHuge, kHuge, 3}, Layout::kChannelsLast},
      {{kHuge, 3, kHuge, 0}, Layout::kChannelsFirst},
      {{kHuge, kHuge, kHuge, 0, 3}, Layout::kChannelsLast},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(ShapeToString(c.shape));
    const auto batch = CreateBatch(c.shape, c.layout, 3);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->count(), 0);
    EXPECT_EQ(batch->num_elements(), 0U);
    EXPECT_TRUE(CheckValuesPerSet(batch->count(), NormKind::kBatchNorm).ok());
    const auto moments = ComputeBatchMoments(*batch, NonFinitePolicy::kRefuse);
    ASSERT_TRUE(moments.ok()) << moments.status();
    EXPECT_EQ(moments->count, 0);
    EXPECT_THAT(moments->mean, ElementsAre(0, 0, 0));
    EXPECT_THAT(moments->m2, ElementsAre(0, 0, 0));
    NormalizeBatchByItself(*batch, *moments, 1e-5, {}, {}, {});
    const std::vector<double> ones(3, 1.0);
    NormalizeBatch(*batch, {.mean = ones, .var = ones}, {});
  }
}

TEST(BatchNormEdgesTest, OneValuePerChannelIsRefusedInTrainingInEveryRank) {
  for (const Shape& shape :
       {Shape{1, 3}, Shape{1, 3, 1}, Shape{1, 3, 1, 1}, Shape{1, 3, 1, 1, 1}}) {
    const auto batch = CreateBatch(shape, Layout::kChannelsFirst, 3);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_THAT(CheckValuesPerSet(batch->count(), NormKind::kBatchNorm),
                HasReason(Reason::kOneValuePerChannel));
  }
  EXPECT_TRUE(CheckValuesPerSet(CreateBatch({1, 3, 2}, Layout::kChannelsFirst, 3)->count(),
                                NormKind::kBatchNorm)
                  .ok());
}

// One value per channel is fine in eval mode.
TEST(BatchNormEdgesTest, EvalTakesOneValuePerChannel) {
  const TestBatch values = {.shape = {1, 2}, .values = {3, 5}};
  const Batch batch = *Batch::Create(*values.View(), {.num_features = 2});
  const std::vector<double> mean = {1, 1};
  const std::vector<double> var = {4, 1};
  std::vector<float> output(2);
  NormalizeBatch(batch, {.mean = mean, .var = var}, absl::MakeSpan(output));
  EXPECT_THAT(output, ElementsAre(1, 4));
}

class ZeroVarianceTest : public testing::Test {
 protected:
  static constexpr float kValue = 0.3F;
  static constexpr float kWeight = 2.0F;
  static constexpr float kBias = 0.75F;

  static TestBatch Constant(int64_t count) {
    return {.shape = {count, 1}, .values = std::vector<float>(static_cast<size_t>(count), kValue)};
  }
};

TEST_F(ZeroVarianceTest, TrainUnderEpsZeroGivesTheBias) {
  for (const int64_t count : {2, 3, 7, 17, 100, 4099}) {
    const TestBatch values = Constant(count);
    const Batch batch = *Batch::Create(*values.View(), {.num_features = 1});
    const Moments moments = *ComputeBatchMoments(batch, NonFinitePolicy::kRefuse);
    EXPECT_EQ(moments.m2[0], 0) << count;
    std::vector<float> output(values.values.size(), kNan);
    NormalizeBatchByItself(batch, moments, 0, {}, {}, absl::MakeSpan(output));
    EXPECT_THAT(output, Each(0.0F)) << count;
    NormalizeBatchByItself(batch, moments, 0, {&kWeight, 1}, {&kBias, 1}, absl::MakeSpan(output));
    EXPECT_THAT(output, Each(kBias)) << count;
  }
}

TEST_F(ZeroVarianceTest, TrainUnderPositiveEpsGivesTheBias) {
  const TestBatch values = Constant(5);
  const Batch batch = *Batch::Create(*values.View(), {.num_features = 1});
  std::vector<float> output(5, kNan);
  NormalizeBatchByItself(batch, *ComputeBatchMoments(batch, NonFinitePolicy::kRefuse), 1e-5,
                         {&kWeight, 1}, {&kBias, 1}, absl::MakeSpan(output));
  EXPECT_THAT(output, Each(kBias));
}

TEST_F(ZeroVarianceTest, EvalUnderEpsZeroGivesNan) {
  const TestBatch values = Constant(5);
  const Batch batch = *Batch::Create(*values.View(), {.num_features = 1});
  const std::vector<double> mean = {static_cast<double>(kValue)};
  const std::vector<double> var = {0.0};
  std::vector<float> output(5, 0.0F);
  NormalizeBatch(batch, {.mean = mean, .var = var, .eps = 0}, absl::MakeSpan(output));
  for (const float y : output) EXPECT_TRUE(std::isnan(y)) << y;
}

TEST_F(ZeroVarianceTest, OtherChannelsAreNormalizedAsEver) {
  const TestBatch values = {.shape = {2, 2}, .values = {5, -1, 5, 1}};
  const Batch batch = *Batch::Create(*values.View(), {.num_features = 2});
  std::vector<float> output(4);
  NormalizeBatchByItself(batch, *ComputeBatchMoments(batch, NonFinitePolicy::kRefuse), 0, {}, {},
                         absl::MakeSpan(output));
  EXPECT_THAT(output, ElementsAre(0, -1, 0, 1));
}

struct NonFiniteCase {
  float bad;
  std::string shown;
};

class NonFiniteTest : public testing::TestWithParam<Layout> {
 protected:
  // [6, 5, 7, 9] or [6, 7, 9, 5]; no value stands where another does.
  static TestBatch Finite() {
    float next = 0;
    return MakeBatch({6, 5, 7, 9}, GetParam(), [&next] { return std::sin(next += 1); });
  }
};

TEST_P(NonFiniteTest, IsRefusedWithTheRowMajorIndexOfTheFirst) {
  for (const auto& [bad, shown] :
       {NonFiniteCase{kNan, "nan"}, NonFiniteCase{kInf, "inf"}, NonFiniteCase{-kInf, "-inf"}}) {
    for (const size_t index : {size_t{0}, size_t{1}, size_t{63}, size_t{777}, size_t{1889}}) {
      TestBatch values = Finite();
      ASSERT_EQ(values.values.size(), 1890U);
      values.values[index] = bad;
      // A later one of another kind in another channel is not the first.
      if (index + 100 < values.values.size()) values.values[index + 100] = -bad;
      const Batch batch = *Batch::Create(*values.View(), {.num_features = 5});
      const auto moments = ComputeBatchMoments(batch, NonFinitePolicy::kRefuse);
      EXPECT_THAT(moments, IsError(Reason::kNonFiniteValue,
                                   "input is " + shown + " at index " + std::to_string(index) +
                                       " (row-major), expected finite values"));
      EXPECT_THAT(GetErrorMetadata(moments.status()),
                  ElementsAre(Pair("field", "input"), Pair("index", std::to_string(index))));
    }
  }
}

TEST_P(NonFiniteTest, UnderPropagatePoisonsItsChannelAlone) {
  const TestBatch clean = Finite();
  const Batch clean_batch = *Batch::Create(*clean.View(), {.num_features = 5});
  const Moments clean_moments = *ComputeBatchMoments(clean_batch, NonFinitePolicy::kRefuse);
  std::vector<float> clean_output(clean.values.size());
  NormalizeBatchByItself(clean_batch, clean_moments, 1e-5, {}, {}, absl::MakeSpan(clean_output));

  constexpr int64_t kPoisoned = 3;
  for (const float bad : {kNan, kInf, -kInf}) {
    SCOPED_TRACE(bad);
    TestBatch values = clean;
    values.values[values.Index(4, kPoisoned, 50)] = bad;
    const Batch batch = *Batch::Create(*values.View(), {.num_features = 5});
    const auto moments = ComputeBatchMoments(batch, NonFinitePolicy::kPropagate);
    ASSERT_TRUE(moments.ok()) << moments.status();
    std::vector<float> output(values.values.size());
    NormalizeBatchByItself(batch, *moments, 1e-5, {}, {}, absl::MakeSpan(output));
    RunningStats stats = RunningStats::Initial(5);
    stats.Fold(*moments, {.num_features = 5, .momentum = 1.0});

    if (std::isnan(bad)) {
      EXPECT_TRUE(std::isnan(moments->mean[kPoisoned]));
      EXPECT_TRUE(std::isnan(stats.mean[kPoisoned]));
    } else {
      EXPECT_EQ(moments->mean[kPoisoned], bad);
    }
    EXPECT_TRUE(std::isnan(moments->m2[kPoisoned]));
    EXPECT_TRUE(std::isnan(stats.var[kPoisoned]));
    for (int64_t c = 0; c < 5; ++c) {
      if (c != kPoisoned) {
        EXPECT_EQ(moments->mean[c], clean_moments.mean[c]);
        EXPECT_EQ(moments->m2[c], clean_moments.m2[c]);
      }
      for (int64_t n = 0; n < values.samples(); ++n) {
        for (int64_t s = 0; s < values.spatial(); ++s) {
          const size_t i = values.Index(n, c, s);
          if (c == kPoisoned) {
            ASSERT_TRUE(std::isnan(output[i])) << i;
          } else {
            ASSERT_EQ(output[i], clean_output[i]) << i;
          }
        }
      }
    }
  }
}

TEST_P(NonFiniteTest, InfinitiesOfBothSignsGiveAMeanOfNan) {
  TestBatch values = Finite();
  values.values[values.Index(0, 2, 3)] = kInf;
  values.values[values.Index(5, 2, 8)] = -kInf;
  const Batch batch = *Batch::Create(*values.View(), {.num_features = 5});
  const Moments moments = *ComputeBatchMoments(batch, NonFinitePolicy::kPropagate);
  EXPECT_TRUE(std::isnan(moments.mean[2]));
  EXPECT_TRUE(std::isnan(moments.m2[2]));
  EXPECT_TRUE(std::isfinite(moments.mean[1]));
}

// The sums of their squares must not overflow.
TEST_P(NonFiniteTest, LargestFloatsAreFinite) {
  TestBatch values = Finite();
  const float largest = std::numeric_limits<float>::max();
  for (size_t i = 0; i < values.values.size(); ++i) {
    values.values[i] = i % 2 == 0 ? largest : -largest;
  }
  const Batch batch = *Batch::Create(*values.View(), {.num_features = 5});
  const auto moments = ComputeBatchMoments(batch, NonFinitePolicy::kRefuse);
  ASSERT_TRUE(moments.ok()) << moments.status();
  for (const double m2 : moments->m2) EXPECT_TRUE(std::isfinite(m2));
}

INSTANTIATE_TEST_SUITE_P(Layouts, NonFiniteTest,
                         testing::Values(Layout::kChannelsFirst, Layout::kChannelsLast),
                         [](const auto& layout) {
                           return layout.param == Layout::kChannelsFirst ? "ChannelsFirst"
                                                                         : "ChannelsLast";
                         });

}  // namespace
}  // namespace normd
