#include "client/cli/bench_states.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "client/cli/progress_bar.h"
#include "client/cli/status_macros.h"

namespace normd::cli {
namespace {

// Enough for a commit of the server to gather many calls.
constexpr size_t kThreads = 128;
constexpr int32_t kPageSize = 1000;
// Of more states, all that begin with the prefix are listed, of which there may be many others.
constexpr size_t kAskedOneByOneMax = 100;

}  // namespace

BenchStates::BenchStates(client::Client* client, std::string prefix, int64_t count)
    : client_(client), prefix_(std::move(prefix)), is_created_(static_cast<size_t>(count), 0) {
  names_.reserve(is_created_.size());
  for (int64_t i = 0; i < count; ++i) names_.push_back(absl::StrCat(prefix_, i));
}

absl::Status BenchStates::Create(const client::StateConfig& config, bool must_be_new,
                                 const std::function<bool()>& should_stop) {
  std::vector<char> is_there(names_.size(), 0);
  if (!must_be_new) {
    NORMD_CLI_RETURN_IF_ERROR(ForEachThere([&](size_t index, const client::State& /*state*/) {
      if (should_stop()) return absl::CancelledError("interrupted");
      is_there[index] = 1;
      return absl::OkStatus();
    }));
  }
  return ForEach("create states", [&](size_t index) {
    if (should_stop()) return absl::CancelledError("interrupted");
    if (is_there[index] != 0) return absl::OkStatus();
    const absl::Status status = client_->CreateState(names_[index], config).status();
    is_created_[index] = status.ok();
    return absl::IsAlreadyExists(status) && !must_be_new ? absl::OkStatus() : status;
  });
}

absl::StatusOr<int64_t> BenchStates::NumBatchesTracked() const {
  int64_t sum = 0;
  NORMD_CLI_RETURN_IF_ERROR(ForEachThere([&](size_t /*index*/, const client::State& state) {
    sum += state.num_batches_tracked;
    return absl::OkStatus();
  }));
  return sum;
}

absl::Status BenchStates::Delete() {
  return ForEach("delete states", [this](size_t index) {
    if (is_created_[index] == 0) return absl::OkStatus();
    const absl::Status status = client_->DeleteState(names_[index]);
    return absl::IsNotFound(status) ? absl::OkStatus() : status;
  });
}

absl::Status BenchStates::ForEachThere(
    const std::function<absl::Status(size_t index, const client::State& state)>& visit) const {
  if (names_.size() <= kAskedOneByOneMax) {
    for (size_t index = 0; index < names_.size(); ++index) {
      const auto state = client_->GetState(names_[index], client::StateView::kBasic);
      if (absl::IsNotFound(state.status())) continue;
      NORMD_CLI_RETURN_IF_ERROR(state.status());
      NORMD_CLI_RETURN_IF_ERROR(visit(index, *state));
    }
    return absl::OkStatus();
  }
  client::StateLister lister =
      client_->ListAllStates({.prefix = prefix_, .page_size = kPageSize, .page_token = ""});
  while (true) {
    const absl::StatusOr<std::optional<client::State>> state = lister.Next();
    NORMD_CLI_RETURN_IF_ERROR(state.status());
    if (!state->has_value()) return absl::OkStatus();
    // Others may have names that begin alike.
    const std::string& name = (*state)->name;
    size_t index = 0;
    if (absl::SimpleAtoi(absl::string_view(name).substr(prefix_.size()), &index) &&
        index < names_.size() && names_[index] == name) {
      NORMD_CLI_RETURN_IF_ERROR(visit(index, **state));
    }
  }
}

absl::Status BenchStates::ForEach(const std::string& title,
                                  const std::function<absl::Status(size_t index)>& visit) const {
  std::atomic<size_t> next = 0;
  absl::Mutex mutex;
  absl::Status first_error;
  const auto work = [&](const std::function<void(size_t index)>& on_visited) {
    for (size_t index = next++; index < names_.size(); index = next++) {
      if (const absl::Status status = visit(index); !status.ok()) {
        const absl::MutexLock lock(&mutex);
        first_error.Update(status);
        next = names_.size();
        return;
      }
      on_visited(index);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(kThreads, names_.size()); ++i) {
    threads.emplace_back(work, [](size_t) {});
  }
  ProgressBar bar(TerminalForProgress(), title);
  work([&](size_t index) {
    bar.Update({.batches = static_cast<int64_t>(index),
                .bytes = std::nullopt,
                .fraction = static_cast<double>(index) / static_cast<double>(names_.size()),
                .unit = "states"});
  });
  for (std::thread& thread : threads) thread.join();
  return first_error;
}

}  // namespace normd::cli
