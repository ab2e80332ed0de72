// What float32 does not hold: values to its very end, a spread below 1e-19 under eps 0, weights of
// FLOAT64; every kind and layout against the plain reference.

#include "core/norm/wide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/kernels/normalize_coefficients.h"
#include "core/norm/normalization.h"
#include "tests/core/norm/family_reference.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The kernel tells by itself what float32 holds: where it says so and it is not so,
// nothing else would notice.
TEST(NormalizeCoefficientsTest, AreHeldWhereTheWalksHoldThem) {
  constexpr double kFloatMax = std::numeric_limits<float>::max();
  constexpr double kFloatMin = std::numeric_limits<float>::min();
  std::vector<double> values = {0, 1, 1e-300, kInf, kNan};
  for (const double edge : {0x1p103, kFloatMax, kFloatMin}) {
    values.push_back(std::nextafter(edge, 0));
    values.push_back(edge);
    values.push_back(std::nextafter(edge, kInf));
  }
  for (size_t i = values.size(); i-- > 1;) values.push_back(-values[i]);
  for (const double mean : values) {
    for (const double weight : values) {
      for (const double bias : values) {
        const double var = 1;
        float center = 0, scale = 0, offset = 0;
        EXPECT_EQ(ComputeNormalizeCoefficients(
                      {.mean = &mean, .var = &var, .eps = 0, .weight = &weight, .bias = &bias}, 1,
                      &center, &scale, &offset),
                  Holds<float>(mean, weight, bias))
            << "mean " << mean << ", weight " << weight << ", bias " << bias;
      }
    }
  }
}

// Where the data lies, and what it is weighted by.
struct WideCase {
  std::string name;
  double mean;
  double spread;
  double eps = 1e-5;
  double weight = 1;
  double bias = 1;
  double grad = 1;
  std::optional<double> odd_weight;  // of every third channel or column
};

void PrintTo(const WideCase& c, std::ostream* out) { *out << c.name; }

// Shapes and layouts that are walked in different ways.
std::vector<FamilyCase> Walks() {
  std::vector<FamilyCase> cases = {
      {.kind = NormKind::kLayerNorm, .sizes = {5, 19}, .normalized_axes = 1},
      {.kind = NormKind::kRmsNorm, .sizes = {5, 19}, .normalized_axes = 1},
      {.kind = NormKind::kBatchNorm, .sizes = {9, 6}},
      // As large as what is walked a few channels at a time.
      {.kind = NormKind::kBatchNorm, .sizes = {2, 6, 20000}},
  };
  for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
    for (const std::vector<int64_t>& sizes :
         {std::vector<int64_t>{3, 6, 4}, {2, 6, 5, 7}, {2, 6, 30, 30}}) {
      cases.push_back({.kind = NormKind::kBatchNorm, .sizes = sizes, .layout = layout});
      cases.push_back({.kind = NormKind::kInstanceNorm, .sizes = sizes, .layout = layout});
      cases.push_back(
          {.kind = NormKind::kGroupNorm, .sizes = sizes, .layout = layout, .num_groups = 2});
    }
  }
  return cases;
}

class WideChannelsTest : public testing::Test {
 protected:
  // Values in mean +- spread that `dtype` holds.
  std::vector<double> Draw(DataType dtype, size_t count, double mean, double spread) {
    std::uniform_real_distribution<double> uniform(-1, 1);
    std::vector<double> values(count);
    for (double& value : values) value = mean + spread * uniform(random_);
    return FromBytes(dtype, ToBytes(dtype, values));
  }

  SeededRandom random_;
};

class WideTest : public WideChannelsTest, public testing::WithParamInterface<WideCase> {};

// `size`: the magnitudes that were added up. What `dtype` does not hold is an infinity.
void ExpectHeld(DataType dtype, const std::string& bytes, const std::vector<long double>& expected,
                const std::vector<long double>& size, const std::string& what) {
  const std::vector<double> actual = FromBytes(dtype, bytes);
  const bool float32 = dtype == DataType::kFloat32;
  const long double relative = float32 ? 4e-7L : 0x1p-8L + 4e-7L;
  const long double smallest = float32 ? 0x1p-149L : 0x1p-133L;
  constexpr long double kMax = std::numeric_limits<float>::max();
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    const long double error = relative * size[i] + smallest;
    if (std::abs(expected[i]) - error > kMax) {
      ASSERT_EQ(actual[i], expected[i] > 0 ? kInf : -kInf) << what << " at " << i;
      continue;
    }
    // Either side of the end is right.
    if (std::abs(expected[i]) + error > kMax && std::isinf(actual[i])) continue;
    ASSERT_LE(std::abs(actual[i] - expected[i]), error)
        << what << " " << actual[i] << " at " << i << ", expected "
        << static_cast<double>(expected[i]);
  }
}

TEST_P(WideTest, EqualsTheReference) {
  const WideCase& data = GetParam();
  for (FamilyCase c : Walks()) {
    for (const DataType dtype : {DataType::kFloat32, DataType::kBfloat16}) {
      c.dtype = dtype;
      c.eps = data.eps;
      SCOPED_TRACE(c.ToString());
      const NormConfig config = c.Config();
      const auto features = static_cast<size_t>(config.num_features);
      const std::vector<double> x = Draw(dtype, c.NumElements(), data.mean, data.spread);
      const std::vector<double> dy = Draw(dtype, c.NumElements(), 0, data.grad);
      std::vector<double> weight(features, data.weight);
      for (size_t i = 1; i < features && data.odd_weight.has_value(); i += 3) {
        weight[i] = *data.odd_weight;
      }
      const std::vector<double> bias(HasBias(config) ? features : 0, data.bias);
      const FamilyReference reference = ReferenceOf(c, x, dy, weight, bias);

      const std::string bytes = ToBytes(dtype, x);
      const std::string dy_bytes = ToBytes(dtype, dy);
      const std::vector<int64_t> shape = c.Shape();
      const Batch batch =
          *Batch::Create(*TensorView::Create(dtype, c.layout, shape, bytes), config);
      const Affine affine = {.eps = c.eps, .eps_of_dtype = false, .weight = weight, .bias = bias};
      // In place, as a caller may.
      std::string output = bytes;
      const Batch in_place =
          *Batch::Create(*TensorView::Create(dtype, c.layout, shape, output), config);
      const auto moments = NormalizeAndComputeMoments(in_place, NonFinitePolicy::kRefuse, affine,
                                                      output.data(), ParallelRunner::Inline());
      ASSERT_TRUE(moments.ok()) << moments.status();
      ExpectHeld(dtype, output, reference.output, reference.output_size, "output");
      std::string again(bytes.size(), '\0');
      NormalizeByItself(batch, *moments, affine, again.data(), ParallelRunner::Inline());
      EXPECT_TRUE(again == output);

      std::string grad_input(bytes.size(), '\0');
      const Gradients gradients =
          BackwardByItself(batch, TensorBytes(dy_bytes), *moments, affine,
                           /*wants_parameters=*/true, grad_input.data(), ParallelRunner::Inline());
      ExpectHeld(dtype, grad_input, reference.grad_input, reference.grad_size, "grad_input");
      for (size_t i = 0; i < features; ++i) {
        ASSERT_NEAR(gradients.weight[i], static_cast<double>(reference.grad_weight[i]),
                    static_cast<double>(1e-9L * reference.weight_size[i]));
      }
      if (HasFatalFailure()) return;
    }
  }
}

const WideCase kCases[] = {
    {.name = "ToTheEndOfFloat32", .mean = 0, .spread = 3.3e38},
    {.name = "FarFromZero", .mean = 3e38, .spread = 3e37},
    {.name = "FarBelowZero", .mean = -2e38, .spread = 1e38, .weight = 1e-6},
    {.name = "WideAndSmallGradients", .mean = 0, .spread = 1e22, .grad = 1e-3},
    {.name = "NarrowUnderEpsZero", .mean = 0, .spread = 1e-25, .eps = 0},
    {.name = "SubnormalUnderEpsZero",
     .mean = 0,
     .spread = 1e-38,
     .eps = 0,
     .weight = 100,
     .grad = 1e-4},
    {.name = "WeightBeyondFloat32", .mean = 1, .spread = 2, .weight = 1e300},
    {.name = "WeightAndInvstdBeyondFloat32", .mean = 0, .spread = 1e-12, .eps = 0, .weight = 1e30},
    {.name = "WeightBelowFloat32OfAWideBatch", .mean = 0, .spread = 1e30, .weight = 1e-10},
    {.name = "BiasBeyondFloat32", .mean = 1, .spread = 2, .bias = -1e300},
    {.name = "SomeWeightsSubnormal", .mean = 1, .spread = 1e3, .bias = 0, .odd_weight = 0x1p-133},
    {.name = "SomeWeightsBeyondFloat32", .mean = 1, .spread = 2, .odd_weight = 1e300},
};

INSTANTIATE_TEST_SUITE_P(Data, WideTest, testing::ValuesIn(kCases),
                         [](const auto& c) { return c.param.name; });

// 1 / sqrt(var) = 1e39 and 1e-39, and a mean at the end of float32.
TEST(WideRunningTest, EvalIsComputedInFloat64) {
  const std::vector<double> mean = {0, 3e38, 0};
  const std::vector<double> var = {1e-78, 1e78, 1e78};
  const std::vector<double> weight = {1, 1, 1e30};
  for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
    const FamilyCase c = {.kind = NormKind::kBatchNorm, .sizes = {1, 3, 2}, .layout = layout};
    const bool last = layout == Layout::kChannelsLast;
    const std::string bytes = last ? ToBytes(c.dtype, {1e-39, -3e38, 2e30, -2e-39, 3e38, 0})
                                   : ToBytes(c.dtype, {1e-39, -2e-39, -3e38, 3e38, 2e30, 0});
    const std::vector<int64_t> shape = c.Shape();
    const Batch batch =
        *Batch::Create(*TensorView::Create(c.dtype, layout, shape, bytes), c.Config());
    const Affine affine = {.eps = 0, .eps_of_dtype = false, .weight = weight, .bias = {}};
    EXPECT_FALSE(RunningCoefficients::Create({.mean = mean, .var = var}, affine));
    std::string output(bytes.size(), '\0');
    NormalizeByRunning(batch, {.mean = mean, .var = var}, affine, output.data(),
                       ParallelRunner::Inline());
    const std::vector<long double> expected =
        last ? std::vector<long double>{1, -0.6L, 2e21L, -2, 0, 0}
             : std::vector<long double>{1, -2, -0.6L, 0, 2e21L, 0};
    std::vector<long double> size = expected;
    // The smallest floats have few digits.
    for (long double& value : size) value = 4 * std::abs(value) + 1;
    ExpectHeld(c.dtype, output, expected, size, "output");

    std::string dx(bytes.size(), '\0');
    const std::vector<double> ones(6, 1.0);
    BackwardByRunning(batch, TensorBytes(ToBytes(c.dtype, ones)), {.mean = mean, .var = var},
                      affine,
                      /*wants_parameters=*/false, dx.data(), ParallelRunner::Inline());
    const std::vector<double> grad = FromBytes(c.dtype, dx);
    EXPECT_EQ(grad[0], kInf);
    EXPECT_NEAR(grad[last ? 1 : 2], 1e-39, 1e-44);
    EXPECT_NEAR(grad[last ? 2 : 4], 1e-9, 1e-16);
  }
}

// Channels whose weights float32 holds keep the bits that they have when it holds all; float64
// gives others to many of them.
TEST_F(WideChannelsTest, LeaveTheOthersToTheKernels) {
  for (const FamilyCase& c : Walks()) {
    if (c.has_rows()) continue;
    SCOPED_TRACE(c.ToString());
    const auto features = static_cast<size_t>(c.Config().num_features);
    const std::vector<double> held(features, 1.5);
    std::vector<double> some_held = held;
    for (const size_t channel : {size_t{0}, size_t{1}, size_t{4}}) some_held[channel] = 1e-40;
    const std::string bytes = ToBytes(c.dtype, Draw(c.dtype, c.NumElements(), 1, 3));
    const std::string dy = ToBytes(c.dtype, Draw(c.dtype, c.NumElements(), 0, 1));
    const std::vector<int64_t> shape = c.Shape();
    const Batch batch =
        *Batch::Create(*TensorView::Create(c.dtype, c.layout, shape, bytes), c.Config());
    const auto moments =
        ComputeBatchMoments(batch, NonFinitePolicy::kRefuse, ParallelRunner::Inline());
    ASSERT_TRUE(moments.ok()) << moments.status();
    const std::vector<double> mean(features, 0.75);
    const std::vector<double> var(features, 3.5);

    using Call = std::function<void(const Affine&, char*)>;
    std::vector<std::pair<std::string, Call>> calls;
    calls.emplace_back("train", [&](const Affine& affine, char* to) {
      NormalizeByItself(batch, *moments, affine, to, ParallelRunner::Inline());
    });
    if (c.kind == NormKind::kBatchNorm) {
      calls.emplace_back("eval", [&](const Affine& affine, char* to) {
        NormalizeByRunning(batch, {.mean = mean, .var = var}, affine, to, ParallelRunner::Inline());
      });
      calls.emplace_back("eval backward", [&](const Affine& affine, char* to) {
        BackwardByRunning(batch, TensorBytes(dy), {.mean = mean, .var = var}, affine,
                          /*wants_parameters=*/false, to, ParallelRunner::Inline());
      });
    }
    // In a group the gradients of one channel depend on the weights of all.
    if (c.kind != NormKind::kGroupNorm) {
      calls.emplace_back("train backward", [&](const Affine& affine, char* to) {
        BackwardByItself(batch, TensorBytes(dy), *moments, affine, /*wants_parameters=*/false, to,
                         ParallelRunner::Inline());
      });
    }
    const std::vector<size_t> channels = PlacesOf(c).parameter;
    for (const auto& named : calls) {
      SCOPED_TRACE(named.first);
      const auto called_with = [&](const std::vector<double>& weight) {
        std::string result(bytes.size(), '\0');
        named.second({.eps = 1e-5, .eps_of_dtype = false, .weight = weight, .bias = {}},
                     result.data());
        return FromBytes(c.dtype, result);
      };
      const std::vector<double> expected = called_with(held);
      const std::vector<double> actual = called_with(some_held);
      for (size_t i = 0; i < actual.size(); ++i) {
        if (some_held[channels[i]] == held[channels[i]]) {
          ASSERT_EQ(actual[i], expected[i]) << i;
        } else {
          // To the last digit of what is left, the smallest float.
          ASSERT_NEAR(actual[i], expected[i] / 1.5 * 1e-40, 0x1p-149) << i;
        }
      }
    }
  }
}

// The cube of 1 / sqrt(var) is beyond float64.
TEST(WideGradientTest, ANarrowSetOfFloat64HasFiniteGradients) {
  const FamilyCase c = {.sizes = {4, 1}, .dtype = DataType::kFloat64, .eps = 0};
  const std::vector<double> x = {1e-120, 2e-120, -3e-120, 5e-120};
  const std::vector<double> dy = {1e-120, 0, 2e-120, -1e-120};
  const FamilyReference reference = ReferenceOf(c, x, dy, {1.0}, {0.0});
  const std::string bytes = ToBytes(c.dtype, x);
  const std::vector<int64_t> shape = c.Shape();
  const Batch batch =
      *Batch::Create(*TensorView::Create(c.dtype, c.layout, shape, bytes), c.Config());
  const auto moments =
      ComputeBatchMoments(batch, NonFinitePolicy::kRefuse, ParallelRunner::Inline());
  ASSERT_TRUE(moments.ok()) << moments.status();
  std::string dx(bytes.size(), '\0');
  BackwardByItself(batch, TensorBytes(ToBytes(c.dtype, dy)), *moments,
                   {.eps = 0, .eps_of_dtype = false, .weight = {}, .bias = {}}, false, dx.data(),
                   ParallelRunner::Inline());
  const std::vector<double> actual = FromBytes(c.dtype, dx);
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], static_cast<double>(reference.grad_input[i]),
                static_cast<double>(1e-13L * reference.grad_size[i]));
  }
}

// torch gives NaN for the infinities, whose mean square is infinite, and 0 for what is finite; with
// a NaN all is NaN.
TEST(RmsNormTest, InfinitiesOfBothSignsLeaveTheFiniteValueZero) {
  const FamilyCase c = {.kind = NormKind::kRmsNorm, .sizes = {3, 3}, .normalized_axes = 1};
  const std::string bytes = ToBytes(c.dtype, {kInf, -kInf, 1, kInf, kNan, 1, 3, 3, 3});
  const std::vector<int64_t> shape = c.Shape();
  const Batch batch =
      *Batch::Create(*TensorView::Create(c.dtype, c.layout, shape, bytes), c.Config());
  std::string output(bytes.size(), '\0');
  ASSERT_TRUE(
      NormalizeAndComputeMoments(batch, NonFinitePolicy::kPropagate,
                                 {.eps = 0, .eps_of_dtype = false, .weight = {}, .bias = {}},
                                 output.data(), ParallelRunner::Inline())
          .ok());
  EXPECT_THAT(FromBytes(c.dtype, output),
              testing::ElementsAre(testing::IsNan(), testing::IsNan(), 0, testing::IsNan(),
                                   testing::IsNan(), testing::IsNan(), 1, 1, 1));
}

}  // namespace
}  // namespace normd
