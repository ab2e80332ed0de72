#ifndef NORMD_SERVER_SERVER_H_
#define NORMD_SERVER_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/clock.h"
#include "server/options.h"

namespace normd {

// A running normd: the store, the registry, the services and their listeners. Thread-safe.
class Server {
 public:
  // Opens the store and serves. Errors: those of OpenRocksdbStateStore; kFailedPrecondition when an
  // address cannot be bound or the port file cannot be written.
  // `on_fatal` is called when the store failed in a way that forbids any further acknowledgement;
  // it must end the process. `clock` outlives the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const ServerOptions& options, const Clock* clock,
      void (*on_fatal)(const absl::Status& status));

  // Drains.
  virtual ~Server() = default;

  // Where it serves: "127.0.0.1:40123", "unix:/run/normd.sock".
  virtual const std::vector<std::string>& addresses() const = 0;

  // Turns health to NOT_SERVING, ends the streams with what they are owed, commits everything, and
  // stops serving, within about --drain-timeout. Idempotent.
  virtual void Drain() = 0;
};

}  // namespace normd

#endif  // NORMD_SERVER_SERVER_H_
