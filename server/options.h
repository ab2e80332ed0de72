#ifndef NORMD_SERVER_OPTIONS_H_
#define NORMD_SERVER_OPTIONS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "core/base/limits.h"

namespace normd {

// As many as the machine has cores for this process, within the flags' ranges; two at least serve.
int64_t DefaultComputeThreads();
int64_t DefaultServingThreads();

// Everything a server is told, by flags.
struct ServerOptions {
  enum class Store { kRocksdb, kMemory };

  std::vector<std::string> listen = {"127.0.0.1:7117"};
  std::string port_file;  // empty: none
  Store store = Store::kRocksdb;
  std::string data_dir = "normd-data";
  bool accept_data_loss = false;
  std::string log_level = "info";

  int64_t cache_bytes = kDefaultCacheBytes;
  int64_t loader_threads = kDefaultLoaderThreads;
  int64_t write_shards = kDefaultWriteShards;
  int64_t write_queue_updates_max = kDefaultPendingUpdates;
  int64_t write_queue_bytes_max = kDefaultDirtyBytes;
  absl::Duration relaxed_commit_delay = kDefaultRelaxedCommitDelay;
  int64_t store_write_buffer_bytes = kDefaultStoreWriteBufferBytes;
  int64_t store_cache_bytes = kDefaultStoreCacheBytes;
  int64_t store_reserved_bytes = kDefaultStoreReservedBytes;

  int64_t compute_threads = DefaultComputeThreads();
  int64_t serving_threads = DefaultServingThreads();

  int64_t memory_bytes_max = kDefaultMemoryBytes;
  int64_t message_bytes_max = kDefaultMessageBytes;
  int64_t streams_max = kDefaultStreams;
  int64_t stream_messages_max = kDefaultStreamMessages;
  int64_t stream_bytes_max = kDefaultStreamBytes;
  int64_t stream_window_bytes = 0;  // 0: as gRPC estimates
  int64_t watches_max = kDefaultWatchers;
  int64_t watch_pending_states_max = kDefaultWatchPendingStates;
  int64_t page_size_max = kPageSizeMax;

  int64_t producers_max = kDefaultProducers;
  absl::Duration producer_age_max = kDefaultProducerAge;
  absl::Duration drain_timeout = kDefaultDrainTimeout;
};

// What the store takes of memory_bytes_max: its buffers and its cache. The memory store takes
// nothing; its records are not counted.
int64_t StoreMemoryBytes(const ServerOptions& options);

// The process is to end now with this code, its text having been printed: --help, --version, or a
// usage error (code kExitUsage).
struct ExitNow {
  int code = 0;
};

inline constexpr int kExitUsage = 2;

// Reads the command line and the flag file. Prints what --help and --version ask for, and what is
// wrong with a flag.
std::variant<ServerOptions, ExitNow> ParseOptions(int argc, const char* const* argv);

}  // namespace normd

#endif  // NORMD_SERVER_OPTIONS_H_
