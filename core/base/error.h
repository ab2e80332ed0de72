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
  kLayoutUnknown = 12,
  kNonFiniteValue = 13,
  kOneValuePerChannel = 14,
  kBatchMissing = 15,
  kOutputNotPossible = 16,
  kMomentsCountNegative = 17,
  kMomentsM2Negative = 18,
  kMomentsLengthMismatch = 19,
  kSequenceInvalid = 20,
  kProducerIdInvalid = 21,
  kProducerTableFull = 22,
  kDurabilityUnknown = 23,
  kEpsOutOfRange = 24,
  kMomentumOutOfRange = 25,
  kNumFeaturesOutOfRange = 26,
  kCorrectionOutOfRange = 27,
  kKindUnknown = 28,
  kNonFinitePolicyUnknown = 29,
  kParametersAbsent = 30,
  kParametersLengthMismatch = 31,
  kRunningStatsAbsent = 32,
  kUpdateMaskInvalid = 33,
  kFieldImmutable = 34,
  kPageTokenInvalid = 35,
  kPageSizeInvalid = 36,
  kViewUnknown = 37,
  kMessageTooLarge = 38,
  kMessageMalformed = 39,
  kRecordDamaged = 40,
  kStoreUnavailable = 41,
  kStoreFull = 42,
  kRevisionConflict = 43,
  kWriteQueueFull = 44,
  kShuttingDown = 45,
  kLimitReached = 46,
  kInternalError = 47,
  kNormalizedShapeInvalid = 48,
  kNormalizedShapeMismatch = 49,
  kNumGroupsInvalid = 50,
  kFieldNotApplicable = 51,
  kOptimizerInvalid = 52,
  kOptimizerAbsent = 53,
  kParameterDtypeInvalid = 54,
  kGradientShapeMismatch = 55,
  kGradientsMissing = 56,
  kModeUnknown = 57,
  kCalibrationActive = 58,
  kCalibrationNotActive = 59,
  kCalibrationEmpty = 60,
  kCalibrationMethodUnknown = 61,
  kMomentsNotPossible = 62,
  kCalibrationMismatch = 63,
  kRunningStatsOutOfRange = 64,
  kServiceNotFound = 65,
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
