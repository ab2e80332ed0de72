#ifndef NORMD_CORE_NORM_NORM_CONFIG_H_
#define NORMD_CORE_NORM_NORM_CONFIG_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"

namespace normd {

// The member of the norm family. Same numbers as normd.v1.NormConfig.Kind.
enum class NormKind {
  kBatchNorm = 1,
  kLayerNorm = 2,
  kGroupNorm = 3,
  kInstanceNorm = 4,
  kRmsNorm = 5,
};

// What to do with a value that is not finite. Same numbers as normd.v1.NormConfig.NonFinite.
enum class NonFinitePolicy { kRefuse = 1, kPropagate = 2 };

// What a state computes; the defaults are those of torch.nn.BatchNorm*d
// (torch/nn/modules/batchnorm.py).
struct NormConfig {
  NormKind kind = NormKind::kBatchNorm;
  int64_t num_features = 0;             // C
  double eps = 1e-5;                    // added to the variance
  std::optional<double> momentum = .1;  // weight of the new value; nothing: cumulative average
  bool affine = true;
  bool track_running_stats = true;
  int running_var_correction = 1;  // subtracted from the count in running_var
  NonFinitePolicy non_finite = NonFinitePolicy::kRefuse;

  bool operator==(const NormConfig&) const = default;
};

// OK when every field is in its range. Errors: KIND_NOT_IMPLEMENTED (all but BATCH_NORM),
// NUM_FEATURES_OUT_OF_RANGE, EPS_OUT_OF_RANGE, MOMENTUM_OUT_OF_RANGE, CORRECTION_OUT_OF_RANGE,
// NON_FINITE_POLICY_UNKNOWN.
absl::Status CheckNormConfig(const NormConfig& config);

}  // namespace normd

#endif  // NORMD_CORE_NORM_NORM_CONFIG_H_
