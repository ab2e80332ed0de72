#include "client/cpp/update_outbox.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/request_bytes.h"
#include "client/cpp/wire_status.h"

namespace normd::client {
namespace {

constexpr int64_t kHeldWindows = 4;

}  // namespace

UpdateOutbox::UpdateOutbox(Options options)
    : options_(std::move(options)),
      held_max_(static_cast<size_t>(kHeldWindows * options_.window)),
      next_(held_.end()) {}

bool UpdateOutbox::HasRoomFor(int64_t bytes) const {
  if (held_.empty()) return true;
  return unanswered_ < options_.window && held_.size() < held_max_ &&
         held_bytes_ + bytes <= options_.held_bytes_max;
}

absl::StatusOr<int64_t> UpdateOutbox::Add(absl::string_view name, std::optional<int64_t> sequence,
                                          const grpc::ByteBuffer& body) {
  const auto [entry, is_new] = states_.try_emplace(std::string(name));
  StateProgress& state = entry->second;
  if (is_new) {
    state.name = &entry->first;
    state.last_sequence = options_.first_sequence - 1;
  }
  if (sequence.has_value() && *sequence <= state.last_sequence) {
    return MakeLocalError(absl::StatusCode::kInvalidArgument, v1::SEQUENCE_INVALID,
                          absl::StrCat("state '", name, "': expected a sequence above ",
                                       state.last_sequence, ", got ", *sequence));
  }
  auto update = std::make_shared<Update>();
  update->number = ++last_number_;
  update->state = &state;
  update->sequence = state.last_sequence = sequence.value_or(state.last_sequence + 1);
  update->durability = options_.durability;
  if (update->durability == Durability::kRelaxed && ++state.relaxed_in_row >= options_.window) {
    update->durability = Durability::kDurable;
    state.relaxed_in_row = 0;
  }
  update->body = body;
  held_bytes_ += static_cast<int64_t>(body.Length());
  ++unanswered_;
  held_.push_back(std::move(update));
  const auto position = std::prev(held_.end());
  state.held.push_back(position);
  if (next_ == held_.end()) next_ = position;
  return (*position)->sequence;
}

void UpdateOutbox::Rewind() {
  next_ = held_.begin();
  sent_.clear();
  fences_.clear();
  fences_owed_ = 0;
  for (auto& [name, state] : states_) state.durable_asked = 0;
}

std::optional<grpc::ByteBuffer> UpdateOutbox::Next() {
  if (fences_.empty() && FencesDue()) CollectFences();
  if (!fences_.empty()) {
    std::shared_ptr<Update> update = std::move(fences_.front());
    fences_.pop_front();
    grpc::ByteBuffer message = Message(*update, Durability::kDurable);
    sent_.push_back({std::move(update), true});
    return message;
  }
  if (next_ == held_.end()) return std::nullopt;
  const std::shared_ptr<Update>& update = *next_++;
  if (update->durability == Durability::kDurable) {
    update->state->durable_asked = std::max(update->state->durable_asked, update->sequence);
  }
  sent_.push_back({update, false});
  return Message(*update, update->durability);
}

std::optional<UpdateOutbox::Awaited> UpdateOutbox::NextAnswer() const {
  if (sent_.empty()) return std::nullopt;
  const Update& update = *sent_.front().update;
  return Awaited{update.state->name, update.sequence, update.answered};
}

std::vector<PendingUpdate> UpdateOutbox::Revoked() const {
  std::vector<PendingUpdate> revoked;
  for (const auto position : DroppedByRefusal(sent_.front())) {
    const Update& update = **position;
    if (update.answered) revoked.push_back({*update.state->name, update.sequence, true});
  }
  return revoked;
}

void UpdateOutbox::Answered(const absl::Status& status, int64_t durable_sequence) {
  const Sent sent = std::move(sent_.front());
  sent_.pop_front();
  Update& update = *sent.update;
  StateProgress& state = *update.state;
  if (!update.answered) --unanswered_;
  update.answered = true;
  if (sent.fence) --fences_owed_;
  if (status.ok()) {
    if (sent.fence || update.durability == Durability::kDurable) {
      durable_sequence = std::max(durable_sequence, update.sequence);
    }
    DropDurable(state, durable_sequence);
  } else {
    state.durable_asked = 0;
    for (const auto position : DroppedByRefusal(sent)) Drop(position);
  }
}

int64_t UpdateOutbox::BeginFlush() { return flush_number_ = last_number_; }

bool UpdateOutbox::FlushedTo(int64_t number) const {
  return held_.empty() || held_.front()->number > number;
}

std::vector<PendingUpdate> UpdateOutbox::Pending() const {
  std::vector<PendingUpdate> pending;
  pending.reserve(held_.size());
  for (const auto& update : held_) {
    pending.push_back({*update->state->name, update->sequence, update->answered});
  }
  return pending;
}

grpc::ByteBuffer UpdateOutbox::Message(const Update& update, Durability durability) const {
  return JoinMessage(
      options_.encode_head(*update.state->name, options_.producer_id, update.sequence, durability),
      update.body);
}

// A refused fence can never tell about the updates before it, so they are given up with it.
std::vector<UpdateOutbox::UpdateList::iterator> UpdateOutbox::DroppedByRefusal(
    const Sent& sent) const {
  std::vector<UpdateList::iterator> dropped;
  for (const auto position : sent.update->state->held) {
    const Update& held = **position;
    const bool before_fence = sent.fence && held.answered && held.sequence < sent.update->sequence;
    if (&held == sent.update.get() || before_fence) dropped.push_back(position);
  }
  return dropped;
}

bool UpdateOutbox::FencesDue() const {
  if (options_.durability == Durability::kDurable || fences_owed_ > 0 || held_.empty()) {
    return false;
  }
  const int64_t waiting_bytes = waiting_bytes_.empty() ? 0 : *waiting_bytes_.rbegin();
  const bool crowded = held_.size() >= held_max_ / 2 ||
                       held_bytes_ >= options_.held_bytes_max / 2 ||
                       held_bytes_ + waiting_bytes > options_.held_bytes_max;
  // Updates are answered in their order, so the unanswered ones are the last ones.
  const bool flush_answered = last_number_ - unanswered_ >= flush_number_;
  const bool flush_sent = next_ == held_.end() || (*next_)->number > flush_number_;
  const bool flushing = held_.front()->number <= flush_number_ && flush_answered && flush_sent;
  return crowded || flushing;
}

// One fence for every state whose oldest update is answered, sent on this connection, and covered
// by nothing that this connection was asked to make durable.
void UpdateOutbox::CollectFences() {
  absl::flat_hash_set<StateProgress*> seen;
  for (auto position = held_.begin(); position != next_; ++position) {
    StateProgress* state = (*position)->state;
    if (!(*position)->answered || (*position)->sequence <= state->durable_asked) continue;
    if (!seen.insert(state).second) continue;
    std::shared_ptr<Update> last = *position;
    for (const auto held : state->held) {
      if (!(*held)->answered || (next_ != held_.end() && (*held)->number >= (*next_)->number)) {
        break;
      }
      last = *held;
    }
    state->durable_asked = last->sequence;
    fences_.push_back(std::move(last));
    ++fences_owed_;
  }
}

void UpdateOutbox::Drop(UpdateList::iterator position) {
  StateProgress& state = *(*position)->state;
  state.held.erase(std::find(state.held.begin(), state.held.end(), position));
  held_bytes_ -= static_cast<int64_t>((*position)->body.Length());
  if (next_ == position) ++next_;
  held_.erase(position);
}

void UpdateOutbox::DropDurable(StateProgress& state, int64_t durable_sequence) {
  while (!state.held.empty()) {
    const UpdateList::iterator oldest = state.held.front();
    if (!(*oldest)->answered || (*oldest)->sequence > durable_sequence) return;
    Drop(oldest);
  }
}

}  // namespace normd::client
