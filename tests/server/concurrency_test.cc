// Many clients on few states: what is acknowledged counts once, and every read is whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"
#include "tests/server/wire_error.h"
#include "tests/testing/seeded_random.h"

namespace normd::testing {
namespace {

constexpr int kThreads = 8;
constexpr int kOperations = 600;  // a thread
constexpr int kKept = 3;          // states that are never deleted
constexpr int kChurned = 2;       // states that come and go
constexpr int kFeatures = 5;

// A state whose running statistics are those of its last batch.
v1::State LastBatchState(const std::string& name) {
  v1::State state = BatchNormState(name, kFeatures);
  state.mutable_config()->set_momentum(1);
  state.mutable_config()->set_eps(0);
  return state;
}

// Mean k and variance k * k in every channel, so that parts of two batches do not fit together.
v1::Moments TiedMoments(int k) {
  return MakeMoments(2, std::vector<double>(kFeatures, k),
                     std::vector<double>(kFeatures, static_cast<double>(k) * k));
}

// The state as one batch left it, or as it was made.
void ExpectWhole(const v1::State& state) {
  const std::vector<double> mean = Doubles(state.running_stats().running_mean());
  const std::vector<double> var = Doubles(state.running_stats().running_var());
  ASSERT_EQ(mean.size(), kFeatures);
  ASSERT_EQ(var.size(), kFeatures);
  const bool fresh = state.running_stats().num_batches_tracked() == 0;
  for (int c = 0; c < kFeatures; ++c) {
    EXPECT_EQ(mean[c], mean[0]);
    EXPECT_EQ(var[c], fresh ? 1 : mean[0] * mean[0]) << "at mean " << mean[0];
  }
  const int64_t changes = state.running_stats().num_batches_tracked() + 1;
  if (absl::StartsWith(state.name(), "kept")) {
    EXPECT_EQ(state.revision(), changes);
  } else {
    // One that was deleted and made again in one commit goes on from its last revision.
    EXPECT_GE(state.revision(), changes);
  }
}

class ConcurrencyTest : public ServerTest {
 protected:
  // One client's random operations.
  void Run(int thread, uint64_t seed) {
    std::mt19937_64 random(seed + static_cast<uint64_t>(thread));
    const auto pick = [&random](int n) {
      return static_cast<int>(random() % static_cast<uint64_t>(n));
    };
    int64_t sequence = 0;
    for (int i = 0; i < kOperations && !HasFailure(); ++i) {
      const int number = pick(kKept + kChurned);
      const bool kept = number < kKept;
      const std::string name = absl::StrCat(kept ? "kept" : "churned", number);
      switch (pick(kept ? 8 : 10)) {
        case 0:
        case 1:
        case 2:
          TrainOnce(name, absl::StrCat("p", thread), ++sequence, 1 + pick(1000));
          if (kept) ++applied_[static_cast<size_t>(number)];
          break;
        case 3:
        case 4:
          NormalizeZeros(name, kept);
          break;
        case 5:
        case 6:
          GetWhole(name, kept);
          break;
        case 7:
          ListAll();
          break;
        case 8:
          CreateOnce(name);
          break;
        case 9:
          Expect(Delete(name), "STATE_NOT_FOUND");
          break;
      }
    }
  }

  std::array<std::atomic<int64_t>, kKept> applied_ = {};

 private:
  // OK, or refused for the one reason that there is.
  static void Expect(const grpc::Status& status, const std::string& reason) {
    if (status.ok()) return;
    EXPECT_EQ(ErrorOf(status).reason, reason) << ErrorOf(status);
  }

  void TrainOnce(const std::string& name, const std::string& producer, int64_t sequence, int k) {
    v1::TrainRequest request;
    request.set_state(name);
    *request.mutable_moments() = TiedMoments(k);
    request.set_producer_id(producer);
    request.set_sequence(sequence);
    const bool relaxed = k % 4 == 0;
    request.set_durability(relaxed ? v1::RELAXED : v1::DURABLE);
    v1::TrainResponse response;
    const grpc::Status status = Train(request, &response);
    if (absl::StartsWith(name, "churned")) {
      // It may be gone.
      Expect(status, "STATE_NOT_FOUND");
      return;
    }
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
    EXPECT_EQ(response.disposition(), v1::APPLIED);
    EXPECT_EQ(response.revision(), response.num_batches_tracked() + 1);
    v1::TrainResponse again;
    ASSERT_TRUE(Train(request, &again).ok());
    EXPECT_EQ(again.disposition(), v1::DUPLICATE);
    v1::State state;
    ASSERT_TRUE(Get(name, &state).ok());
    if (relaxed) return;
    EXPECT_GE(state.revision(), response.revision()) << "its own write is not seen";
  }

  void CreateOnce(const std::string& name) {
    const grpc::Status status = Create(LastBatchState(name));
    if (status.ok()) return;
    // Not found: made, and deleted before it was answered.
    EXPECT_THAT(ErrorOf(status).reason, ::testing::AnyOf("STATE_ALREADY_EXISTS", "STATE_NOT_FOUND"))
        << ErrorOf(status);
  }

  void NormalizeZeros(const std::string& name, bool kept) {
    v1::NormalizeRequest request;
    request.set_state(name);
    *request.mutable_input() = Float32Tensor({1, kFeatures}, std::vector<float>(kFeatures, 0.0F));
    v1::NormalizeResponse response;
    const grpc::Status status = Normalize(request, &response);
    if (!status.ok()) {
      EXPECT_FALSE(kept) << ErrorOf(status);
      Expect(status, "STATE_NOT_FOUND");
      return;
    }
    // (0 - k) / sqrt(k * k); 0 before the first batch.
    const std::vector<float> output = Floats(response.output());
    const float expected = std::abs(output[0]) < 0.5F ? 0.0F : -1.0F;
    if (kept) {
      EXPECT_EQ(expected == 0.0F, response.revision() == 1);
    }
    for (const float value : output) EXPECT_NEAR(value, expected, 1e-6);
  }

  void GetWhole(const std::string& name, bool kept) {
    v1::State state;
    const grpc::Status status = Get(name, &state);
    if (!status.ok()) {
      EXPECT_FALSE(kept) << ErrorOf(status);
      Expect(status, "STATE_NOT_FOUND");
      return;
    }
    ExpectWhole(state);
  }

  void ListAll() {
    v1::ListStatesRequest request;
    request.set_view(v1::FULL);
    v1::ListStatesResponse response;
    const grpc::Status status = List(request, &response);
    ASSERT_TRUE(status.ok()) << ErrorOf(status);
    std::string last;
    int kept = 0;
    for (const v1::State& state : response.states()) {
      EXPECT_LT(last, state.name());
      last = state.name();
      if (absl::StartsWith(last, "kept")) ++kept;
      ExpectWhole(state);
    }
    EXPECT_EQ(kept, kKept);
    EXPECT_EQ(response.damaged_size(), 0);
  }
};

TEST_F(ConcurrencyTest, EveryUpdateCountsOnceAndEveryReadIsWhole) {
  const SeededRandom random;
  normd::ServerOptions options = OnDisk();
  options.write_shards = 3;
  StartServer(options);
  for (int i = 0; i < kKept; ++i) {
    ASSERT_TRUE(Create(LastBatchState(absl::StrCat("kept", i))).ok());
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([this, t, seed = random.seed()] { Run(t, seed); });
  for (std::thread& thread : threads) thread.join();
  // A relaxed update is seen once it is on disk: after a drain at the latest.
  for (int restarts = 0; restarts < 2; ++restarts) {
    StartServer(options);
    for (size_t i = 0; i < kKept; ++i) {
      const v1::State state = MustGet(absl::StrCat("kept", i));
      EXPECT_EQ(state.running_stats().num_batches_tracked(), applied_[i].load());
      ExpectWhole(state);
    }
  }
}

}  // namespace
}  // namespace normd::testing
