#ifndef NORMD_SERVER_CONTROL_CALL_H_
#define NORMD_SERVER_CONTROL_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/memory_budget.h"
#include "server/message_codec.h"

namespace normd {

// The server's end of a control call: counts the memory of its request and of its answer until the
// answer is sent, so that clients that are slow to read cannot pile answers up. Owned by gRPC.
class ControlCall final : public grpc::ServerUnaryReactor {
 public:
  // `memory` outlives the call.
  ControlCall(MemoryBudget* memory, int64_t request_bytes, int64_t request_bytes_max)
      : memory_(memory, MemoryUse::kCalls),
        admitted_(CheckMessageBytes(request_bytes, request_bytes_max)) {
    if (admitted_.ok() && !memory_.TryResize(request_bytes)) {
      admitted_ = memory->NoRoom(MemoryUse::kCalls);
    }
  }

  // OK, or why the call is to be refused: MESSAGE_TOO_LARGE, LIMIT_REACHED (no room).
  const absl::Status& admitted() const { return admitted_; }

  // Counts an answer that is about to be made, if there is room for one. Not after Finish.
  [[nodiscard]] bool TryAddAnswer(int64_t bytes) {
    return memory_.TryResize(memory_.bytes() + bytes);
  }
  // Counts an answer that must be given. Not after Finish.
  void AddAnswer(int64_t bytes) { memory_.Resize(memory_.bytes() + bytes); }

  void OnDone() override { delete this; }

 private:
  MemoryReservation memory_;
  absl::Status admitted_;  // constant after construction
};

}  // namespace normd

#endif  // NORMD_SERVER_CONTROL_CALL_H_
