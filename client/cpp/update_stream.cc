#include "client/cpp/update_stream.h"

#include <random>

#include "absl/strings/str_format.h"
#include "client/cpp/wire_status.h"

namespace normd::client {
namespace {

constexpr size_t kProducerIdBytesMax = 128;

}  // namespace

std::string ProducerIdOr(std::string producer_id) {
  if (!producer_id.empty()) return producer_id;
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

absl::Status CheckUpdateStreamOptions(const UpdateOutbox::Options& options,
                                      const RetryOptions& retry) {
  absl::Status status = CheckStreamOptions(options.window, options.held_bytes_max, retry);
  if (!status.ok()) return status;
  if (options.first_sequence < 1) {
    return MakeLocalError(
        absl::StatusCode::kInvalidArgument, v1::SEQUENCE_INVALID,
        absl::StrCat("expected a first_sequence of at least 1, got ", options.first_sequence));
  }
  if (options.producer_id.size() > kProducerIdBytesMax) {
    return MakeLocalError(absl::StatusCode::kInvalidArgument, v1::PRODUCER_ID_INVALID,
                          absl::StrCat("expected a producer_id of at most ", kProducerIdBytesMax,
                                       " bytes, got ", options.producer_id.size()));
  }
  return absl::OkStatus();
}

}  // namespace normd::client
