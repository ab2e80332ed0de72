#ifndef NORMD_CLIENT_CLI_BENCH_STATES_H_
#define NORMD_CLIENT_CLI_BENCH_STATES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/client.h"

namespace normd::cli {

// The states that `normctl bench` sends to: PREFIX0, PREFIX1, ... Calls are made by several threads
// at a time, and progress is drawn on a terminal. Thread-compatible.
class BenchStates {
 public:
  // `client` must outlive this.
  BenchStates(client::Client* client, std::string prefix, int64_t count);

  // Creates those that are not there. Errors: those of ForEachThere, and those of CreateState, but
  // for a state that is there unless `must_be_new`; kCancelled once `should_stop` says so, which is
  // called by several threads.
  absl::Status Create(const client::StateConfig& config, bool must_be_new,
                      const std::function<bool()>& should_stop);

  // The sum of num_batches_tracked over all of them. Errors: those of ForEachThere.
  absl::StatusOr<int64_t> NumBatchesTracked() const;

  // Deletes those that Create() has created. Errors: those of DeleteState, but for a state that is
  // gone.
  absl::Status Delete();

  const std::vector<std::string>& names() const { return names_; }

 private:
  // Calls `visit` with every state that is there until it fails. Errors: those of `visit`, of
  // GetState but for a state that is not there, and of ListStates.
  absl::Status ForEachThere(
      const std::function<absl::Status(size_t index, const client::State& state)>& visit) const;
  // Calls `visit` with every index until one fails. Returns the first error.
  absl::Status ForEach(const std::string& title,
                       const std::function<absl::Status(size_t index)>& visit) const;

  client::Client* const client_;
  const std::string prefix_;
  std::vector<std::string> names_;
  std::vector<char> is_created_;  // by this; chars, which threads may write beside each other
};

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_BENCH_STATES_H_
