#ifndef NORMD_CORE_STATE_STATE_RECORD_H_
#define NORMD_CORE_STATE_STATE_RECORD_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/state/norm_state.h"
#include "normd/storage/v1/state_record.pb.h"

// A state as the message that its stored record holds. The bytes around it are state_codec.h's.
namespace normd {

// The newest format version, of which OldestVersionFor says which states need it.
inline constexpr uint32_t kFormatVersionMax = 2;

// The format version that `state` is written in: 1 where that can hold it, so that a server of
// before reads it too, else 2.
uint32_t OldestVersionFor(const NormState& state);

// Replaces what is in `record`, whose memory is used again. REQUIRES: the arrays of `state` fit its
// config.
void ToRecord(const NormState& state, storage::v1::StateRecord& record);

// The state of a record found under `name` at `revision`. Errors: RECORD_DAMAGED (kDataLoss) naming
// the state when the record's parts do not fit together. Running statistics, and under PROPAGATE
// other values too, may be not finite.
absl::StatusOr<NormState> FromRecord(absl::string_view name, int64_t revision,
                                     const storage::v1::StateRecord& record);

// The error for a record that cannot be read: RECORD_DAMAGED.
absl::Status RecordDamaged(absl::string_view name, absl::string_view problem);

}  // namespace normd

#endif  // NORMD_CORE_STATE_STATE_RECORD_H_
