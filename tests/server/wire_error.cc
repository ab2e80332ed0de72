#include "tests/server/wire_error.h"

#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"

namespace normd::testing {

WireError ErrorOf(const google::rpc::Status& status) {
  WireError error;
  error.code = static_cast<grpc::StatusCode>(status.code());
  error.message = status.message();
  for (const google::protobuf::Any& detail : status.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      EXPECT_EQ(error.reason, "") << "more than one ErrorInfo";
      error.reason = info.reason();
      error.domain = info.domain();
      error.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (detail.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        error.fields.push_back(violation.field());
        EXPECT_EQ(violation.description(), status.message());
      }
    } else if (detail.UnpackTo(&retry)) {
      error.has_retry_info = retry.retry_delay().nanos() > 0 || retry.retry_delay().seconds() > 0;
    } else {
      ADD_FAILURE() << "unexpected detail " << detail.type_url();
    }
  }
  return error;
}

WireError ErrorOf(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  if (status.error_details().empty()) {
    WireError error;
    error.code = status.error_code();
    error.message = status.error_message();
    return error;
  }
  EXPECT_EQ(details.code(), status.error_code());
  EXPECT_EQ(details.message(), status.error_message());
  return ErrorOf(details);
}

std::ostream& operator<<(std::ostream& stream, const WireError& error) {
  return stream << "code " << error.code << " reason " << error.reason << ": " << error.message;
}

}  // namespace normd::testing
