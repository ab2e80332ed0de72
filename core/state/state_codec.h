#ifndef NORMD_CORE_STATE_STATE_CODEC_H_
#define NORMD_CORE_STATE_STATE_CODEC_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/state/norm_state.h"

namespace normd {

namespace storage::v1 {
class StateRecord;
}  // namespace storage::v1

// The bytes of `state` as they lie on disk; the format stands in
// proto/normd/storage/v1/state_record.proto. A state that format version 1 can hold (a BATCH_NORM
// with float32 parameters, without optimizer and calibration) is written as that, byte for byte as
// by servers of before; any other as version 2, which these refuse rather than lose a part of it.
std::string EncodeState(const NormState& state);

// Encodes one state after another in the same memory. Thread-compatible.
class StateEncoder {
 public:
  StateEncoder();
  ~StateEncoder();

  StateEncoder(const StateEncoder&) = delete;
  StateEncoder& operator=(const StateEncoder&) = delete;

  // `data` becomes what EncodeState gives; its memory is used again.
  void Encode(const NormState& state, std::string& data);

 private:
  std::unique_ptr<storage::v1::StateRecord> record_;
};

// The state of a record stored under `name` at `revision`. Errors: RECORD_DAMAGED (kDataLoss)
// naming the state when the bytes are too short, fail their checksum, have a format version that
// this server does not know (it knows 1 and 2), do not parse, or do not fit together.
absl::StatusOr<NormState> DecodeState(absl::string_view name, int64_t revision,
                                      absl::string_view data);

}  // namespace normd

#endif  // NORMD_CORE_STATE_STATE_CODEC_H_
