#ifndef NORMD_SERVER_CONVERT_H_
#define NORMD_SERVER_CONVERT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/norm/moments.h"
#include "core/norm/norm_config.h"
#include "core/registry/state_change.h"
#include "core/state/norm_state.h"
#include "core/tensor/tensor_view.h"
#include "google/protobuf/field_mask.pb.h"
#include "normd/v1/normalization_service.pb.h"
#include "normd/v1/state.pb.h"
#include "normd/v1/state_service.pb.h"
#include "normd/v1/tensor.pb.h"

// The one place where the wire's messages become core's values and back.
namespace normd {

// A view of `tensor`, which must outlive it. Errors: DTYPE_UNKNOWN, LAYOUT_UNKNOWN, and those of
// TensorView::Create.
absl::StatusOr<TensorView> TensorFromWire(const v1::Tensor& tensor);

Moments MomentsFromWire(const v1::Moments& moments);
void MomentsToWire(const Moments& moments, v1::Moments& wire);

// Errors: DURABILITY_UNKNOWN.
absl::StatusOr<Durability> DurabilityFromWire(v1::Durability durability);

// The config with every default filled in, ranges not yet checked. Errors: KIND_UNKNOWN,
// NON_FINITE_POLICY_UNKNOWN.
absl::StatusOr<NormConfig> ConfigFromWire(const v1::NormConfig& config);

// `current` with the fields that `mask` names taken from `wire`. Errors: UPDATE_MASK_INVALID,
// FIELD_IMMUTABLE, NON_FINITE_POLICY_UNKNOWN.
absl::StatusOr<NormConfig> UpdatedConfig(const NormConfig& current, const v1::NormConfig& wire,
                                         const google::protobuf::FieldMask& mask);

// A parameter or buffer: FLOAT32 or FLOAT64, rank 1. `field` stands in errors. Errors: those of
// TensorFromWire, DTYPE_NOT_IMPLEMENTED, PARAMETERS_LENGTH_MISMATCH (rank).
absl::StatusOr<std::vector<double>> VectorFromWire(absl::string_view field,
                                                   const v1::Tensor& tensor);

// What a CreateState or SetParameters gives. Errors: those of VectorFromWire.
absl::StatusOr<InitialValues> InitialValuesFromWire(const v1::State& state);
absl::Status ParametersFromWire(const v1::Parameters& parameters,
                                std::optional<std::vector<float>>& weight,
                                std::optional<std::vector<float>>& bias);

// Whether a view is FULL; `unspecified_is_full` is the method's default. Errors: VIEW_UNKNOWN.
absl::StatusOr<bool> IsFullView(v1::StateView view, bool unspecified_is_full);

// Fills `wire`; tensors only when `full`.
void StateToWire(const NormState& state, bool full, v1::State& wire);

// A page token names the prefix it was given for and where to go on. Errors: PAGE_TOKEN_INVALID.
std::string PageTokenToWire(absl::string_view prefix, absl::string_view after);
absl::StatusOr<std::string> PageTokenFromWire(absl::string_view prefix, absl::string_view token);

}  // namespace normd

#endif  // NORMD_SERVER_CONVERT_H_
