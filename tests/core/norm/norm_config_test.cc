#include "core/norm/norm_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/base/limits.h"
#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

NormConfig Good() { return {.num_features = 4}; }

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

TEST(NormConfigTest, OtherKindsAreNotImplementedByName) {
  NormConfig config = Good();
  for (const auto& [kind, name] : {std::pair(NormKind::kLayerNorm, "LAYER_NORM"),
                                   std::pair(NormKind::kGroupNorm, "GROUP_NORM"),
                                   std::pair(NormKind::kInstanceNorm, "INSTANCE_NORM"),
                                   std::pair(NormKind::kRmsNorm, "RMS_NORM")}) {
    config.kind = kind;
    const absl::Status status = CheckNormConfig(config);
    EXPECT_THAT(status,
                IsError(Reason::kKindNotImplemented,
                        std::string("kind ") + name + " is not implemented, expected BATCH_NORM"));
    EXPECT_THAT(GetErrorMetadata(status), Contains(Pair("kind", name)));
  }
}

TEST(NormConfigTest, UnknownEnumValuesAreRefused) {
  NormConfig config = Good();
  config.kind = static_cast<NormKind>(0);
  EXPECT_THAT(CheckNormConfig(config), IsError(Reason::kKindNotImplemented, HasSubstr("unknown")));
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
