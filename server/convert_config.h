#ifndef NORMD_SERVER_CONVERT_CONFIG_H_
#define NORMD_SERVER_CONVERT_CONFIG_H_

#include "absl/status/statusor.h"
#include "core/norm/calibration.h"
#include "core/norm/norm_config.h"
#include "google/protobuf/field_mask.pb.h"
#include "normd/v1/state.pb.h"

// What users set of a state, between the wire and core; the other half of convert.h.
namespace normd {

// The config with every default of its kind filled in, ranges not yet checked (CheckNormConfig). A
// field that is set and that the kind or the algorithm does not have is refused; a false is not
// taken for set. Errors: KIND_UNKNOWN, FIELD_NOT_APPLICABLE, OPTIMIZER_INVALID (the algorithm, or a
// field that has no default and is not set).
absl::StatusOr<NormConfig> ConfigFromWire(const v1::NormConfig& wire);

// `current` with the fields that `mask` names taken from `wire`, ranges not yet checked. Errors:
// UPDATE_MASK_INVALID, FIELD_IMMUTABLE, FIELD_NOT_APPLICABLE, OPTIMIZER_INVALID, OPTIMIZER_ABSENT
// (config.optimizer.lr).
absl::StatusOr<NormConfig> UpdatedConfig(const NormConfig& current, const v1::NormConfig& wire,
                                         const google::protobuf::FieldMask& mask);

// Fills `wire` so that ConfigFromWire gives `config` again: every field that the kind has, but for
// the eps of kRmsNorm where it is the dtype's.
void ConfigToWire(const NormConfig& config, v1::NormConfig& wire);

// Errors: CALIBRATION_METHOD_UNKNOWN.
absl::StatusOr<CalibrationMethod> CalibrationMethodFromWire(v1::Calibration::Method method);

}  // namespace normd

#endif  // NORMD_SERVER_CONVERT_CONFIG_H_
