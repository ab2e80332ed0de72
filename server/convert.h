#ifndef NORMD_SERVER_CONVERT_H_
#define NORMD_SERVER_CONVERT_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/norm/moments.h"
#include "core/norm/norm_config.h"
#include "core/registry/state_change.h"
#include "core/state/norm_state.h"
#include "core/tensor/tensor_view.h"
#include "normd/v1/normalization_service.pb.h"
#include "normd/v1/state.pb.h"
#include "normd/v1/state_service.pb.h"
#include "normd/v1/tensor.pb.h"

// The one place, with convert_config.h, where the wire's messages become core's values and back.
namespace normd {

// A view of `tensor`, which must outlive it. Its bytes are a std::string's, in the string itself or
// on the heap, and so aligned to every dtype. Errors: DTYPE_UNKNOWN, LAYOUT_UNKNOWN, and those of
// TensorView::Create.
absl::StatusOr<TensorView> TensorFromWire(const v1::Tensor& tensor);

// The same for a tensor whose bytes are not in `tensor` but in `bytes`.
absl::StatusOr<TensorView> TensorFromWire(const v1::Tensor& tensor, const TensorBytes& bytes);

Moments MomentsFromWire(const v1::Moments& moments);
void MomentsToWire(const Moments& moments, v1::Moments& wire);

// Errors: DURABILITY_UNKNOWN.
absl::StatusOr<Durability> DurabilityFromWire(v1::Durability durability);

// What CreateState, SetParameters and ApplyGradients give: FLOAT32 or FLOAT64, with one axis or in
// the shape of the weight; how many values there are is not checked. Errors: those of
// TensorFromWire, PARAMETER_DTYPE_INVALID, PARAMETERS_LENGTH_MISMATCH (the shape).
absl::StatusOr<InitialValues> InitialValuesFromWire(const v1::State& state,
                                                    const NormConfig& config);
absl::StatusOr<Parameters> GradientsFromWire(const v1::ApplyGradientsRequest& request,
                                             const NormConfig& config);
// The values alone, and the check of their shapes once the config is known.
absl::StatusOr<Parameters> ParametersFromWire(const v1::Parameters& parameters);
absl::Status CheckParameterShapes(const v1::Parameters& parameters, const NormConfig& config);

// A parameter or gradient of `config`, rounded to parameter_dtype, in the shape of the weight.
void ParameterToWire(absl::Span<const double> values, const NormConfig& config, v1::Tensor& wire);

// Whether a view is FULL; `unspecified_is_full` is the method's default. Errors: VIEW_UNKNOWN.
absl::StatusOr<bool> IsFullView(v1::StateView view, bool unspecified_is_full);

// Fills `wire`; tensors only when `full`.
void StateToWire(const NormState& state, bool full, v1::State& wire);

// A page token names the prefix it was given for and where to go on. Errors: PAGE_TOKEN_INVALID.
std::string PageTokenToWire(absl::string_view prefix, absl::string_view after);
absl::StatusOr<std::string> PageTokenFromWire(absl::string_view prefix, absl::string_view token);

}  // namespace normd

#endif  // NORMD_SERVER_CONVERT_H_
