#include "server/server.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "core/base/memory_budget.h"
#include "core/base/parallel.h"
#include "core/base/status_macros.h"
#include "core/registry/state_registry.h"
#include "core/store/memory_state_store.h"
#include "core/store/rocksdb_state_store.h"
#include "server/apply_gradients_handler.h"
#include "server/backward_handler.h"
#include "server/buffer_pool.h"
#include "server/call_set.h"
#include "server/data_handler.h"
#include "server/health_service.h"
#include "server/log.h"
#include "server/normalization_service.h"
#include "server/normalize_handler.h"
#include "server/reflection_service.h"
#include "server/serving_queue.h"
#include "server/state_service.h"
#include "server/train_handler.h"
#include "server/unary_gate.h"
#include "server/watch_hub.h"

namespace normd {
namespace {

// How long calls that are no streams get to be committed once the streams have ended, and to come,
// and after how long without one nobody sends any: an answer must reach its client, and the
// client's next call the server.
constexpr absl::Duration kUnaryGrace = absl::Seconds(1);
constexpr absl::Duration kUnaryQuiet = absl::Milliseconds(200);

constexpr const char* kOurServices[] = {"normd.v1.StateService", "normd.v1.NormalizationService"};
constexpr const char* kStandardServices[] = {"grpc.health.v1.Health",
                                             "grpc.reflection.v1.ServerReflection",
                                             "grpc.reflection.v1alpha.ServerReflection"};

std::vector<std::string> AllServices() {
  std::vector<std::string> services(std::begin(kOurServices), std::end(kOurServices));
  services.insert(services.end(), std::begin(kStandardServices), std::end(kStandardServices));
  return services;
}

// Tells the log, the watchers and the process what the registry does.
class Observer final : public RegistryObserver {
 public:
  Observer(WatchHub* hub, void (*on_fatal)(const absl::Status&)) : hub_(hub), on_fatal_(on_fatal) {}

  void OnPublished(const std::string& name, const std::shared_ptr<const NormState>& before,
                   const std::shared_ptr<const NormState>& state) override {
    hub_->Publish(name, before, state);
  }
  void OnStoreBlocked(const absl::Status& status) override {
    spdlog::error("event=store_blocked error={}", LogValue(status.message()));
  }
  void OnStoreUnblocked() override { spdlog::info("event=store_unblocked"); }
  void OnFatal(const absl::Status& status) override {
    spdlog::critical("event=store_failed error={}", LogValue(status.message()));
    on_fatal_(status);
  }

 private:
  WatchHub* const hub_;
  void (*const on_fatal_)(const absl::Status&);
};

absl::StatusOr<std::unique_ptr<StateStore>> OpenStore(const ServerOptions& options) {
  if (options.store == ServerOptions::Store::kMemory) return NewMemoryStateStore();
  RocksdbOptions rocksdb;
  rocksdb.directory = options.data_dir;
  rocksdb.write_buffer_bytes = options.store_write_buffer_bytes;
  rocksdb.block_cache_bytes = options.store_cache_bytes;
  rocksdb.reserved_bytes = options.store_reserved_bytes;
  rocksdb.accept_data_loss = options.accept_data_loss;
  rocksdb.on_event = [](absl::string_view event) { spdlog::warn("{}", std::string(event)); };
  return OpenRocksdbStateStore(std::move(rocksdb));
}

absl::Status CannotListen(const std::string& listen) {
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot listen on '", listen, "': expected HOST:PORT or unix:PATH, free and allowed"));
}

// Whether `listen` is a unix socket and names one.
bool IsUnixSocket(absl::string_view listen) {
  return (absl::ConsumePrefix(&listen, "unix:") ||
          absl::ConsumePrefix(&listen, "unix-abstract:")) &&
         !listen.empty();
}

// Whether `listen` ends in a port. gRPC takes a port modulo 65536, and 443 when there is none.
bool HasPort(absl::string_view listen) {
  const size_t colon = listen.rfind(':');
  int port = 0;
  return colon != absl::string_view::npos && absl::SimpleAtoi(listen.substr(colon + 1), &port) &&
         port >= 0 && port <= 65535;
}

// Whether `listen` is a unix socket that somebody serves. gRPC takes the path away from its owner
// without a word, as it must when the owner is dead.
bool IsServedSocket(absl::string_view listen) {
  if (!absl::ConsumePrefix(&listen, "unix:")) return false;
  absl::ConsumePrefix(&listen, "//");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (listen.size() >= sizeof(address.sun_path)) return false;
  listen.copy(address.sun_path, listen.size());
  const int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket_fd < 0) return false;
  const bool served =
      connect(socket_fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(socket_fd);
  return served;
}

// The address a client can use: `listen` with the port that was bound.
std::string BoundAddress(const std::string& listen, int port) {
  if (IsUnixSocket(listen)) return listen;
  return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
}

class RunningServer final : public Server {
 public:
  RunningServer(const ServerOptions& options, std::unique_ptr<StateStore> store, const Clock* clock,
                void (*on_fatal)(const absl::Status&))
      : options_(options),
        store_(std::move(store)),
        memory_(options.memory_bytes_max - StoreMemoryBytes(options)),
        hub_(options.watch_pending_states_max, &memory_),
        observer_(&hub_, on_fatal),
        registry_({.cache_bytes_max = options.cache_bytes,
                   .memory = &memory_,
                   .loader_threads = static_cast<int>(options.loader_threads),
                   .write_shards = static_cast<int>(options.write_shards),
                   .write = {.pending_updates_max = options.write_queue_updates_max,
                             .dirty_bytes_max = options.write_queue_bytes_max,
                             .relaxed_commit_delay = options.relaxed_commit_delay,
                             .run_answers =
                                 [this](absl::AnyInvocable<void()> answers) {
                                   queue_->Post(std::move(answers));
                                 }}},
                  store_.get(), clock, &observer_),
        streams_(options.streams_max),
        watches_(options.watches_max),
        runner_(MakeParallelRunner(static_cast<int>(options.compute_threads))),
        buffers_(BufferPool::Create(
            std::min(kIdleBufferBytesMax, memory_.share(MemoryUse::kStreams) / 8))),
        data_context_({.registry = &registry_,
                       .runner = runner_.get(),
                       .buffers = buffers_.get(),
                       .coefficients = &coefficients_,
                       .producer_limits = {.producers_max = options.producers_max,
                                           .age_max = options.producer_age_max},
                       .message_bytes_max = options.message_bytes_max}),
        train_(data_context_),
        normalize_(data_context_),
        backward_(data_context_),
        apply_gradients_(data_context_),
        normalization_service_(
            {.train = &train_,
             .normalize = &normalize_,
             .backward = &backward_,
             .apply_gradients = &apply_gradients_},
            {.messages_max = options.stream_messages_max, .bytes_max = options.stream_bytes_max},
            &streams_, &gate_, &memory_),
        state_service_({.message_bytes_max = options.message_bytes_max,
                        .page_size_max = options.page_size_max,
                        .watch_pending_states_max = options.watch_pending_states_max},
                       &registry_, &memory_, clock, &hub_, &gate_, &watches_),
        standard_memory_(kStandardServicesBytes),
        standard_calls_(kStandardCallsMax),
        health_service_({std::begin(kOurServices), std::end(kOurServices)}, &standard_calls_,
                        &standard_memory_),
        reflection_handler_(AllServices()),
        reflection_service_(&reflection_handler_, &standard_calls_, &standard_memory_),
        reflection_alpha_service_(&reflection_handler_, &standard_calls_, &standard_memory_) {}

  ~RunningServer() override { Drain(); }

  absl::Status Listen() {
    grpc::ServerBuilder builder;
    std::vector<int> ports(options_.listen.size(), 0);
    for (size_t i = 0; i < options_.listen.size(); ++i) {
      const std::string& listen = options_.listen[i];
      if (IsUnixSocket(listen) ? IsServedSocket(listen) : !HasPort(listen)) {
        return CannotListen(listen);
      }
      builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &ports[i]);
    }
    for (grpc::Service* service :
         {normalization_service_.service(), state_service_.service(), health_service_.service(),
          reflection_service_.service(), reflection_alpha_service_.service()}) {
      builder.RegisterService(service);
    }
    // Larger ones are answered in place up to here; see kMessageHardFactor.
    builder.SetMaxReceiveMessageSize(
        static_cast<int>(options_.message_bytes_max * kMessageHardFactor));
    builder.SetMaxSendMessageSize(-1);
    // Calls that gRPC holds until their turn comes are counted nowhere else.
    builder.AddChannelArgument(
        GRPC_ARG_MAX_CONCURRENT_STREAMS,
        static_cast<int>(std::min<int64_t>(
            options_.streams_max + options_.watches_max + kOtherCallsPerConnection, INT_MAX)));
    if (options_.stream_window_bytes > 0) {
      builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES,
                                 static_cast<int>(options_.stream_window_bytes));
      // Its estimate would replace the window.
      builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    }
    // Otherwise a second server would quietly share the port.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    queue_ = std::make_unique<ServingQueue>(builder, static_cast<int>(options_.serving_threads));
    server_ = builder.BuildAndStart();
    for (size_t i = 0; i < ports.size(); ++i) {
      // The first that could not be bound; those after it were not tried.
      if (ports[i] == 0) return CannotListen(options_.listen[i]);
      addresses_.push_back(BoundAddress(options_.listen[i], ports[i]));
    }
    if (server_ == nullptr) return absl::FailedPreconditionError("gRPC cannot start its server");
    normalization_service_.Serve(queue_.get());
    state_service_.Serve(queue_.get());
    health_service_.Serve(queue_.get());
    reflection_service_.Serve(queue_.get());
    reflection_alpha_service_.Serve(queue_.get());
    queue_->Start();
    return WritePortFile();
  }

  const std::vector<std::string>& addresses() const override { return addresses_; }

  void Drain() override {
    absl::MutexLock lock(&drain_mutex_);
    if (drained_) return;
    drained_ = true;
    if (server_ != nullptr) {
      health_service_.StopServing();
      streams_.Drain();
      watches_.Drain();
      const absl::Time deadline = absl::Now() + options_.drain_timeout;
      const bool ended = streams_.AwaitEmpty(deadline - absl::Now()) &&
                         watches_.AwaitEmpty(deadline - absl::Now());
      if (!ended) spdlog::warn("event=drain_timeout");
    }
    gate_.Close();
    // Before the server's end, which waits for every call: a store that takes no writes would keep
    // it from ending.
    registry_.Shutdown(kUnaryGrace);
    if (server_ != nullptr) gate_.AwaitQuiet(kUnaryQuiet, kUnaryGrace);
    standard_calls_.Drain();
    if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now() + kUnaryGrace));
    queue_.reset();
    if (port_file_written_) std::remove(options_.port_file.c_str());
  }

 private:
  absl::Status WritePortFile() {
    if (options_.port_file.empty()) return absl::OkStatus();
    // Renamed when whole, so that a reader never sees half of it.
    const std::string temporary = options_.port_file + ".tmp";
    std::ofstream file(temporary);
    for (const std::string& address : addresses_) file << address << "\n";
    file.close();
    if (!file || std::rename(temporary.c_str(), options_.port_file.c_str()) != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("cannot write the port file '", options_.port_file, "'"));
    }
    port_file_written_ = true;
    return absl::OkStatus();
  }

  const ServerOptions options_;
  // Constant after Listen.
  std::vector<std::string> addresses_;
  bool port_file_written_ = false;

  // In the order of use: what is below uses what is above.
  std::unique_ptr<StateStore> store_;
  MemoryBudget memory_;
  WatchHub hub_;
  Observer observer_;
  StateRegistry registry_;
  CallSet streams_;
  CallSet watches_;
  UnaryGate gate_;
  std::unique_ptr<ParallelRunner> runner_;
  std::shared_ptr<BufferPool> buffers_;
  CoefficientCache coefficients_;
  const DataContext data_context_;
  TrainHandler train_;
  NormalizeHandler normalize_;
  BackwardHandler backward_;
  ApplyGradientsHandler apply_gradients_;
  NormalizationService normalization_service_;
  StateService state_service_;
  MemoryBudget standard_memory_;
  CallSet standard_calls_;
  HealthService health_service_;
  ReflectionHandler reflection_handler_;
  ReflectionService<AsyncReflectionService> reflection_service_;
  ReflectionService<AsyncReflectionAlphaService> reflection_alpha_service_;
  std::unique_ptr<ServingQueue> queue_;
  std::unique_ptr<grpc::Server> server_;

  absl::Mutex drain_mutex_;
  bool drained_ ABSL_GUARDED_BY(drain_mutex_) = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      const Clock* clock,
                                                      void (*on_fatal)(const absl::Status&)) {
  NORMD_ASSIGN_OR_RETURN(std::unique_ptr<StateStore> store, OpenStore(options));
  auto server = std::make_unique<RunningServer>(options, std::move(store), clock, on_fatal);
  NORMD_RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace normd
