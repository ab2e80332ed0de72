// Forward and backward of every kind, dtype and layout against the plain reference, on one thread
// and spread over several.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/norm/normalization.h"
#include "tests/core/error_matchers.h"
#include "tests/core/norm/family_reference.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

// Relative to the magnitudes that are added up: what computing in the dtype's compute type costs
// (a few roundings of 2^-24 or 2^-53), and half a unit in the last place of the dtype itself.
struct Tolerance {
  double relative;
  double absolute;  // half of the smallest subnormal of a 16-bit type
};

Tolerance ToleranceOf(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat64:
      return {1e-13, 0};
    case DataType::kFloat16:
      return {0x1p-11 + 4e-7, 0x1p-25};
    case DataType::kBfloat16:
      return {0x1p-8 + 4e-7, 0};
    case DataType::kFloat32:
      break;
  }
  return {4e-7, 0};
}

constexpr DataType kDataTypes[] = {DataType::kFloat32, DataType::kFloat64, DataType::kFloat16,
                                   DataType::kBfloat16};

std::vector<FamilyCase> Cases() {
  std::vector<FamilyCase> cases;
  const std::vector<std::vector<int64_t>> sizes = {
      {4, 6},        {33, 12},       {2, 6, 1},       {3, 6, 7},
      {2, 12, 5, 5}, {1, 6, 40},     {5, 6, 3, 3, 2}, {2, 12, 9, 1},
      {7, 24, 16},   {2, 6, 70, 31}, {200, 6, 3},     {1, 48, 20, 20},
      {40, 192, 2},  {3, 6, 90, 90}, {600, 96},       {64, 6, 4, 4, 3},
  };
  for (const auto& size : sizes) {
    for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
      cases.push_back({.kind = NormKind::kBatchNorm, .sizes = size, .layout = layout});
      for (const int64_t groups : {int64_t{1}, int64_t{2}, int64_t{3}, size[1]}) {
        cases.push_back(
            {.kind = NormKind::kGroupNorm, .sizes = size, .layout = layout, .num_groups = groups});
      }
      if (size.size() > 2) {
        cases.push_back({.kind = NormKind::kInstanceNorm, .sizes = size, .layout = layout});
      }
    }
  }
  for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    for (const std::vector<int64_t>& size : {std::vector<int64_t>{7},
                                             {4, 1},
                                             {3, 5},
                                             {33, 17},
                                             {2, 3, 64},
                                             {1, 768},
                                             {50, 768},
                                             {300, 100},
                                             {2, 2, 2, 2, 2, 9},
                                             {5, 4099}}) {
      for (size_t axes = 1; axes <= std::min<size_t>(size.size(), 2); ++axes) {
        cases.push_back({.kind = kind, .sizes = size, .normalized_axes = axes});
      }
    }
  }
  return cases;
}

class FamilyTest : public testing::TestWithParam<DataType> {
 protected:
  // `count` values around `mean` that the dtype holds exactly.
  std::vector<double> Draw(DataType dtype, size_t count, double mean) {
    std::normal_distribution<double> normal(mean, 1.5);
    std::vector<double> values(count);
    for (double& value : values) value = normal(random_);
    return FromBytes(dtype, ToBytes(dtype, values));
  }

  void Check(const FamilyCase& c, ParallelRunner* runner);

  SeededRandom random_;
};

void ExpectClose(const std::vector<double>& actual, const std::vector<long double>& expected,
                 const std::vector<long double>& size, const Tolerance& tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_LE(std::abs(actual[i] - expected[i]),
              tolerance.relative * size[i] + tolerance.absolute + 1e-14L)
        << what << " " << actual[i] << " at " << i << ", expected "
        << static_cast<double>(expected[i]);
  }
}

void FamilyTest::Check(const FamilyCase& c, ParallelRunner* runner) {
  SCOPED_TRACE(c.ToString());
  const NormConfig config = c.Config();
  const auto features = static_cast<size_t>(config.num_features);
  const std::vector<double> x = Draw(c.dtype, c.NumElements(), 2);
  const std::vector<double> dy = Draw(c.dtype, c.NumElements(), 0.25);
  std::vector<double> weight;
  std::vector<double> bias;
  if (c.affine) weight = Draw(DataType::kFloat32, features, 1);
  if (HasBias(config)) bias = Draw(DataType::kFloat32, features, 0);
  const FamilyReference reference = ReferenceOf(c, x, dy, weight, bias);

  const std::string bytes = ToBytes(c.dtype, x);
  const std::vector<int64_t> shape = c.Shape();
  const auto tensor = TensorView::Create(c.dtype, c.layout, shape, bytes);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  const auto batch = Batch::Create(*tensor, config);
  ASSERT_TRUE(batch.ok()) << batch.status();
  ASSERT_EQ(batch->sets(), reference.mean.size());
  ASSERT_EQ(static_cast<size_t>(batch->count()) * batch->sets(), x.size());

  const auto moments = ComputeBatchMoments(*batch, NonFinitePolicy::kRefuse, runner);
  ASSERT_TRUE(moments.ok()) << moments.status();
  for (size_t set = 0; set < reference.mean.size(); ++set) {
    ASSERT_NEAR(moments->mean[set], static_cast<double>(reference.mean[set]), 1e-12) << set;
    ASSERT_NEAR(moments->m2[set], static_cast<double>(reference.m2[set]),
                static_cast<double>(1e-10L * reference.m2[set]) + 1e-20)
        << set;
  }

  const Affine affine = {.eps = config.eps, .eps_of_dtype = false, .weight = weight, .bias = bias};
  const Tolerance tolerance = ToleranceOf(c.dtype);
  std::string output(bytes.size(), '\0');
  NormalizeByItself(*batch, *moments, affine, output.data(), runner);
  ExpectClose(FromBytes(c.dtype, output), reference.output, reference.output_size, tolerance,
              "output");
  std::string fused(bytes.size(), '\0');
  const auto fused_moments =
      NormalizeAndComputeMoments(*batch, NonFinitePolicy::kRefuse, affine, fused.data(), runner);
  ASSERT_TRUE(fused_moments.ok()) << fused_moments.status();
  EXPECT_EQ(fused_moments->count, moments->count);
  ExpectClose(FromBytes(c.dtype, fused), reference.output, reference.output_size, tolerance,
              "fused output");

  const std::string dy_bytes = ToBytes(c.dtype, dy);
  std::string grad_input(bytes.size(), '\0');
  const Gradients gradients =
      BackwardByItself(*batch, TensorBytes(dy_bytes), *moments, affine,
                       /*wants_parameters=*/true, grad_input.data(), runner);
  ExpectClose(FromBytes(c.dtype, grad_input), reference.grad_input, reference.grad_size, tolerance,
              "grad_input");
  constexpr Tolerance kSums = {1e-11, 1e-12};
  if (c.affine) {
    ExpectClose(gradients.weight, reference.grad_weight, reference.weight_size, kSums,
                "grad_weight");
  } else {
    EXPECT_TRUE(gradients.weight.empty());
  }
  if (HasBias(config)) {
    ExpectClose(gradients.bias, reference.grad_bias, reference.bias_size, kSums, "grad_bias");
  } else {
    EXPECT_TRUE(gradients.bias.empty());
  }

  const Gradients parameters_alone =
      BackwardByItself(*batch, TensorBytes(dy_bytes), *moments, affine,
                       /*wants_parameters=*/true, nullptr, runner);
  EXPECT_EQ(parameters_alone.weight, gradients.weight);
  EXPECT_EQ(parameters_alone.bias, gradients.bias);
  std::string input_alone(bytes.size(), '\0');
  const Gradients none = BackwardByItself(*batch, TensorBytes(dy_bytes), *moments, affine,
                                          /*wants_parameters=*/false, input_alone.data(), runner);
  EXPECT_TRUE(none.weight.empty() && none.bias.empty());
  EXPECT_TRUE(input_alone == grad_input);
}

TEST_P(FamilyTest, EqualsTheReferenceOnOneThread) {
  for (FamilyCase c : Cases()) {
    c.dtype = GetParam();
    Check(c, ParallelRunner::Inline());
    if (HasFatalFailure()) return;
    c.affine = false;
    Check(c, ParallelRunner::Inline());
    if (HasFatalFailure()) return;
  }
}

TEST_P(FamilyTest, EqualsTheReferenceOnSeveralThreads) {
  const std::unique_ptr<ParallelRunner> runner = MakeParallelRunner(3);
  for (FamilyCase c : Cases()) {
    // The others are too small to be spread: two pieces of 32 Ki values.
    if (c.NumElements() < (size_t{64} << 10)) continue;
    c.dtype = GetParam();
    Check(c, runner.get());
    if (HasFatalFailure()) return;
  }
  for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    for (const std::vector<int64_t>& sizes :
         {std::vector<int64_t>{130, 768}, {3, 40000}, {20000, 5}}) {
      Check({.kind = kind, .sizes = sizes, .normalized_axes = 1, .dtype = GetParam()},
            runner.get());
      if (HasFatalFailure()) return;
    }
  }
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{64, 3, 50, 50}, {40000, 3}, {3000, 200}, {2, 1, 300, 300}}) {
    for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
      Check({.kind = NormKind::kBatchNorm, .sizes = sizes, .layout = layout, .dtype = GetParam()},
            runner.get());
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(FamilyTest, EvalGradientsTakeTheRunningStatisticsAsConstants) {
  for (const NormKind kind : {NormKind::kBatchNorm, NormKind::kInstanceNorm}) {
    for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
      const FamilyCase c = {
          .kind = kind, .sizes = {5, 6, 4, 9}, .layout = layout, .dtype = GetParam()};
      SCOPED_TRACE(c.ToString());
      const std::vector<double> x = Draw(c.dtype, c.NumElements(), 2);
      const std::vector<double> dy = Draw(c.dtype, c.NumElements(), 0.25);
      const std::vector<double> weight = Draw(DataType::kFloat32, 6, 1);
      const std::vector<double> bias = Draw(DataType::kFloat32, 6, 0);
      const std::vector<double> mean = Draw(DataType::kFloat64, 6, 2);
      std::vector<double> var = Draw(DataType::kFloat64, 6, 2);
      for (double& v : var) v = std::abs(v);
      const FamilyPlaces places = PlacesOf(c);
      std::vector<long double> grad_input;
      std::vector<long double> size;
      std::vector<long double> grad_weight(6);
      std::vector<long double> grad_bias(6);
      std::vector<long double> weight_size(6);
      std::vector<long double> bias_size(6);
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t p = places.parameter[i];
        const long double invstd = 1 / std::sqrt(static_cast<long double>(var[p]) + c.eps);
        grad_input.push_back(dy[i] * weight[p] * invstd);
        size.push_back(std::abs(grad_input.back()));
        grad_weight[p] += dy[i] * (x[i] - static_cast<long double>(mean[p])) * invstd;
        weight_size[p] += std::abs(dy[i] * (x[i] - static_cast<long double>(mean[p])) * invstd);
        grad_bias[p] += dy[i];
        bias_size[p] += std::abs(dy[i]);
      }
      const std::string bytes = ToBytes(c.dtype, x);
      const std::string dy_bytes = ToBytes(c.dtype, dy);
      const std::vector<int64_t> shape = c.Shape();
      const Batch batch =
          *Batch::Create(*TensorView::Create(c.dtype, layout, shape, bytes), c.Config());
      std::string dx(bytes.size(), '\0');
      const Gradients gradients =
          BackwardByRunning(batch, TensorBytes(dy_bytes), {.mean = mean, .var = var},
                            {.eps = c.eps, .eps_of_dtype = false, .weight = weight, .bias = bias},
                            /*wants_parameters=*/true, dx.data(), ParallelRunner::Inline());
      ExpectClose(FromBytes(c.dtype, dx), grad_input, size, ToleranceOf(c.dtype), "grad_input");
      ExpectClose(gradients.weight, grad_weight, weight_size, {1e-11, 1e-12}, "grad_weight");
      ExpectClose(gradients.bias, grad_bias, bias_size, {1e-11, 1e-12}, "grad_bias");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DataTypes, FamilyTest, testing::ValuesIn(kDataTypes),
                         [](const auto& dtype) { return std::string(DataTypeName(dtype.param)); });

absl::StatusOr<Batch> CreateBatch(const FamilyCase& c, const std::vector<int64_t>& shape) {
  static const std::string* const kZeros = new std::string(1 << 16, '\0');
  const int64_t bytes = *ShapeBytes(c.dtype, shape);
  const auto tensor = TensorView::Create(
      c.dtype, c.layout, shape, absl::string_view(*kZeros).substr(0, static_cast<size_t>(bytes)));
  return Batch::Create(*tensor, c.Config());
}

TEST(FamilyEdgesTest, RefusesShapesThatTheKindDoesNotTake) {
  EXPECT_THAT(
      CreateBatch({.kind = NormKind::kInstanceNorm, .sizes = {2, 3, 4}}, {2, 3}),
      IsError(Reason::kRankUnsupported, "input has rank 2 (shape [2,3]), expected rank 3 to 5"));
  EXPECT_THAT(
      CreateBatch({.kind = NormKind::kGroupNorm, .sizes = {2, 6}, .num_groups = 2}, {2, 4, 5}),
      IsError(Reason::kChannelCountMismatch,
              "num_features is 6, input has 4 channels (axis 1 of shape [2,4,5])"));
  const FamilyCase layer = {.kind = NormKind::kLayerNorm, .sizes = {5, 3, 4}, .normalized_axes = 2};
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{5, 4, 3}, {4}, {12}, {3, 4, 1}, {}}) {
    EXPECT_THAT(CreateBatch(layer, shape),
                IsError(Reason::kNormalizedShapeMismatch,
                        "normalized_shape is [3,4], expected an input that ends in it, input has "
                        "shape " +
                            ShapeToString(shape)));
  }
  EXPECT_TRUE(CreateBatch(layer, {3, 4}).ok());
  EXPECT_TRUE(CreateBatch(layer, {1, 2, 1, 2, 1, 2, 3, 4}).ok());
}

TEST(FamilyEdgesTest, EmptyBatchesHaveNoOutputAndZeroGradients) {
  const FamilyCase cases[] = {
      {.kind = NormKind::kInstanceNorm, .sizes = {0, 3, 4}},
      {.kind = NormKind::kInstanceNorm, .sizes = {2, 3, 0}},
      {.kind = NormKind::kGroupNorm, .sizes = {0, 6}, .num_groups = 2},
      {.kind = NormKind::kLayerNorm, .sizes = {0, 3}, .normalized_axes = 1},
      {.kind = NormKind::kRmsNorm, .sizes = {4, 0, 3}, .normalized_axes = 1},
  };
  for (const FamilyCase& c : cases) {
    SCOPED_TRACE(c.ToString());
    const std::vector<int64_t> shape = c.Shape();
    const auto batch = CreateBatch(c, shape);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->count(), 0);
    EXPECT_EQ(batch->sets(), 0U);
    const auto moments =
        ComputeBatchMoments(*batch, NonFinitePolicy::kRefuse, ParallelRunner::Inline());
    ASSERT_TRUE(moments.ok()) << moments.status();
    EXPECT_TRUE(moments->mean.empty());
    const std::vector<double> ones(static_cast<size_t>(c.Config().num_features), 1.0);
    const Affine affine = {.eps = 0, .eps_of_dtype = false, .weight = ones, .bias = {}};
    NormalizeByItself(*batch, *moments, affine, nullptr, ParallelRunner::Inline());
    const Gradients gradients = BackwardByItself(*batch, TensorBytes(), *moments, affine, true,
                                                 nullptr, ParallelRunner::Inline());
    EXPECT_THAT(gradients.weight, testing::Each(0.0));
    EXPECT_EQ(gradients.weight.size(), ones.size());
  }
}

TEST(FamilyEdgesTest, ZeroVarianceUnderEpsZeroIsAsInPyTorch) {
  const struct {
    FamilyCase c;
    bool gives_bias;
  } cases[] = {
      {{.kind = NormKind::kBatchNorm, .sizes = {4, 2}}, true},
      {{.kind = NormKind::kInstanceNorm, .sizes = {1, 2, 4}}, true},
      {{.kind = NormKind::kGroupNorm, .sizes = {2, 2, 2}, .num_groups = 1}, false},
      {{.kind = NormKind::kLayerNorm, .sizes = {2, 4}, .normalized_axes = 1}, false},
  };
  for (const auto& [c, gives_bias] : cases) {
    SCOPED_TRACE(c.ToString());
    const std::string bytes = ToBytes(c.dtype, std::vector<double>(8, 0.3));
    const std::vector<int64_t> shape = c.Shape();
    const Batch batch =
        *Batch::Create(*TensorView::Create(c.dtype, c.layout, shape, bytes), c.Config());
    const std::vector<double> bias(static_cast<size_t>(c.Config().num_features), 0.75);
    std::string output(bytes.size(), '\0');
    ASSERT_TRUE(
        NormalizeAndComputeMoments(batch, NonFinitePolicy::kRefuse,
                                   {.eps = 0, .eps_of_dtype = false, .weight = {}, .bias = bias},
                                   output.data(), ParallelRunner::Inline())
            .ok());
    for (const double y : FromBytes(c.dtype, output)) {
      if (gives_bias) {
        EXPECT_EQ(y, 0.75);
      } else {
        EXPECT_TRUE(std::isnan(y)) << y;
      }
    }
  }
}

TEST(FamilyEdgesTest, EpsOfDtypeIsItsMachineEpsilon) {
  for (const auto& [dtype, eps] :
       {std::pair(DataType::kFloat32, 0x1p-23), std::pair(DataType::kFloat64, 0x1p-52),
        std::pair(DataType::kFloat16, 0x1p-10), std::pair(DataType::kBfloat16, 0x1p-7)}) {
    const FamilyCase c = {
        .kind = NormKind::kRmsNorm, .sizes = {1, 2}, .normalized_axes = 1, .dtype = dtype};
    const double value = 0x1p-12;
    const std::string bytes = ToBytes(dtype, {value, value});
    const std::vector<int64_t> shape = c.Shape();
    const Batch batch =
        *Batch::Create(*TensorView::Create(dtype, c.layout, shape, bytes), c.Config());
    std::string output(bytes.size(), '\0');
    ASSERT_TRUE(
        NormalizeAndComputeMoments(batch, NonFinitePolicy::kRefuse,
                                   {.eps = 1, .eps_of_dtype = true, .weight = {}, .bias = {}},
                                   output.data(), ParallelRunner::Inline())
            .ok());
    const double expected = value / std::sqrt(value * value + eps);
    EXPECT_NEAR(FromBytes(dtype, output)[0], expected, expected * 0x1p-8) << DataTypeName(dtype);
  }
}

TEST(FamilyEdgesTest, NonFiniteValuesAreNamedInEveryDtype) {
  for (const DataType dtype : kDataTypes) {
    std::vector<double> values(60, 1.0);
    values[37] = -std::numeric_limits<double>::infinity();
    const FamilyCase c = {
        .kind = NormKind::kLayerNorm, .sizes = {6, 10}, .normalized_axes = 1, .dtype = dtype};
    const std::string bytes = ToBytes(dtype, values);
    const std::vector<int64_t> shape = c.Shape();
    const Batch batch =
        *Batch::Create(*TensorView::Create(dtype, c.layout, shape, bytes), c.Config());
    EXPECT_THAT(ComputeBatchMoments(batch, NonFinitePolicy::kRefuse, ParallelRunner::Inline()),
                IsError(Reason::kNonFiniteValue,
                        "input is -inf at index 37 (row-major), expected finite values"));
  }
}

TEST(FamilyEdgesTest, AVarianceTooLargeForFloat64IsRefused) {
  const FamilyCase c = {.sizes = {2, 1}, .dtype = DataType::kFloat64};
  const std::string bytes = ToBytes(c.dtype, {1e300, -1e300});
  const std::vector<int64_t> shape = c.Shape();
  const Batch batch =
      *Batch::Create(*TensorView::Create(c.dtype, c.layout, shape, bytes), c.Config());
  EXPECT_THAT(ComputeBatchMoments(batch, NonFinitePolicy::kRefuse, ParallelRunner::Inline()),
              IsError(Reason::kNonFiniteValue, testing::HasSubstr("not finite in float64")));
}

// More sets than are held at a time, so that there are several parts.
TEST(FamilyEdgesTest, NormalizingSomeSamplesAtATimeGivesTheSame) {
  for (const FamilyCase& c :
       {FamilyCase{.kind = NormKind::kLayerNorm, .sizes = {400000, 3}, .normalized_axes = 1},
        FamilyCase{.kind = NormKind::kGroupNorm, .sizes = {150000, 4, 3}, .num_groups = 2},
        FamilyCase{.kind = NormKind::kInstanceNorm,
        .sizes = {90000, 4, 3},
        .layout = Layout::kChannelsLast}}) {
    SCOPED_TRACE(c.ToString());
    std::vector<double> values(c.NumElements());
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<double>(i));
    std::string bytes = ToBytes(c.dtype, values);
    const std::vector<int64_t> shape = c.Shape();
    const Batch batch =
        *Batch::Create(*TensorView::Create(c.dtype, c.layout, shape, bytes), c.Config());
    const Affine affine = {.eps = c.eps, .eps_of_dtype = false, .weight = {}, .bias = {}};
    std::string whole(bytes.size(), '\0');
    ASSERT_TRUE(NormalizeAndComputeMoments(batch, NonFinitePolicy::kRefuse, affine, whole.data(),
                                           ParallelRunner::Inline())
                    .ok());
    std::string parts(bytes.size(), '\0');
    ASSERT_TRUE(NormalizeBySamples(batch, NonFinitePolicy::kRefuse, affine, parts.data(),
                                   ParallelRunner::Inline())
                    .ok());
    EXPECT_TRUE(parts == whole);

    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(bytes.data() + 4 * (values.size() - 2), &nan, sizeof(nan));
    EXPECT_THAT(NormalizeBySamples(batch, NonFinitePolicy::kRefuse, affine, nullptr,
                                   ParallelRunner::Inline()),
                IsError(Reason::kNonFiniteValue, "input is nan at index " +
                                                     std::to_string(values.size() - 2) +
                                                     " (row-major), expected finite values"));
    EXPECT_TRUE(NormalizeBySamples(batch, NonFinitePolicy::kPropagate, affine, nullptr,
                                   ParallelRunner::Inline())
                    .ok());
  }
}

// A value that is a set of its own is its own mean: moving it moves nothing.
TEST(FamilyEdgesTest, ASetOfOneValueHasGradientZero) {
  for (const FamilyCase& c :
       {FamilyCase{.kind = NormKind::kLayerNorm, .sizes = {7, 1}, .normalized_axes = 1},
        FamilyCase{.kind = NormKind::kGroupNorm, .sizes = {7, 2}, .num_groups = 2}}) {
    SCOPED_TRACE(c.ToString());
    const std::string bytes = ToBytes(c.dtype, std::vector<double>(c.NumElements(), 0.3));
    const std::vector<int64_t> shape = c.Shape();
    const Batch batch =
        *Batch::Create(*TensorView::Create(c.dtype, c.layout, shape, bytes), c.Config());
    const auto moments =
        ComputeBatchMoments(batch, NonFinitePolicy::kRefuse, ParallelRunner::Inline());
    ASSERT_TRUE(moments.ok()) << moments.status();
    std::string dx(bytes.size(), '\1');
    const std::vector<double> weight(static_cast<size_t>(c.Config().num_features), 1.1);
    BackwardByItself(batch, TensorBytes(bytes), *moments,
                     {.eps = 1e-12, .eps_of_dtype = false, .weight = weight, .bias = {}}, false,
                     dx.data(), ParallelRunner::Inline());
    EXPECT_THAT(FromBytes(c.dtype, dx), testing::Each(0.0));
  }
}

}  // namespace
}  // namespace normd
