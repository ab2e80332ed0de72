#ifndef NORMD_TESTS_CORE_ERROR_MATCHERS_H_
#define NORMD_TESTS_CORE_ERROR_MATCHERS_H_

#include <gmock/gmock.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/error.h"

namespace normd {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

inline std::string ReasonName(const absl::Status& status) {
  const std::optional<Reason> reason = GetReason(status);
  return reason.has_value() ? std::string(GetReasonInfo(*reason).name) : "";
}

// An absl::Status or StatusOr made by MakeError for `reason`, with its code.
MATCHER_P(HasReason, reason, std::string(GetReasonInfo(reason).name)) {
  const absl::Status& status = StatusOf(arg);
  *result_listener << "which is " << status.ToString() << " (" << ReasonName(status) << ")";
  return GetReason(status) == reason && status.code() == GetReasonInfo(reason).code;
}

// HasReason, with a message that fits `message` (a string or a matcher of one).
MATCHER_P2(IsError, reason, message, std::string(GetReasonInfo(reason).name)) {
  return testing::ExplainMatchResult(HasReason(reason), arg, result_listener) &&
         testing::ExplainMatchResult(message, std::string(StatusOf(arg).message()),
                                     result_listener);
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_ERROR_MATCHERS_H_
