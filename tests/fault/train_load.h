#ifndef NORMD_TESTS_FAULT_TRAIN_LOAD_H_
#define NORMD_TESTS_FAULT_TRAIN_LOAD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"

namespace normd::testing {

inline constexpr int64_t kLoadFeatures = 16;
inline constexpr double kOwnMomentum = 0.1;

// What a state must hold after some updates, folded here in plain float64.
struct ExpectedStats {
  std::vector<double> mean;
  std::vector<double> var;
};

// How far one client is with its own state.
struct LoadProgress {
  int64_t sent = 0;          // the highest sequence given to the stream
  int64_t acknowledged = 0;  // the highest sequence that the server said is on disk
};

// Clients that stream updates to a server as fast as it takes them, until told to stop. Each trains
// a state of its own (momentum kOwnMomentum) and one shared by all (cumulative average), update k
// of a client being a function of the seed, the client and k. The clients differ: one asks for
// outputs, one sends moments, one is relaxed. They keep a ledger of what was acknowledged.
// Thread-safe.
class TrainLoad {
 public:
  // Creates the states and starts the clients.
  static absl::StatusOr<std::unique_ptr<TrainLoad>> Start(const std::string& address, int clients,
                                                          uint64_t seed);
  // Cancels what runs.
  ~TrainLoad();

  TrainLoad(const TrainLoad&) = delete;
  TrainLoad& operator=(const TrainLoad&) = delete;

  // Waits until `count` more results have come than now, and of every client one. kDeadlineExceeded
  // after a minute.
  absl::Status WaitForResults(int64_t count);

  // Stops sending and waits until all that was sent is durable.
  absl::Status Finish();

  // Of each client.
  std::vector<LoadProgress> Progress() const;

  // The first error of a result, of a Send() or of the order of results; OK when there is none.
  absl::Status FirstError() const;

  // Results that said DUPLICATE: updates whose answer a crash had swallowed.
  int64_t duplicates() const;

  static std::string OwnState(int client);
  static std::string SharedState();

  // What OwnState(client) holds after the client's first `updates` updates.
  ExpectedStats ExpectedOwn(int client, int64_t updates) const;
  // What SharedState() holds after the first updates[i] updates of every client i.
  ExpectedStats ExpectedShared(const std::vector<int64_t>& updates) const;

 private:
  struct Worker {
    std::unique_ptr<client::Client> client;
    std::unique_ptr<client::TrainStream> stream;
    std::thread thread;
    LoadProgress progress;
    int64_t results = 0;
    bool relaxed = false;
  };

  explicit TrainLoad(uint64_t seed) : seed_(seed) {}

  void Run(int client);
  void OnResult(int client, const client::TrainResult& result);
  client::Batch MakeBatch(int client, int64_t update) const;
  client::Moments MakeMoments(int client, int64_t update) const;
  void AddError(const absl::Status& error);

  // Constant after Start().
  const uint64_t seed_;

  std::atomic<bool> stopping_ = false;

  mutable absl::Mutex mutex_;
  // The vector, the clients and the streams are constant after Start(); the rest is guarded.
  std::vector<Worker> workers_;
  int64_t results_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t duplicates_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status first_error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace normd::testing

#endif  // NORMD_TESTS_FAULT_TRAIN_LOAD_H_
