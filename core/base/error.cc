#include "core/base/error.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"

namespace normd {
namespace {

constexpr ReasonInfo kTable[] = {
    {Reason::kStateNotFound, "STATE_NOT_FOUND", absl::StatusCode::kNotFound},
    {Reason::kStateAlreadyExists, "STATE_ALREADY_EXISTS", absl::StatusCode::kAlreadyExists},
    {Reason::kStateNameInvalid, "STATE_NAME_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kStateFrozen, "STATE_FROZEN", absl::StatusCode::kFailedPrecondition},
    {Reason::kEtagMismatch, "ETAG_MISMATCH", absl::StatusCode::kAborted},
    {Reason::kChannelCountMismatch, "CHANNEL_COUNT_MISMATCH", absl::StatusCode::kInvalidArgument},
    {Reason::kRankUnsupported, "RANK_UNSUPPORTED", absl::StatusCode::kInvalidArgument},
    {Reason::kDataLengthMismatch, "DATA_LENGTH_MISMATCH", absl::StatusCode::kInvalidArgument},
    {Reason::kShapeOverflow, "SHAPE_OVERFLOW", absl::StatusCode::kInvalidArgument},
    {Reason::kDimensionNegative, "DIMENSION_NEGATIVE", absl::StatusCode::kInvalidArgument},
    {Reason::kDtypeUnknown, "DTYPE_UNKNOWN", absl::StatusCode::kInvalidArgument},
    {Reason::kLayoutUnknown, "LAYOUT_UNKNOWN", absl::StatusCode::kInvalidArgument},
    {Reason::kNonFiniteValue, "NON_FINITE_VALUE", absl::StatusCode::kInvalidArgument},
    {Reason::kOneValuePerChannel, "ONE_VALUE_PER_CHANNEL", absl::StatusCode::kInvalidArgument},
    {Reason::kBatchMissing, "BATCH_MISSING", absl::StatusCode::kInvalidArgument},
    {Reason::kOutputNotPossible, "OUTPUT_NOT_POSSIBLE", absl::StatusCode::kInvalidArgument},
    {Reason::kMomentsCountNegative, "MOMENTS_COUNT_NEGATIVE", absl::StatusCode::kInvalidArgument},
    {Reason::kMomentsM2Negative, "MOMENTS_M2_NEGATIVE", absl::StatusCode::kInvalidArgument},
    {Reason::kMomentsLengthMismatch, "MOMENTS_LENGTH_MISMATCH", absl::StatusCode::kInvalidArgument},
    {Reason::kSequenceInvalid, "SEQUENCE_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kProducerIdInvalid, "PRODUCER_ID_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kProducerTableFull, "PRODUCER_TABLE_FULL", absl::StatusCode::kResourceExhausted},
    {Reason::kDurabilityUnknown, "DURABILITY_UNKNOWN", absl::StatusCode::kInvalidArgument},
    {Reason::kEpsOutOfRange, "EPS_OUT_OF_RANGE", absl::StatusCode::kInvalidArgument},
    {Reason::kMomentumOutOfRange, "MOMENTUM_OUT_OF_RANGE", absl::StatusCode::kInvalidArgument},
    {Reason::kNumFeaturesOutOfRange, "NUM_FEATURES_OUT_OF_RANGE",
     absl::StatusCode::kInvalidArgument},
    {Reason::kCorrectionOutOfRange, "CORRECTION_OUT_OF_RANGE", absl::StatusCode::kInvalidArgument},
    {Reason::kKindUnknown, "KIND_UNKNOWN", absl::StatusCode::kInvalidArgument},
    {Reason::kNonFinitePolicyUnknown, "NON_FINITE_POLICY_UNKNOWN",
     absl::StatusCode::kInvalidArgument},
    {Reason::kParametersAbsent, "PARAMETERS_ABSENT", absl::StatusCode::kFailedPrecondition},
    {Reason::kParametersLengthMismatch, "PARAMETERS_LENGTH_MISMATCH",
     absl::StatusCode::kInvalidArgument},
    {Reason::kRunningStatsAbsent, "RUNNING_STATS_ABSENT", absl::StatusCode::kFailedPrecondition},
    {Reason::kUpdateMaskInvalid, "UPDATE_MASK_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kFieldImmutable, "FIELD_IMMUTABLE", absl::StatusCode::kInvalidArgument},
    {Reason::kPageTokenInvalid, "PAGE_TOKEN_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kPageSizeInvalid, "PAGE_SIZE_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kViewUnknown, "VIEW_UNKNOWN", absl::StatusCode::kInvalidArgument},
    {Reason::kMessageTooLarge, "MESSAGE_TOO_LARGE", absl::StatusCode::kResourceExhausted},
    {Reason::kMessageMalformed, "MESSAGE_MALFORMED", absl::StatusCode::kInvalidArgument},
    {Reason::kRecordDamaged, "RECORD_DAMAGED", absl::StatusCode::kDataLoss},
    {Reason::kStoreUnavailable, "STORE_UNAVAILABLE", absl::StatusCode::kUnavailable},
    {Reason::kStoreFull, "STORE_FULL", absl::StatusCode::kResourceExhausted},
    {Reason::kRevisionConflict, "REVISION_CONFLICT", absl::StatusCode::kAborted},
    {Reason::kWriteQueueFull, "WRITE_QUEUE_FULL", absl::StatusCode::kUnavailable},
    {Reason::kShuttingDown, "SHUTTING_DOWN", absl::StatusCode::kUnavailable},
    {Reason::kLimitReached, "LIMIT_REACHED", absl::StatusCode::kResourceExhausted},
    {Reason::kInternalError, "INTERNAL_ERROR", absl::StatusCode::kInternal},
    {Reason::kNormalizedShapeInvalid, "NORMALIZED_SHAPE_INVALID",
     absl::StatusCode::kInvalidArgument},
    {Reason::kNormalizedShapeMismatch, "NORMALIZED_SHAPE_MISMATCH",
     absl::StatusCode::kInvalidArgument},
    {Reason::kNumGroupsInvalid, "NUM_GROUPS_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kFieldNotApplicable, "FIELD_NOT_APPLICABLE", absl::StatusCode::kInvalidArgument},
    {Reason::kOptimizerInvalid, "OPTIMIZER_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kOptimizerAbsent, "OPTIMIZER_ABSENT", absl::StatusCode::kFailedPrecondition},
    {Reason::kParameterDtypeInvalid, "PARAMETER_DTYPE_INVALID", absl::StatusCode::kInvalidArgument},
    {Reason::kGradientShapeMismatch, "GRADIENT_SHAPE_MISMATCH", absl::StatusCode::kInvalidArgument},
    {Reason::kGradientsMissing, "GRADIENTS_MISSING", absl::StatusCode::kInvalidArgument},
    {Reason::kModeUnknown, "MODE_UNKNOWN", absl::StatusCode::kInvalidArgument},
    {Reason::kCalibrationActive, "CALIBRATION_ACTIVE", absl::StatusCode::kFailedPrecondition},
    {Reason::kCalibrationNotActive, "CALIBRATION_NOT_ACTIVE",
     absl::StatusCode::kFailedPrecondition},
    {Reason::kCalibrationEmpty, "CALIBRATION_EMPTY", absl::StatusCode::kFailedPrecondition},
    {Reason::kCalibrationMethodUnknown, "CALIBRATION_METHOD_UNKNOWN",
     absl::StatusCode::kInvalidArgument},
    {Reason::kMomentsNotPossible, "MOMENTS_NOT_POSSIBLE", absl::StatusCode::kInvalidArgument},
    {Reason::kCalibrationMismatch, "CALIBRATION_MISMATCH", absl::StatusCode::kFailedPrecondition},
    {Reason::kRunningStatsOutOfRange, "RUNNING_STATS_OUT_OF_RANGE",
     absl::StatusCode::kInvalidArgument},
    {Reason::kServiceNotFound, "SERVICE_NOT_FOUND", absl::StatusCode::kNotFound},
};

static_assert(
    [] {
      for (size_t i = 0; i < std::size(kTable); ++i) {
        if (static_cast<size_t>(kTable[i].reason) != i + 1) return false;
      }
      return true;
    }(),
    "the table is indexed by reason");

constexpr absl::string_view kReasonPayload = "normd/reason";
constexpr absl::string_view kMetadataPayloadPrefix = "normd/metadata/";

}  // namespace

absl::Span<const ReasonInfo> ReasonTable() { return kTable; }

const ReasonInfo& GetReasonInfo(Reason reason) { return kTable[static_cast<size_t>(reason) - 1]; }

absl::Status MakeError(Reason reason, absl::string_view message, ErrorMetadata metadata) {
  const ReasonInfo& info = GetReasonInfo(reason);
  absl::Status status(info.code, message);
  status.SetPayload(kReasonPayload, absl::Cord(info.name));
  for (const auto& [key, value] : metadata) {
    status.SetPayload(absl::StrCat(kMetadataPayloadPrefix, key), absl::Cord(value));
  }
  return status;
}

std::optional<Reason> GetReason(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kReasonPayload);
  if (!payload.has_value()) return std::nullopt;
  for (const ReasonInfo& info : kTable) {
    if (*payload == info.name) return info.reason;
  }
  return std::nullopt;
}

std::map<std::string, std::string> GetErrorMetadata(const absl::Status& status) {
  std::map<std::string, std::string> metadata;
  status.ForEachPayload([&metadata](absl::string_view url, const absl::Cord& payload) {
    if (absl::ConsumePrefix(&url, kMetadataPayloadPrefix)) {
      metadata.emplace(url, std::string(payload));
    }
  });
  return metadata;
}

absl::Status Prefixed(const absl::Status& status, absl::string_view prefix) {
  absl::Status result(status.code(), absl::StrCat(prefix, status.message()));
  status.ForEachPayload([&result](absl::string_view url, const absl::Cord& payload) {
    result.SetPayload(url, payload);
  });
  return result;
}

}  // namespace normd
