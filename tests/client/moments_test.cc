#include "client/cpp/moments.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "client/cpp/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/seeded_random.h"

namespace normd::client {
namespace {

using ::testing::DoubleEq;
using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;

struct Case {
  std::string name;
  std::vector<int64_t> shape;
  Layout layout;
};

class ComputeMomentsTest : public ::testing::TestWithParam<Case> {};

TEST_P(ComputeMomentsTest, EqualsTheTwoPassReferenceInLongDouble) {
  const std::vector<int64_t>& shape = GetParam().shape;
  const bool last = GetParam().layout == Layout::kChannelsLast;
  const int64_t channels = last ? shape.back() : shape[1];
  int64_t elements = 1;
  for (const int64_t axis : shape) elements *= axis;
  const int64_t spatial = last ? 1 : elements / shape[0] / channels;

  SeededRandom random;
  std::normal_distribution<float> value(1000.0f, 1.0f);
  std::vector<float> values(static_cast<size_t>(elements));
  for (float& x : values) x = value(random);

  const auto moments = ComputeMoments(Batch::Borrow(shape, values, GetParam().layout));
  ASSERT_TRUE(moments.ok()) << moments.status();
  ASSERT_EQ(moments->count, elements / channels);
  ASSERT_THAT(moments->mean, SizeIs(channels));
  ASSERT_THAT(moments->m2, SizeIs(channels));
  for (int64_t c = 0; c < channels; ++c) {
    const auto for_each_value = [&](auto visit) {
      for (int64_t i = 0; i < elements; ++i) {
        if ((i / spatial) % channels == c) visit(static_cast<long double>(values[i]));
      }
    };
    long double sum = 0;
    for_each_value([&sum](long double x) { sum += x; });
    const long double mean = sum / moments->count;
    long double m2 = 0;
    for_each_value([&](long double x) { m2 += (x - mean) * (x - mean); });
    EXPECT_NEAR(moments->mean[c], mean, 1e-10);
    EXPECT_NEAR(moments->m2[c], m2, 1e-10 * static_cast<double>(m2) + 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ComputeMomentsTest,
                         ::testing::Values(Case{"Rank2", {33, 7}, Layout::kChannelsFirst},
                                           Case{"Rank2Last", {33, 7}, Layout::kChannelsLast},
                                           Case{"Rank3", {5, 3, 11}, Layout::kChannelsFirst},
                                           Case{"Rank3Last", {5, 11, 3}, Layout::kChannelsLast},
                                           Case{"Rank4", {4, 6, 5, 3}, Layout::kChannelsFirst},
                                           Case{"Rank4Last", {4, 5, 3, 6}, Layout::kChannelsLast},
                                           Case{"Rank5", {2, 3, 4, 5, 6}, Layout::kChannelsFirst},
                                           Case{
                                               "Rank5Last", {2, 4, 5, 6, 3}, Layout::kChannelsLast},
                                           Case{"OneValue", {1, 1}, Layout::kChannelsFirst}),
                         [](const auto& test) { return test.param.name; });

// One value a set and dtype, all exact in the narrowest: [N,C,L] = [2,2,3].
const std::vector<double>& SmallValues() {
  static const auto* const kValues =
      new std::vector<double>{1, 2, 3, -4, 0, 4, 10, 20, 30, 0.5, 0.5, 0.5};
  return *kValues;
}

TEST(ComputeMomentsKindTest, InstanceNormHasASetASampleAndChannelInBothLayouts) {
  const std::vector<double>& first = SmallValues();
  std::vector<double> last(first.size());
  for (size_t n = 0; n < 2; ++n) {
    for (size_t c = 0; c < 2; ++c) {
      for (size_t l = 0; l < 3; ++l) last[(n * 3 + l) * 2 + c] = first[(n * 2 + c) * 3 + l];
    }
  }
  for (const Batch& batch :
       {Batch::Borrow({2, 2, 3}, first), Batch::Borrow({2, 3, 2}, last, Layout::kChannelsLast)}) {
    const auto moments = ComputeMoments(batch, NormKind::kInstanceNorm);
    ASSERT_TRUE(moments.ok()) << moments.status();
    EXPECT_EQ(moments->count, 3);
    EXPECT_THAT(moments->mean, ElementsAre(2, 0, 20, 0.5));
    EXPECT_THAT(moments->m2, ElementsAre(2, 32, 200, 0));
  }
}

TEST(ComputeMomentsKindTest, EveryDtypeGivesTheMomentsOfItsValues) {
  const Batch doubles = Batch::Borrow({2, 2, 3}, SmallValues());
  for (const DataType dtype :
       {DataType::kFloat32, DataType::kFloat64, DataType::kFloat16, DataType::kBfloat16}) {
    const auto batch = Convert(doubles, dtype);
    ASSERT_TRUE(batch.ok()) << batch.status();
    const auto moments = ComputeMoments(*batch);
    ASSERT_TRUE(moments.ok()) << moments.status();
    EXPECT_EQ(moments->count, 6);
    EXPECT_THAT(moments->mean, ElementsAre(DoubleEq(11), DoubleEq(0.25))) << DataTypeName(dtype);
    EXPECT_THAT(moments->m2, ElementsAre(DoubleNear(688, 1e-9), DoubleNear(32.375, 1e-9)))
        << DataTypeName(dtype);
  }
}

TEST(ComputeMomentsKindTest, RefusesKindsThatDoNotTrainWithMoments) {
  for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kGroupNorm, NormKind::kRmsNorm}) {
    EXPECT_EQ(ErrorReason(ComputeMoments(Batch::Own({2, 2}, {1, 2, 3, 4}), kind).status()),
              "MOMENTS_NOT_POSSIBLE");
  }
  EXPECT_EQ(ErrorReason(
                ComputeMoments(Batch::Own({2, 2}, {1, 2, 3, 4}), NormKind::kInstanceNorm).status()),
            "RANK_UNSUPPORTED");
}

TEST(ComputeMomentsEdgeTest, AnEmptyBatchHasCountZeroForEveryChannel) {
  const auto moments = ComputeMoments(Batch::Own({0, 4, 3}, {}));
  ASSERT_TRUE(moments.ok()) << moments.status();
  EXPECT_EQ(moments->count, 0);
  EXPECT_THAT(moments->mean, SizeIs(4));
  EXPECT_THAT(moments->m2, SizeIs(4));
  EXPECT_THAT(moments->m2, Each(0.0));
}

TEST(ComputeMomentsEdgeTest, AValueThatIsNotFiniteStaysInItsChannel) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto moments = ComputeMoments(Batch::Own({2, 2}, {1, nan, 3, 4}));
  ASSERT_TRUE(moments.ok()) << moments.status();
  EXPECT_EQ(moments->mean[0], 2.0);
  EXPECT_EQ(moments->m2[0], 2.0);
  EXPECT_TRUE(std::isnan(moments->m2[1]));
}

TEST(ComputeMomentsEdgeTest, RefusesAShapeThatDoesNotFitWithAReason) {
  const auto reason = [](std::vector<int64_t> shape, std::vector<float> values) {
    const absl::Status status =
        ComputeMoments(Batch::Own(std::move(shape), std::move(values))).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return ErrorReason(status);
  };
  EXPECT_EQ(reason({3}, {1, 2, 3}), "RANK_UNSUPPORTED");
  EXPECT_EQ(reason({1, 1, 1, 1, 1, 1}, {1}), "RANK_UNSUPPORTED");
  EXPECT_EQ(reason({-1, 3}, {1, 2, 3}), "DIMENSION_NEGATIVE");
  EXPECT_EQ(reason({int64_t{1} << 40, int64_t{1} << 40}, {1}), "SHAPE_OVERFLOW");
  EXPECT_EQ(reason({2, 2}, {1, 2, 3}), "DATA_LENGTH_MISMATCH");
}

}  // namespace
}  // namespace normd::client
