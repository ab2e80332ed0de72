#ifndef NORMD_SERVER_DATA_HANDLER_H_
#define NORMD_SERVER_DATA_HANDLER_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>

#include "absl/types/span.h"
#include "core/base/limits.h"
#include "core/base/parallel.h"
#include "core/registry/state_registry.h"
#include "core/state/producer_table.h"
#include "server/buffer_pool.h"
#include "server/coefficient_cache.h"
#include "server/message_handler.h"

namespace normd {

// What the handlers of the data methods work with. Everything that is pointed to outlives them and
// every call.
struct DataContext {
  StateRegistry* registry = nullptr;
  ParallelRunner* runner = nullptr;
  BufferPool* buffers = nullptr;
  CoefficientCache* coefficients = nullptr;
  ProducerLimits producer_limits;
  int64_t message_bytes_max = kDefaultMessageBytes;
};

// The work behind a data method, whose requests each name a state. Thread-safe.
class DataHandler : public MessageHandler {
 public:
  // `use` is what the method does with the state.
  DataHandler(const DataContext& context, StateUse use) : context_(context), use_(use) {}

  // Tells the registry of the states that the requests name.
  void Prefetch(absl::Span<grpc::ByteBuffer* const> requests) override;

 protected:
  const DataContext context_;

 private:
  const StateUse use_;
};

}  // namespace normd

#endif  // NORMD_SERVER_DATA_HANDLER_H_
