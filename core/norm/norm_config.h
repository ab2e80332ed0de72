#ifndef NORMD_CORE_NORM_NORM_CONFIG_H_
#define NORMD_CORE_NORM_NORM_CONFIG_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/norm/optimizer.h"
#include "core/tensor/data_type.h"

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
// (torch/nn/modules/batchnorm.py); DefaultConfig gives those of the other kinds.
struct NormConfig {
  NormKind kind = NormKind::kBatchNorm;
  int64_t num_features = 0;  // C; product(normalized_shape) for kLayerNorm and kRmsNorm
  double eps = 1e-5;         // added to the variance (kRmsNorm: to the mean square)
  // kRmsNorm: eps is the machine epsilon of the input's dtype, and `eps` is 0.
  bool eps_of_dtype = false;
  std::optional<double> momentum = .1;  // weight of the new value; nothing: cumulative average
  bool affine = true;                   // elementwise_affine
  bool track_running_stats = true;
  int running_var_correction = 1;  // subtracted from the count in running_var
  NonFinitePolicy non_finite = NonFinitePolicy::kRefuse;
  std::vector<int64_t> normalized_shape = {};  // kLayerNorm, kRmsNorm; else empty
  int64_t num_groups = 0;                      // kGroupNorm; else 0
  DataType parameter_dtype = DataType::kFloat32;
  std::optional<OptimizerConfig> optimizer = std::nullopt;

  bool operator==(const NormConfig&) const = default;
};

// PyTorch's defaults of `kind`: kInstanceNorm has affine and track_running_stats false, kLayerNorm,
// kGroupNorm and kRmsNorm never track, and kRmsNorm has eps_of_dtype. num_features,
// normalized_shape and num_groups are left for the caller.
NormConfig DefaultConfig(NormKind kind);

// The wire's name: "BATCH_NORM".
absl::string_view NormKindName(NormKind kind);

// Whether states of `kind` can have running statistics.
bool CanTrackRunningStats(NormKind kind);

// Whether a state of `config` has a bias: affine, and not kRmsNorm.
bool HasBias(const NormConfig& config);

// OK when it is one of the kinds. Errors: KIND_UNKNOWN.
absl::Status CheckNormKind(NormKind kind);

// OK when every field is in its range. Errors: KIND_UNKNOWN, NUM_FEATURES_OUT_OF_RANGE,
// NORMALIZED_SHAPE_INVALID, NUM_GROUPS_INVALID, EPS_OUT_OF_RANGE, MOMENTUM_OUT_OF_RANGE,
// CORRECTION_OUT_OF_RANGE, NON_FINITE_POLICY_UNKNOWN, PARAMETER_DTYPE_INVALID, OPTIMIZER_INVALID,
// FIELD_NOT_APPLICABLE (a field that the kind does not have: track_running_stats, cumulative
// average of any but kBatchNorm, normalized_shape, num_groups, eps_of_dtype; an optimizer without
// affine). num_features that is not the product of normalized_shape is out of range.
absl::Status CheckNormConfig(const NormConfig& config);

}  // namespace normd

#endif  // NORMD_CORE_NORM_NORM_CONFIG_H_
