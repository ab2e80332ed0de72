#include "server/grpc_status.h"

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/error.h"
#include "google/rpc/error_details.pb.h"

namespace normd {
namespace {

constexpr absl::string_view kDomain = "normd";
constexpr size_t kMessageShownMax = 1024;
constexpr size_t kMetadataShownMax = 256;
constexpr absl::Duration kRetryDelay = absl::Milliseconds(100);

// The first bytes of `text`, cut between two characters of UTF-8.
std::string Cut(absl::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return std::string(text);
  size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

}  // namespace

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status result;
  result.set_code(static_cast<int>(status.code()));
  result.set_message(Cut(status.message(), kMessageShownMax));
  if (status.ok()) return result;

  google::rpc::ErrorInfo info;
  const Reason reason = GetReason(status).value_or(Reason::kInternalError);
  info.set_reason(std::string(GetReasonInfo(reason).name));
  info.set_domain(std::string(kDomain));
  google::rpc::BadRequest bad_request;
  for (const auto& [key, value] : GetErrorMetadata(status)) {
    if (key == "field") {
      google::rpc::BadRequest::FieldViolation& violation = *bad_request.add_field_violations();
      violation.set_field(Cut(value, kMetadataShownMax));
      violation.set_description(result.message());
    }
    (*info.mutable_metadata())[key] = Cut(value, kMetadataShownMax);
  }
  result.add_details()->PackFrom(info);
  if (bad_request.field_violations_size() > 0) result.add_details()->PackFrom(bad_request);
  if (absl::IsUnavailable(status)) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(kRetryDelay)));
    result.add_details()->PackFrom(retry);
  }
  return result;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status details = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(details.code()), details.message(),
                      details.SerializeAsString());
}

bool EndsStream(const absl::Status& status) {
  switch (GetReason(status).value_or(Reason::kInternalError)) {
    case Reason::kStoreUnavailable:
    case Reason::kStoreFull:
    case Reason::kWriteQueueFull:
    case Reason::kShuttingDown:
      return true;
    default:
      return false;
  }
}

}  // namespace normd
