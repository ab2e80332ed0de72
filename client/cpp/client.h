#ifndef NORMD_CLIENT_CPP_CLIENT_H_
#define NORMD_CLIENT_CPP_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/cpp/backward_stream.h"
#include "client/cpp/batch.h"
#include "client/cpp/moments.h"
#include "client/cpp/normalize_stream.h"
#include "client/cpp/result.h"
#include "client/cpp/state.h"
#include "client/cpp/state_watch.h"
#include "client/cpp/train_stream.h"

namespace normd::client {

struct ClientOptions {
  // "host:port" with a name or a number, "[ipv6]:port", "dns:///host:port" or "unix:/path".
  std::string address;
  // How long Connect() waits for the server; zero: it does not wait, and the first call tells.
  absl::Duration connect_timeout = absl::Seconds(5);
  // The deadline of every call that is not a stream.
  absl::Duration call_timeout = absl::Seconds(30);
  // The largest message to send or receive. The default is where the server's default ends a call.
  int64_t message_bytes_max = int64_t{128} << 20;
  // A connection in use that is silent for so long is probed. A server may refuse more than one
  // probe in five minutes.
  absl::Duration keepalive_time = absl::Minutes(5);
};

struct CreateOptions {
  // Replace a state of this name in one change: what it has learned goes, its producers too, and
  // its revisions go on. Where there is none, create it.
  bool replace = false;
  // With `replace`: of the state that is to be there (STATE_NOT_FOUND).
  std::string etag;
};

struct ListOptions {
  std::string prefix;      // only names that begin with it; empty for all
  int32_t page_size = 0;   // 0: the server's default
  std::string page_token;  // of the page before, with the same prefix; empty for the first page
  StateView view = StateView::kBasic;
};

struct StatePage {
  std::vector<State> states;         // in the order of the names' bytes
  std::vector<std::string> damaged;  // names on this page whose stored record is damaged
  std::string next_page_token;       // empty on the last page
};

struct TrainOptions {
  // With a producer_id the call may be repeated, with the same sequence, without being applied
  // twice. Empty: every repetition may apply again.
  std::string producer_id;
  // >= 1 and growing per producer and state when producer_id is given.
  int64_t sequence = 0;
  bool return_output = false;  // not with moments
  bool return_moments = false;
  // Contribute to the calibration under way instead (CALIBRATION_NOT_ACTIVE).
  bool calibrate = false;
  // With `calibrate`, when not empty: only to this one (CALIBRATION_MISMATCH).
  std::string calibration_id;
  Durability durability = Durability::kDurable;
};

// Who applies gradients, and when that is answered; as in TrainOptions.
struct ApplyOptions {
  std::string producer_id;
  int64_t sequence = 0;
  Durability durability = Durability::kDurable;
};

struct BackwardOptions : GradientOptions {
  ApplyOptions apply_options;  // with `apply`
};

struct ClientImpl;
class StateLister;

// A connection to a server. Thread-safe; one is enough for a process. Streams and watches may
// outlive it. A call is not repeated by itself: after kUnavailable or kDeadlineExceeded a change
// may have taken effect. Errors are the server's (proto/normd/v1/errors.proto; see error.h); every
// call may also fail with kUnavailable when the server cannot be reached and kDeadlineExceeded
// after call_timeout. Where an `etag` is taken, one that is not empty must be the state's
// (ETAG_MISMATCH).
class Client {
 public:
  // Errors: kInvalidArgument (no address, or an option out of range); kUnavailable with the address
  // and the last error when the server was not there within connect_timeout.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ClientOptions& options);
  ~Client();

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Creates a state, or replaces one. Errors: STATE_ALREADY_EXISTS, STATE_NAME_INVALID, a reason
  // for the field that is wrong; with an etag ETAG_MISMATCH and STATE_NOT_FOUND. A state that was
  // to be replaced is then as it was.
  absl::StatusOr<State> CreateState(absl::string_view name, const StateConfig& config,
                                    const InitialValues& initial = {},
                                    const CreateOptions& options = {});
  // Errors: STATE_NOT_FOUND, RECORD_DAMAGED.
  absl::StatusOr<State> GetState(absl::string_view name, StateView view = StateView::kFull);
  // One page. Errors: PAGE_TOKEN_INVALID, PAGE_SIZE_INVALID.
  absl::StatusOr<StatePage> ListStates(const ListOptions& options = {});
  // All pages, fetched as they are needed, beginning at options.page_token. The client must outlive
  // the lister.
  StateLister ListAllStates(ListOptions options = {});
  // Errors: STATE_NOT_FOUND, ETAG_MISMATCH, STATE_FROZEN, UPDATE_MASK_INVALID (nothing to change),
  // a reason for a wrong value.
  absl::StatusOr<State> UpdateState(absl::string_view name, const ConfigUpdate& update,
                                    absl::string_view etag = "");
  // Errors: STATE_NOT_FOUND, ETAG_MISMATCH.
  absl::Status DeleteState(absl::string_view name, absl::string_view etag = "");
  // Sets what has a value, rounded to parameter_dtype; the other stays. Errors: STATE_NOT_FOUND,
  // ETAG_MISMATCH, STATE_FROZEN, PARAMETERS_ABSENT, PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE.
  absl::StatusOr<State> SetParameters(absl::string_view name,
                                      std::optional<absl::Span<const double>> weight,
                                      std::optional<absl::Span<const double>> bias,
                                      absl::string_view etag = "");
  // Errors: STATE_NOT_FOUND, STATE_FROZEN, RUNNING_STATS_ABSENT.
  absl::StatusOr<State> ResetRunningStats(absl::string_view name);
  // Errors: STATE_NOT_FOUND, ETAG_MISMATCH.
  absl::StatusOr<State> FreezeState(absl::string_view name, absl::string_view etag = "");
  absl::StatusOr<State> UnfreezeState(absl::string_view name, absl::string_view etag = "");
  // Begins to gather precise statistics, from Train() calls with `calibrate` of any client; serving
  // goes on with the old ones. The result's calibration tells the id that Train(), Commit and Abort
  // may name. Errors: STATE_NOT_FOUND, ETAG_MISMATCH, STATE_FROZEN, RUNNING_STATS_ABSENT,
  // CALIBRATION_ACTIVE, FIELD_NOT_APPLICABLE (kPooled of an instance norm).
  absl::StatusOr<State> BeginCalibration(absl::string_view name, CalibrationMethod method,
                                         absl::string_view etag = "");
  // Replaces the running statistics by what was gathered, at once. A calibration_id that is not
  // empty must be that of the calibration under way. Errors: STATE_NOT_FOUND, ETAG_MISMATCH,
  // STATE_FROZEN, CALIBRATION_NOT_ACTIVE, CALIBRATION_MISMATCH, CALIBRATION_EMPTY.
  absl::StatusOr<State> CommitCalibration(absl::string_view name,
                                          absl::string_view calibration_id = "",
                                          absl::string_view etag = "");
  // Forgets what was gathered. Errors: as CommitCalibration, but for CALIBRATION_EMPTY.
  absl::StatusOr<State> AbortCalibration(absl::string_view name,
                                         absl::string_view calibration_id = "",
                                         absl::string_view etag = "");
  // Watches the states whose names begin with `prefix`. When it returns the watch stands, or was
  // refused: then the first Next() says why (STATE_NAME_INVALID, LIMIT_REACHED, kUnavailable).
  // Errors: kDeadlineExceeded.
  absl::StatusOr<std::unique_ptr<StateWatch>> WatchStates(absl::string_view prefix = "");

  // Folds one batch, or its moments, into a state. The result's status is OK. Errors:
  // STATE_NOT_FOUND, STATE_FROZEN, a reason for what is wrong with the batch.
  absl::StatusOr<TrainResult> Train(absl::string_view state, const Batch& batch,
                                    const TrainOptions& options = {});
  absl::StatusOr<TrainResult> Train(absl::string_view state, const Moments& moments,
                                    const TrainOptions& options = {});
  // Normalizes one batch by the running statistics. The result's status is OK. Errors: as Train.
  absl::StatusOr<NormalizeResult> Normalize(absl::string_view state, const Batch& batch);
  // The gradients of Train or Normalize of `input`, as autograd gives them. The result's status is
  // OK. Errors: STATE_NOT_FOUND, GRADIENT_SHAPE_MISMATCH, a reason for what is wrong with the
  // batches; with `apply` those of ApplyGradients.
  absl::StatusOr<BackwardResult> Backward(absl::string_view state, const Batch& input,
                                          const Batch& grad_output,
                                          const BackwardOptions& options = {});
  // Steps weight and bias by gradients of length C; one without a value takes no part. Errors:
  // STATE_NOT_FOUND, STATE_FROZEN, OPTIMIZER_ABSENT, PARAMETERS_ABSENT, GRADIENTS_MISSING,
  // PARAMETERS_LENGTH_MISMATCH, NON_FINITE_VALUE.
  absl::StatusOr<ApplyResult> ApplyGradients(absl::string_view state,
                                             std::optional<absl::Span<const double>> grad_weight,
                                             std::optional<absl::Span<const double>> grad_bias,
                                             const ApplyOptions& options = {});

  // Opening does not wait for the server; the first messages do. Errors: kInvalidArgument for an
  // option out of range.
  absl::StatusOr<std::unique_ptr<TrainStream>> OpenTrainStream(const TrainStreamOptions& options);
  absl::StatusOr<std::unique_ptr<NormalizeStream>> OpenNormalizeStream(
      const NormalizeStreamOptions& options);
  absl::StatusOr<std::unique_ptr<BackwardStream>> OpenBackwardStream(
      const BackwardStreamOptions& options);

  const std::string& address() const;

 private:
  explicit Client(std::unique_ptr<ClientImpl> impl);

  std::unique_ptr<ClientImpl> impl_;
};

// Walks over all states, page by page. Thread-compatible.
class StateLister {
 public:
  // The next state; nothing at the end. After an error the same page is tried again.
  absl::StatusOr<std::optional<State>> Next();

  // Names met so far whose stored record is damaged.
  const std::vector<std::string>& damaged() const { return damaged_; }

 private:
  friend class Client;
  StateLister(Client* client, ListOptions options);

  Client* client_;
  ListOptions options_;
  StatePage page_;
  size_t next_in_page_ = 0;
  bool on_last_page_ = false;
  std::vector<std::string> damaged_;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_CLIENT_H_
