#ifndef NORMD_SERVER_WATCH_STREAM_H_
#define NORMD_SERVER_WATCH_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "normd/v1/state_service.pb.h"
#include "server/call_set.h"
#include "server/watch_hub.h"

namespace normd {

// The transport of WatchStates: sends the events of `hub` under `prefix` as fast as the client
// reads; at most `pending_states_max` states wait for it. When `admitted` is an error, the stream
// ends with it. `hub` and `calls` outlive the stream. Owned by gRPC.
grpc::ServerWriteReactor<v1::WatchStatesResponse>* StartWatchStream(const absl::Status& admitted,
                                                                    WatchHub* hub,
                                                                    absl::string_view prefix,
                                                                    int64_t pending_states_max,
                                                                    CallSet* calls);

}  // namespace normd

#endif  // NORMD_SERVER_WATCH_STREAM_H_
