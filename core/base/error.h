#ifndef NORMD_CORE_BASE_ERROR_H_
#define NORMD_CORE_BASE_ERROR_H_

#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normd {

// Why something was refused. Same names and numbers as normd.v1.ErrorReason (a test compares them).
enum class Reason {
  kStateNotFound = 1,
  kStateAlreadyExists = 2,
  kStateNameInvalid = 3,
  kStateFrozen = 4,
  kEtagMismatch = 5,
  kChannelCountMismatch = 6,
  kRankUnsupported = 7,
  kDataLengthMismatch = 8,
  kShapeOverflow = 9,
  kDimensionNegative = 10,
  kDtypeUnknown = 11,
  kDtypeNotImplemented = 12,
  kLayoutUnknown = 13,
  kNonFiniteValue = 14,
  kOneValuePerChannel = 15,
  kBatchMissing = 16,
  kOutputNotPossible = 17,
  kMomentsCountNegative = 18,
  kMomentsM2Negative = 19,
  kMomentsLengthMismatch = 20,
  kSequenceInvalid = 21,
  kProducerIdInvalid = 22,
  kProducerTableFull = 23,
  kDurabilityUnknown = 24,
  kEpsOutOfRange = 25,
  kMomentumOutOfRange = 26,
  kNumFeaturesOutOfRange = 27,
  kCorrectionOutOfRange = 28,
  kKindUnknown = 29,
  kKindNotImplemented = 30,
  kNonFinitePolicyUnknown = 31,
  kParametersAbsent = 32,
  kParametersLengthMismatch = 33,
  kRunningStatsAbsent = 34,
  kUpdateMaskInvalid = 35,
  kFieldImmutable = 36,
  kPageTokenInvalid = 37,
  kPageSizeInvalid = 38,
  kViewUnknown = 39,
  kMessageTooLarge = 40,
  kMessageMalformed = 41,
  kMethodNotImplemented = 42,
  kRecordDamaged = 43,
  kStoreUnavailable = 44,
  kStoreFull = 45,
  kRevisionConflict = 46,
  kWriteQueueFull = 47,
  kShuttingDown = 48,
  kLimitReached = 49,
  kInternalError = 50,
  kNormalizedShapeInvalid = 51,
  kNormalizedShapeMismatch = 52,
  kNumGroupsInvalid = 53,
  kFieldNotApplicable = 54,
  kOptimizerInvalid = 55,
  kOptimizerAbsent = 56,
  kParameterDtypeInvalid = 57,
  kGradientShapeMismatch = 58,
  kGradientsMissing = 59,
  kModeUnknown = 60,
  kCalibrationActive = 61,
  kCalibrationNotActive = 62,
  kCalibrationEmpty = 63,
  kCalibrationMethodUnknown = 64,
  kMomentsNotPossible = 65,
  kCalibrationMismatch = 66,
  kRunningStatsOutOfRange = 67,
};

// One row of the table that maps reasons to names and codes.
struct ReasonInfo {
  Reason reason;
  absl::string_view name;  // as on the wire: "STATE_NOT_FOUND"
  absl::StatusCode code;
};

// The whole table, in the order of the reasons' numbers.
absl::Span<const ReasonInfo> ReasonTable();

// The row of `reason`.
const ReasonInfo& GetReasonInfo(Reason reason);

// The names and values that go to google.rpc.ErrorInfo.metadata. The key "field" names the field
// of the request that is wrong and becomes a BadRequest.FieldViolation as well.
using ErrorMetadata = std::initializer_list<std::pair<absl::string_view, absl::string_view>>;

// A status with the code of `reason`, the reason and the metadata. `message` says what was expected
// and what came.
absl::Status MakeError(Reason reason, absl::string_view message, ErrorMetadata metadata = {});

// The reason given to MakeError; nothing when `status` was made elsewhere.
std::optional<Reason> GetReason(const absl::Status& status);

// The metadata given to MakeError; empty when `status` was made elsewhere.
std::map<std::string, std::string> GetErrorMetadata(const absl::Status& status);

// `status` with `prefix` put before its message; code, reason and metadata stay.
absl::Status Prefixed(const absl::Status& status, absl::string_view prefix);

}  // namespace normd

#endif  // NORMD_CORE_BASE_ERROR_H_
