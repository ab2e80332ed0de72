#ifndef NORMD_TESTS_CLIENT_FAKE_NORMALIZATION_SERVICE_H_
#define NORMD_TESTS_CLIENT_FAKE_NORMALIZATION_SERVICE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/server.h"
#include "normd/v1/errors.pb.h"
#include "normd/v1/normalization_service.grpc.pb.h"

namespace normd::client {

// The streams of a server that fails when told to. It keeps the exactly-once rule by itself and
// writes down what it applied, so that a test can tell a lost update from a repeated one. Listens
// on a unix socket of its own. Thread-safe.
//
// A relaxed update is applied and not durable until a durable one of its state follows. Updates are
// told apart by moments.count, or by the first value of a grad_output, which a test sets to what it
// likes.
class FakeNormalizationService {
 public:
  // What to do with one message of a stream.
  enum class Action {
    kAnswer,
    kDropBefore,   // end the stream with UNAVAILABLE, the message unseen
    kDropAfter,    // apply, then end the stream with UNAVAILABLE: the answer is lost
    kCrashBefore,  // forget what is not durable and end every stream
    kCrashAfter,   // apply, then as kCrashBefore
    kRefuse,       // answer in place with NON_FINITE_VALUE and {"index": "7"}
    kSwallow,      // apply and never answer
    kMisnumber,    // answer with a sequence nobody sent
  };
  struct Message {
    std::string state;
    int64_t sequence = 0;
    v1::Durability durability = v1::DURABILITY_UNSPECIFIED;
    int64_t number = 0;  // counts the messages of all streams from 1
    int64_t stream = 0;  // counts the streams from 1
  };

  FakeNormalizationService();
  ~FakeNormalizationService();

  // "unix:..."; the same after Stop() and Start().
  const std::string& address() const { return address_; }
  void Start();
  void Stop();

  // Decides about every message when it is its turn to be answered; one call at a time. To be set
  // before the first stream.
  void OnMessage(std::function<Action(const Message&)> decide) { decide_ = std::move(decide); }
  // Ends every new stream with `status`; OK: no longer.
  void RefuseStreams(grpc::Status status);
  // While true, messages are read and not answered.
  void HoldAnswers(bool hold);

  // Waits until `count` messages have come in all; false when they have not in ten seconds.
  bool WaitForMessages(int64_t count) const;

  int64_t messages() const;
  int64_t streams() const;
  // The most messages of one stream that had come and were not answered.
  int64_t outstanding_max() const;
  // How many messages were answered as duplicates.
  int64_t duplicates() const;
  // The counts of the updates of `state`, in the order in which they were applied.
  std::vector<int64_t> Applied(const std::string& state) const;
  // Those that a crash would leave.
  std::vector<int64_t> Durable(const std::string& state) const;

  // A status as the server makes it.
  static grpc::Status MakeStatus(grpc::StatusCode code, v1::ErrorReason reason,
                                 const std::string& message);

 private:
  class Stream;
  template <typename Request, typename Response>
  class Reactor;
  class Service;

  struct StateLog {
    std::vector<int64_t> applied;
    std::map<std::string, int64_t> decided;  // by producer
  };

  std::shared_ptr<Stream> Register(std::shared_ptr<Stream> stream);
  // Applies update `number` unless it is a duplicate; fills in the fields that answers share.
  template <typename Request, typename Response>
  StateLog& ApplyUpdate(const Request& request, int64_t number, Response& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Apply(const v1::TrainRequest& request, v1::TrainResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Apply(const v1::BackwardRequest& request, v1::BackwardResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Apply(const v1::NormalizeRequest& request, v1::NormalizeResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Crash() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Lets every stream do what it may do now.
  void PumpAll();

  std::string address_;
  std::function<Action(const Message&)> decide_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;

  mutable absl::Mutex mutex_;
  std::map<std::string, StateLog> memory_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, StateLog> disk_ ABSL_GUARDED_BY(mutex_);
  std::set<std::shared_ptr<Stream>> open_ ABSL_GUARDED_BY(mutex_);
  grpc::Status refusal_ ABSL_GUARDED_BY(mutex_);
  bool hold_answers_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t messages_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t streams_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t duplicates_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t outstanding_max_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace normd::client

#endif  // NORMD_TESTS_CLIENT_FAKE_NORMALIZATION_SERVICE_H_
