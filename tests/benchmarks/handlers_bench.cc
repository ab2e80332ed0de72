// What a message costs between the transport and the transport: parsed, handled, answered, on one
// thread, beside a copy of the message as its answer.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "core/base/clock.h"
#include "core/base/memory_budget.h"
#include "core/base/parallel.h"
#include "core/registry/state_registry.h"
#include "core/store/memory_state_store.h"
#include "normd/v1/normalization_service.pb.h"
#include "server/buffer_pool.h"
#include "server/coefficient_cache.h"
#include "server/data_handler.h"
#include "server/normalize_handler.h"
#include "server/train_handler.h"
#include "tests/benchmarks/null_observer.h"

namespace normd {
namespace {

constexpr int64_t kNumFeatures = 64;
constexpr const char* kName = "bench/0";

class Create final : public StateChange {
 public:
  explicit Create(absl::Notification* done) : done_(done) {}

  absl::Status Apply(StateDraft& draft, absl::Time now) override {
    draft.Create(NormState::Create(kName, {.num_features = kNumFeatures}, {}, now).value());
    return absl::OkStatus();
  }
  void OnDone(const absl::Status&, std::shared_ptr<const NormState>) override { done_->Notify(); }

 private:
  absl::Notification* const done_;
};

// A registry with one state, and what the handlers share.
class House {
 public:
  House() {
    absl::Notification created;
    registry_.Acquire(kName, [&](absl::StatusOr<StateHandle> handle) {
      registry_.Submit(*handle, std::make_unique<Create>(&created));
    });
    created.WaitForNotification();
  }
  ~House() { registry_.Shutdown(absl::Seconds(1)); }

  DataContext context() {
    return {.registry = &registry_,
            .runner = runner_.get(),
            .buffers = buffers_.get(),
            .coefficients = &coefficients_,
            .producer_limits = {}};
  }

 private:
  std::unique_ptr<StateStore> store_ = NewMemoryStateStore();
  NullObserver observer_;
  StateRegistry registry_{{}, store_.get(), Clock::System(), &observer_};
  std::unique_ptr<ParallelRunner> runner_ = MakeParallelRunner(1);
  std::shared_ptr<BufferPool> buffers_ = BufferPool::Create(kIdleBufferBytesMax);
  CoefficientCache coefficients_;
};

// Waits for its answer, which may come on another thread.
class Answer final : public MessageCall {
 public:
  void Accepted() override {}
  void Done(const absl::Status& status, grpc::ByteBuffer response) override {
    if (!status.ok()) {
      fprintf(stderr, "%s\n", status.ToString().c_str());
      abort();
    }
    response_.Swap(&response);
    done_.Notify();
  }
  void Await() { done_.WaitForNotification(); }

 private:
  grpc::ByteBuffer response_;
  absl::Notification done_;
};

template <typename Request>
std::string RequestBytes(int64_t rows) {
  Request request;
  request.set_state(kName);
  v1::Tensor& input = *request.mutable_input();
  input.set_dtype(v1::FLOAT32);
  input.add_shape(rows);
  input.add_shape(kNumFeatures);
  std::vector<float> values(static_cast<size_t>(rows * kNumFeatures));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7);
  input.set_data(values.data(), values.size() * sizeof(float));
  if constexpr (std::is_same_v<Request, v1::TrainRequest>) {
    request.set_return_output(true);
    request.set_durability(v1::RELAXED);
  }
  return request.SerializeAsString();
}

// The bytes in slices of at most `slice_bytes`, each in memory of its own.
std::vector<grpc::Slice> Cut(const std::string& bytes, size_t slice_bytes) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += slice_bytes) {
    slices.emplace_back(bytes.data() + at, std::min(slice_bytes, bytes.size() - at));
  }
  return slices;
}

template <typename Handler, typename Request>
void HandleSlices(benchmark::State& state, size_t slice_bytes) {
  House house;
  const DataContext context = house.context();
  Handler handler(context);
  const std::string bytes = RequestBytes<Request>(state.range(0));
  for (auto _ : state) {
    const std::vector<grpc::Slice> slices = Cut(bytes, slice_bytes);
    grpc::ByteBuffer request(slices.data(), slices.size());
    const auto answer = std::make_shared<Answer>();
    handler.Handle(&request, answer);
    answer->Await();
  }
}

template <typename Handler, typename Request>
void Handle(benchmark::State& state) {
  HandleSlices<Handler, Request>(state, std::string::npos);
}

// As HTTP/2 frames cut what is larger than one.
template <typename Handler, typename Request>
void HandleCut(benchmark::State& state) {
  HandleSlices<Handler, Request>(state, size_t{16} << 10);
}

// The limit: the same without a handler.
void Copy(benchmark::State& state) {
  const std::string bytes = RequestBytes<v1::NormalizeRequest>(state.range(0));
  for (auto _ : state) {
    const grpc::Slice slice(bytes);
    grpc::ByteBuffer request(&slice, 1);
    const auto answer = std::make_shared<Answer>();
    const grpc::Slice copy(bytes);
    answer->Done(absl::OkStatus(), grpc::ByteBuffer(&copy, 1));
    answer->Await();
  }
}

BENCHMARK(Copy)->Arg(1)->Arg(16)->Arg(256)->Arg(4096);
BENCHMARK(Handle<NormalizeHandler, v1::NormalizeRequest>)->Arg(1)->Arg(16)->Arg(256)->Arg(4096);
BENCHMARK(Handle<TrainHandler, v1::TrainRequest>)->Arg(2)->Arg(16)->Arg(256)->Arg(4096);
BENCHMARK(HandleCut<TrainHandler, v1::TrainRequest>)->Arg(4096);

}  // namespace
}  // namespace normd

int main(int argc, char** argv) {
  // As the server does.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
