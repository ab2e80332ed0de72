#ifndef NORMD_TESTS_SERVER_WIRE_ERROR_H_
#define NORMD_TESTS_SERVER_WIRE_ERROR_H_

#include <grpcpp/support/status.h>

#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "google/rpc/status.pb.h"

namespace normd::testing {

// What a client can read of an error.
struct WireError {
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string message;
  // Of the one ErrorInfo; the test fails when there are several.
  std::string reason;
  std::string domain;
  std::map<std::string, std::string> metadata;
  std::vector<std::string> fields;  // of BadRequest
  bool has_retry_info = false;      // with a delay above zero
};

WireError ErrorOf(const google::rpc::Status& status);
// As the first, from a call's status: also checks that code and message stand in both places.
WireError ErrorOf(const grpc::Status& status);

std::ostream& operator<<(std::ostream& stream, const WireError& error);

}  // namespace normd::testing

#endif  // NORMD_TESTS_SERVER_WIRE_ERROR_H_
