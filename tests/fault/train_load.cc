#include "tests/fault/train_load.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"

namespace normd::testing {
namespace {

constexpr int64_t kSamples = 4;

enum class Kind { kValuesWithOutput, kMoments, kRelaxedValues };

Kind KindOf(int client) { return static_cast<Kind>(client % 3); }

absl::Status CreateStates(client::Client& client, int clients) {
  client::StateConfig config;
  config.num_features = kLoadFeatures;
  config.momentum = kOwnMomentum;
  for (int i = 0; i < clients; ++i) {
    if (auto state = client.CreateState(TrainLoad::OwnState(i), config); !state.ok()) {
      return state.status();
    }
  }
  config.momentum = std::nullopt;
  return client.CreateState(TrainLoad::SharedState(), config).status();
}

}  // namespace

std::string TrainLoad::OwnState(int client) { return absl::StrCat("load/own", client); }

std::string TrainLoad::SharedState() { return "load/shared"; }

absl::StatusOr<std::unique_ptr<TrainLoad>> TrainLoad::Start(const std::string& address, int clients,
                                                            uint64_t seed) {
  std::unique_ptr<TrainLoad> load(new TrainLoad(seed));
  load->workers_.resize(clients);
  for (int i = 0; i < clients; ++i) {
    Worker& worker = load->workers_[i];
    client::ClientOptions client_options;
    client_options.address = address;
    auto client = client::Client::Connect(client_options);
    if (!client.ok()) return client.status();
    worker.client = *std::move(client);
    if (i == 0) {
      if (absl::Status status = CreateStates(*worker.client, clients); !status.ok()) return status;
    }
    worker.relaxed = KindOf(i) == Kind::kRelaxedValues;
    client::TrainStreamOptions options;
    options.producer_id = absl::StrCat("client", i);
    if (worker.relaxed) options.durability = client::Durability::kRelaxed;
    // The server is often away, and back for a moment only.
    options.retry.backoff_max = absl::Milliseconds(100);
    options.retry.retry_timeout = absl::Minutes(5);
    options.on_result = [raw = load.get(), i](const client::TrainResult& result) {
      raw->OnResult(i, result);
    };
    auto stream = worker.client->OpenTrainStream(options);
    if (!stream.ok()) return stream.status();
    worker.stream = *std::move(stream);
  }
  for (int i = 0; i < clients; ++i) {
    load->workers_[i].thread = std::thread([raw = load.get(), i] { raw->Run(i); });
  }
  return load;
}

TrainLoad::~TrainLoad() {
  stopping_ = true;
  for (Worker& worker : workers_) {
    if (worker.stream != nullptr) worker.stream->Cancel();
  }
  for (Worker& worker : workers_) {
    if (worker.thread.joinable()) worker.thread.join();
    worker.stream.reset();
  }
}

absl::Status TrainLoad::WaitForResults(int64_t count) {
  absl::MutexLock lock(&mutex_);
  const int64_t target = results_ + count;
  std::vector<int64_t> before;
  for (const Worker& worker : workers_) before.push_back(worker.results);
  const auto enough = [this, target, &before]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    if (!first_error_.ok()) return true;
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (workers_[i].results == before[i]) return false;
    }
    return results_ >= target;
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Minutes(1))) {
    return absl::DeadlineExceededError(
        absl::StrCat("expected ", target, " results and some of every client, got ", results_));
  }
  return first_error_;
}

absl::Status TrainLoad::Finish() {
  stopping_ = true;
  for (Worker& worker : workers_) worker.thread.join();
  for (Worker& worker : workers_) {
    if (absl::Status status = worker.stream->Close(); !status.ok()) return status;
  }
  return FirstError();
}

std::vector<LoadProgress> TrainLoad::Progress() const {
  absl::MutexLock lock(&mutex_);
  std::vector<LoadProgress> progress;
  for (const Worker& worker : workers_) progress.push_back(worker.progress);
  return progress;
}

absl::Status TrainLoad::FirstError() const {
  absl::MutexLock lock(&mutex_);
  return first_error_;
}

int64_t TrainLoad::duplicates() const {
  absl::MutexLock lock(&mutex_);
  return duplicates_;
}

ExpectedStats TrainLoad::ExpectedOwn(int client, int64_t updates) const {
  ExpectedStats stats = {std::vector<double>(kLoadFeatures, 0.0),
                         std::vector<double>(kLoadFeatures, 1.0)};
  for (int64_t update = 1; update <= updates; ++update) {
    const client::Moments moments = MakeMoments(client, update);
    for (int64_t c = 0; c < kLoadFeatures; ++c) {
      const double var = moments.m2[c] / static_cast<double>(moments.count - 1);
      stats.mean[c] = (1 - kOwnMomentum) * stats.mean[c] + kOwnMomentum * moments.mean[c];
      stats.var[c] = (1 - kOwnMomentum) * stats.var[c] + kOwnMomentum * var;
    }
  }
  return stats;
}

ExpectedStats TrainLoad::ExpectedShared(const std::vector<int64_t>& updates) const {
  ExpectedStats stats = {std::vector<double>(kLoadFeatures), std::vector<double>(kLoadFeatures)};
  int64_t total = 0;
  for (size_t client = 0; client < updates.size(); ++client) {
    total += updates[client];
    for (int64_t update = 1; update <= updates[client]; ++update) {
      const client::Moments moments = MakeMoments(static_cast<int>(client), update);
      for (int64_t c = 0; c < kLoadFeatures; ++c) {
        stats.mean[c] += moments.mean[c];
        stats.var[c] += moments.m2[c] / static_cast<double>(moments.count - 1);
      }
    }
  }
  for (int64_t c = 0; c < kLoadFeatures; ++c) {
    stats.mean[c] /= static_cast<double>(total);
    stats.var[c] /= static_cast<double>(total);
  }
  return stats;
}

void TrainLoad::Run(int client) {
  Worker& worker = workers_[client];
  client::SendOptions options;
  options.return_output = KindOf(client) == Kind::kValuesWithOutput;
  for (int64_t update = 1; !stopping_; ++update) {
    {
      absl::MutexLock lock(&mutex_);
      worker.progress.sent = update;
    }
    for (const std::string& state : {OwnState(client), SharedState()}) {
      const absl::StatusOr<int64_t> sequence =
          KindOf(client) == Kind::kMoments
              ? worker.stream->Send(state, MakeMoments(client, update), options)
              : worker.stream->Send(state, MakeBatch(client, update), options);
      if (!sequence.ok()) return AddError(sequence.status());
      if (*sequence != update) {
        return AddError(absl::InternalError(
            absl::StrCat("expected sequence ", update, " for ", state, ", got ", *sequence)));
      }
    }
  }
}

void TrainLoad::OnResult(int client, const client::TrainResult& result) {
  if (!result.status.ok()) return AddError(result.status);
  absl::MutexLock lock(&mutex_);
  ++results_;
  Worker& worker = workers_[client];
  ++worker.results;
  if (result.disposition == client::Disposition::kDuplicate) ++duplicates_;
  if (result.state != OwnState(client)) return;
  const int64_t acknowledged = worker.relaxed ? result.durable_sequence : result.sequence;
  worker.progress.acknowledged = std::max(worker.progress.acknowledged, acknowledged);
}

client::Batch TrainLoad::MakeBatch(int client, int64_t update) const {
  std::seed_seq seed = {seed_, static_cast<uint64_t>(client), static_cast<uint64_t>(update)};
  std::mt19937_64 random(seed);
  std::normal_distribution<float> distribution(static_cast<float>(client + 1), 2.0F);
  std::vector<float> values(kSamples * kLoadFeatures);
  for (float& value : values) value = distribution(random);
  return client::Batch::Own({kSamples, kLoadFeatures}, std::move(values));
}

client::Moments TrainLoad::MakeMoments(int client, int64_t update) const {
  const client::Batch batch = MakeBatch(client, update);
  client::Moments moments{kSamples, std::vector<double>(kLoadFeatures),
                          std::vector<double>(kLoadFeatures)};
  for (int64_t c = 0; c < kLoadFeatures; ++c) {
    for (int64_t n = 0; n < kSamples; ++n) moments.mean[c] += batch.values()[n * kLoadFeatures + c];
    moments.mean[c] /= kSamples;
    for (int64_t n = 0; n < kSamples; ++n) {
      const double deviation = batch.values()[n * kLoadFeatures + c] - moments.mean[c];
      moments.m2[c] += deviation * deviation;
    }
  }
  return moments;
}

void TrainLoad::AddError(const absl::Status& error) {
  absl::MutexLock lock(&mutex_);
  if (first_error_.ok() && !stopping_) first_error_ = error;
}

}  // namespace normd::testing
