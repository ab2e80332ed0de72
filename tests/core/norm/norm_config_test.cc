#include "core/norm/norm_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/limits.h"
#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using testing::Contains;
using testing::EndsWith;
using testing::Pair;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

constexpr NormKind kKinds[] = {NormKind::kBatchNorm, NormKind::kLayerNorm, NormKind::kGroupNorm,
                               NormKind::kInstanceNorm, NormKind::kRmsNorm};

// PyTorch's defaults of a kind, over 12 features.
NormConfig Good(NormKind kind = NormKind::kBatchNorm) {
  NormConfig config = DefaultConfig(kind);
  config.num_features = 12;
  if (kind == NormKind::kLayerNorm || kind == NormKind::kRmsNorm) config.normalized_shape = {3, 4};
  if (kind == NormKind::kGroupNorm) config.num_groups = 4;
  return config;
}

// The status names `field` in its metadata.
void ExpectRefused(const NormConfig& config, Reason reason, const std::string& message,
                   const std::string& field) {
  const absl::Status status = CheckNormConfig(config);
  EXPECT_THAT(status, IsError(reason, message));
  EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("field", "config." + field)));
}

TEST(NormConfigTest, DefaultsAreThoseOfPyTorch) {
  const NormConfig config;
  EXPECT_EQ(config.kind, NormKind::kBatchNorm);
  EXPECT_EQ(config.eps, 1e-5);
  EXPECT_EQ(config.momentum, 0.1);
  EXPECT_TRUE(config.affine);
  EXPECT_TRUE(config.track_running_stats);
  EXPECT_EQ(config.running_var_correction, 1);
  EXPECT_EQ(config.non_finite, NonFinitePolicy::kRefuse);
  EXPECT_TRUE(CheckNormConfig(Good()).ok());
}

TEST(NormConfigTest, DefaultsOfEveryKindAreThoseOfPyTorch) {
  struct Case {
    NormKind kind;
    std::string name;
    bool affine;
    bool track_running_stats;
    double eps;
    bool eps_of_dtype;
    bool has_bias;
  };
  const std::vector<Case> cases = {
      {NormKind::kBatchNorm, "BATCH_NORM", true, true, 1e-5, false, true},
      {NormKind::kLayerNorm, "LAYER_NORM", true, false, 1e-5, false, true},
      {NormKind::kGroupNorm, "GROUP_NORM", true, false, 1e-5, false, true},
      {NormKind::kInstanceNorm, "INSTANCE_NORM", false, false, 1e-5, false, false},
      {NormKind::kRmsNorm, "RMS_NORM", true, false, 0, true, false},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const NormConfig config = DefaultConfig(c.kind);
    EXPECT_EQ(NormKindName(c.kind), c.name);
    EXPECT_EQ(config.kind, c.kind);
    EXPECT_EQ(config.affine, c.affine);
    EXPECT_EQ(config.track_running_stats, c.track_running_stats);
    EXPECT_EQ(config.eps, c.eps);
    EXPECT_EQ(config.eps_of_dtype, c.eps_of_dtype);
    EXPECT_EQ(config.momentum, 0.1);
    EXPECT_EQ(config.running_var_correction, 1);
    EXPECT_EQ(config.non_finite, NonFinitePolicy::kRefuse);
    EXPECT_EQ(config.parameter_dtype, DataType::kFloat32);
    EXPECT_FALSE(config.optimizer.has_value());
    EXPECT_EQ(HasBias(config), c.has_bias);
    EXPECT_TRUE(CheckNormConfig(Good(c.kind)).ok()) << CheckNormConfig(Good(c.kind));
  }
  EXPECT_EQ(DefaultConfig(NormKind::kBatchNorm), NormConfig());
  EXPECT_EQ(NormKindName(static_cast<NormKind>(6)), "unknown");
}

TEST(NormConfigTest, OnlyAffineStatesHaveABiasAndRmsNormNever) {
  for (const NormKind kind : kKinds) {
    NormConfig config = Good(kind);
    config.affine = false;
    EXPECT_FALSE(HasBias(config));
    EXPECT_TRUE(CheckNormConfig(config).ok());
    config.affine = true;
    EXPECT_EQ(HasBias(config), kind != NormKind::kRmsNorm);
    EXPECT_TRUE(CheckNormConfig(config).ok());
  }
}

TEST(NormConfigTest, EpsIsFiniteAndNotNegative) {
  NormConfig config = Good();
  for (const double eps : {0.0, -0.0, 1e-300, 1e-5, 1.0, std::numeric_limits<double>::max()}) {
    config.eps = eps;
    EXPECT_TRUE(CheckNormConfig(config).ok()) << eps;
  }
  for (const auto& [eps, shown] :
       {std::pair(kNan, "nan"), std::pair(kInf, "inf"), std::pair(-kInf, "-inf"),
        std::pair(-1e-5, "-1e-05"), std::pair(-1.0, "-1")}) {
    config.eps = eps;
    EXPECT_THAT(CheckNormConfig(config),
                IsError(Reason::kEpsOutOfRange,
                        std::string("eps is ") + shown + ", expected finite and >= 0"));
  }
}

TEST(NormConfigTest, MomentumIsInZeroToOneOrAbsent) {
  NormConfig config = Good();
  for (const double momentum : {0.0, 1e-9, 0.1, 0.5, 1.0}) {
    config.momentum = momentum;
    EXPECT_TRUE(CheckNormConfig(config).ok()) << momentum;
  }
  config.momentum = std::nullopt;
  EXPECT_TRUE(CheckNormConfig(config).ok());
  for (const auto& [momentum, shown] :
       {std::pair(-0.1, "-0.1"), std::pair(1.1, "1.1"), std::pair(kNan, "nan"),
        std::pair(kInf, "inf"), std::pair(-kInf, "-inf")}) {
    config.momentum = momentum;
    EXPECT_THAT(CheckNormConfig(config),
                IsError(Reason::kMomentumOutOfRange,
                        std::string("momentum is ") + shown + ", expected 0 to 1"));
  }
  config.momentum = std::nextafter(1.0, 2.0);
  EXPECT_THAT(CheckNormConfig(config), HasReason(Reason::kMomentumOutOfRange));
}

TEST(NormConfigTest, NumFeaturesIsInOneToTheLimit) {
  NormConfig config = Good();
  for (const int64_t num_features : {int64_t{1}, kNumFeaturesMax}) {
    config.num_features = num_features;
    EXPECT_TRUE(CheckNormConfig(config).ok()) << num_features;
  }
  for (const int64_t num_features :
       {int64_t{0}, int64_t{-1}, kNumFeaturesMax + 1, std::numeric_limits<int64_t>::max(),
        std::numeric_limits<int64_t>::min()}) {
    config.num_features = num_features;
    const absl::Status status = CheckNormConfig(config);
    EXPECT_THAT(status, IsError(Reason::kNumFeaturesOutOfRange,
                                "num_features is " + std::to_string(num_features) +
                                    ", expected 1 to " + std::to_string(kNumFeaturesMax)));
    EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("field", "config.num_features")));
  }
}

TEST(NormConfigTest, NormalizedShapeIsRequiredOfLayerAndRmsNorm) {
  for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    NormConfig config = Good(kind);
    for (const std::vector<int64_t>& shape :
         {std::vector<int64_t>{12}, std::vector<int64_t>{1, 12}, std::vector<int64_t>{2, 3, 2},
          std::vector<int64_t>{2, 2, 3, 1, 1, 1, 1}}) {
      config.normalized_shape = shape;
      EXPECT_TRUE(CheckNormConfig(config).ok()) << CheckNormConfig(config);
    }
    config.normalized_shape = {};
    ExpectRefused(config, Reason::kNormalizedShapeInvalid,
                  "normalized_shape has 0 axes, expected 1 to 64", "normalized_shape");
    config.normalized_shape = {12, 0};
    ExpectRefused(config, Reason::kNormalizedShapeInvalid,
                  "normalized_shape is [12,0], with 0 at axis 1, expected >= 1",
                  "normalized_shape");
    config.normalized_shape = {-3, -4};
    ExpectRefused(config, Reason::kNormalizedShapeInvalid,
                  "normalized_shape is [-3,-4], with -3 at axis 0, expected >= 1",
                  "normalized_shape");
    config.normalized_shape = std::vector<int64_t>(64, 1);
    config.normalized_shape[5] = 12;
    EXPECT_TRUE(CheckNormConfig(config).ok());
    config.normalized_shape.push_back(1);
    ExpectRefused(config, Reason::kNormalizedShapeInvalid,
                  "normalized_shape has 65 axes, expected 1 to 64", "normalized_shape");
  }
}

TEST(NormConfigTest, NumFeaturesIsTheProductOfNormalizedShape) {
  NormConfig config = Good(NormKind::kLayerNorm);
  for (const int64_t num_features : {0, 11, 13, -12}) {
    config.num_features = num_features;
    ExpectRefused(config, Reason::kNumFeaturesOutOfRange,
                  "num_features is " + std::to_string(num_features) +
                      ", expected 12, the product of normalized_shape [3,4]",
                  "num_features");
  }
}

TEST(NormConfigTest, ProductOfNormalizedShapeIsBoundedWithoutOverflow) {
  NormConfig config = Good(NormKind::kRmsNorm);
  config.num_features = kNumFeaturesMax;
  config.normalized_shape = {2, kNumFeaturesMax / 2};
  EXPECT_TRUE(CheckNormConfig(config).ok());
  constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{kNumFeaturesMax + 1}, std::vector<int64_t>{2, kNumFeaturesMax},
        std::vector<int64_t>{kInt64Max}, std::vector<int64_t>{kInt64Max, kInt64Max},
        // 2^64, which wraps to 0.
        std::vector<int64_t>{int64_t{1} << 32, int64_t{1} << 32}}) {
    config.normalized_shape = shape;
    for (const int64_t num_features : {int64_t{0}, kNumFeaturesMax}) {
      config.num_features = num_features;
      const absl::Status status = CheckNormConfig(config);
      EXPECT_THAT(status, IsError(Reason::kNormalizedShapeInvalid,
                                  EndsWith("], expected a product of at most 1048576")));
      EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("field", "config.normalized_shape")));
    }
  }
}

TEST(NormConfigTest, NumGroupsDividesNumFeaturesOfGroupNorm) {
  NormConfig config = Good(NormKind::kGroupNorm);
  for (const int64_t num_groups : {1, 2, 3, 4, 6, 12}) {
    config.num_groups = num_groups;
    EXPECT_TRUE(CheckNormConfig(config).ok()) << num_groups;
  }
  for (const int64_t num_groups : {0, -1, -4, 5, 13, 24}) {
    config.num_groups = num_groups;
    ExpectRefused(config, Reason::kNumGroupsInvalid,
                  "num_groups is " + std::to_string(num_groups) +
                      ", expected >= 1 and a divisor of num_features 12",
                  "num_groups");
  }
}

TEST(NormConfigTest, FieldsOfOtherKindsAreRefused) {
  for (const NormKind kind : kKinds) {
    const std::string name(NormKindName(kind));
    SCOPED_TRACE(name);
    const bool by_shape = kind == NormKind::kLayerNorm || kind == NormKind::kRmsNorm;
    if (!by_shape) {
      NormConfig config = Good(kind);
      config.normalized_shape = {3, 4};
      ExpectRefused(
          config, Reason::kFieldNotApplicable,
          "normalized_shape is [3,4], which " + name + " does not have, expected it empty",
          "normalized_shape");
    }
    if (kind != NormKind::kGroupNorm) {
      NormConfig config = Good(kind);
      config.num_groups = 4;
      ExpectRefused(config, Reason::kFieldNotApplicable,
                    "num_groups is 4, which " + name + " does not have, expected 0", "num_groups");
    }
    if (kind != NormKind::kRmsNorm) {
      NormConfig config = Good(kind);
      config.eps = 0;
      config.eps_of_dtype = true;
      ExpectRefused(config, Reason::kFieldNotApplicable,
                    "eps is the machine epsilon of the input's dtype, which " + name +
                        " does not have, expected a number",
                    "eps");
    }
    NormConfig tracking = Good(kind);
    tracking.track_running_stats = true;
    if (kind == NormKind::kBatchNorm || kind == NormKind::kInstanceNorm) {
      EXPECT_TRUE(CheckNormConfig(tracking).ok());
    } else {
      ExpectRefused(tracking, Reason::kFieldNotApplicable,
                    "track_running_stats is true, which " + name + " does not have, expected false",
                    "track_running_stats");
    }
    NormConfig cumulative = Good(kind);
    cumulative.momentum = std::nullopt;
    if (kind == NormKind::kBatchNorm) {
      EXPECT_TRUE(CheckNormConfig(cumulative).ok());
    } else {
      ExpectRefused(
          cumulative, Reason::kFieldNotApplicable,
          "cumulative_average is true, which " + name + " does not have, expected a momentum",
          "cumulative_average");
    }
  }
}

TEST(NormConfigTest, RmsNormHasEpsOrThatOfTheDtype) {
  NormConfig config = Good(NormKind::kRmsNorm);
  config.eps = 1e-5;
  ExpectRefused(
      config, Reason::kEpsOutOfRange,
      "eps is 1e-05 and the machine epsilon of the input's dtype, expected one of the two", "eps");
  config.eps_of_dtype = false;
  EXPECT_TRUE(CheckNormConfig(config).ok());
  config.eps = 0;
  EXPECT_TRUE(CheckNormConfig(config).ok());
}

TEST(NormConfigTest, ParametersAreFloat32OrFloat64) {
  for (const NormKind kind : kKinds) {
    NormConfig config = Good(kind);
    for (const DataType dtype : {DataType::kFloat32, DataType::kFloat64}) {
      config.parameter_dtype = dtype;
      EXPECT_TRUE(CheckNormConfig(config).ok());
    }
    for (const auto& [dtype, shown] : {std::pair(DataType::kFloat16, "FLOAT16 (3)"),
                                       std::pair(DataType::kBfloat16, "BFLOAT16 (4)"),
                                       std::pair(static_cast<DataType>(0), "unknown (0)")}) {
      config.parameter_dtype = dtype;
      ExpectRefused(
          config, Reason::kParameterDtypeInvalid,
          std::string("parameter_dtype is ") + shown + ", expected FLOAT32 (1) or FLOAT64 (2)",
          "parameter_dtype");
    }
  }
}

TEST(NormConfigTest, OptimizerIsCheckedAndNeedsAffine) {
  for (const NormKind kind : kKinds) {
    NormConfig config = Good(kind);
    config.affine = true;
    config.optimizer = OptimizerConfig();
    EXPECT_TRUE(CheckNormConfig(config).ok());
    config.optimizer->lr = -1;
    ExpectRefused(config, Reason::kOptimizerInvalid, "optimizer.lr is -1, expected finite and >= 0",
                  "optimizer.lr");
    config.optimizer = OptimizerConfig();
    config.affine = false;
    ExpectRefused(config, Reason::kFieldNotApplicable,
                  "optimizer is set and affine is false, expected affine true or no optimizer",
                  "optimizer");
  }
}

TEST(NormConfigTest, CorrectionIsZeroOrOne) {
  NormConfig config = Good();
  for (const int correction : {0, 1}) {
    config.running_var_correction = correction;
    EXPECT_TRUE(CheckNormConfig(config).ok()) << correction;
  }
  for (const int correction : {2, -1, std::numeric_limits<int>::max()}) {
    config.running_var_correction = correction;
    EXPECT_THAT(
        CheckNormConfig(config),
        IsError(Reason::kCorrectionOutOfRange,
                "running_var_correction is " + std::to_string(correction) + ", expected 0 or 1"));
  }
}

TEST(NormConfigTest, UnknownEnumValuesAreRefused) {
  NormConfig config = Good();
  for (const int kind : {0, 6, -1}) {
    config.kind = static_cast<NormKind>(kind);
    const absl::Status status = CheckNormConfig(config);
    EXPECT_THAT(status, IsError(Reason::kKindUnknown,
                                "kind is " + std::to_string(kind) +
                                    ", expected BATCH_NORM (1), LAYER_NORM (2), GROUP_NORM (3), "
                                    "INSTANCE_NORM (4) or RMS_NORM (5)"));
    EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("field", "config.kind")));
  }
  config = Good();
  for (const int policy : {0, 3, -1}) {
    config.non_finite = static_cast<NonFinitePolicy>(policy);
    EXPECT_THAT(CheckNormConfig(config), IsError(Reason::kNonFinitePolicyUnknown,
                                                 "non_finite is " + std::to_string(policy) +
                                                     ", expected REFUSE (1) or PROPAGATE (2)"));
  }
}

}  // namespace
}  // namespace normd
