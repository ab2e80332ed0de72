#ifndef NORMD_CLIENT_CPP_UPDATE_OUTBOX_H_
#define NORMD_CLIENT_CPP_UPDATE_OUTBOX_H_

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cpp/result.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"

namespace normd::client {

// The updates of a stream (batches or gradients) from Send() until they are durable, and which of
// them goes to the server next. It knows no connection and no thread. Thread-compatible.
//
// Every held update is sent once on every connection, in the order of taking. An update is dropped
// when it is answered and its state's durable sequence has reached it. A fence is the last answered
// update of a state sent once more as a durable one: its answer says that all up to it is on disk.
class UpdateOutbox {
 public:
  struct Options {
    // The fields of a message that its body does not have.
    grpc::Slice (*encode_head)(absl::string_view state, absl::string_view producer_id,
                               int64_t sequence, Durability durability) = nullptr;
    std::string producer_id;
    int64_t first_sequence = 1;
    int64_t window = 64;
    int64_t held_bytes_max = 0;
    Durability durability = Durability::kDurable;
  };

  explicit UpdateOutbox(Options options);

  // Whether an update of `bytes` bytes fits the window and the bounds of what is held.
  bool HasRoomFor(int64_t bytes) const;
  // An update of `bytes` bytes waits for room from BeginWait() to EndWait(): room is made by asking
  // for durability of what is held.
  void BeginWait(int64_t bytes) { waiting_bytes_.insert(bytes); }
  void EndWait(int64_t bytes) { waiting_bytes_.erase(waiting_bytes_.find(bytes)); }

  // Takes an update, a message without its head, and returns its sequence. Errors: SEQUENCE_INVALID
  // when `sequence` is given and not above the last one of the state. REQUIRES: HasRoomFor(size of
  // `body`).
  absl::StatusOr<int64_t> Add(absl::string_view state, std::optional<int64_t> sequence,
                              const grpc::ByteBuffer& body);

  // A new connection: nothing is sent yet.
  void Rewind();

  // The next message for the connection; nothing when there is none now.
  std::optional<grpc::ByteBuffer> Next();

  // What the server's next answer on this connection belongs to; nothing when none is owed.
  struct Awaited {
    const std::string* state;
    int64_t sequence;
    bool answered_before;
  };
  std::optional<Awaited> NextAnswer() const;

  // The updates that a refusal of the awaited one drops and that had been answered before.
  // REQUIRES: NextAnswer() has a value.
  std::vector<PendingUpdate> Revoked() const;

  // The awaited answer came: the update was folded (OK) or refused.
  // REQUIRES: NextAnswer() has a value.
  void Answered(const absl::Status& status, int64_t durable_sequence);

  // From now on asks for durability of everything taken so far. Returns a number for FlushedTo.
  int64_t BeginFlush();
  // Whether everything taken before BeginFlush() returned `number` is durable or refused.
  bool FlushedTo(int64_t number) const;

  bool empty() const { return held_.empty(); }
  // In the order of taking.
  std::vector<PendingUpdate> Pending() const;

 private:
  struct StateProgress;

  struct Update {
    int64_t number = 0;  // counts updates in the order of taking
    StateProgress* state = nullptr;
    int64_t sequence = 0;
    Durability durability = Durability::kDurable;
    bool answered = false;
    grpc::ByteBuffer body;
  };
  using UpdateList = std::list<std::shared_ptr<Update>>;

  struct StateProgress {
    const std::string* name = nullptr;
    int64_t last_sequence = 0;
    int64_t relaxed_in_row = 0;
    // The highest sequence that this connection was asked to make durable.
    int64_t durable_asked = 0;
    std::deque<UpdateList::iterator> held;
  };

  struct Sent {
    std::shared_ptr<Update> update;
    bool fence = false;
  };

  grpc::ByteBuffer Message(const Update& update, Durability durability) const;
  // What a refusal of `sent` drops.
  std::vector<UpdateList::iterator> DroppedByRefusal(const Sent& sent) const;
  bool FencesDue() const;
  void CollectFences();
  void Drop(UpdateList::iterator update);
  void DropDurable(StateProgress& state, int64_t durable_sequence);

  // Constant after construction.
  const Options options_;
  const size_t held_max_;

  absl::node_hash_map<std::string, StateProgress> states_;
  UpdateList held_;
  UpdateList::iterator next_;  // the first not sent on this connection
  std::deque<std::shared_ptr<Update>> fences_;
  std::deque<Sent> sent_;
  int64_t fences_owed_ = 0;  // sent or in fences_
  int64_t unanswered_ = 0;
  int64_t held_bytes_ = 0;
  int64_t last_number_ = 0;
  int64_t flush_number_ = 0;
  std::multiset<int64_t> waiting_bytes_;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_UPDATE_OUTBOX_H_
