#include "core/registry/state_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/limits.h"
#include "core/state/state_codec.h"

namespace normd {
namespace {

NormState NewState(const std::string& name, int64_t num_features) {
  absl::StatusOr<NormState> state =
      NormState::Create(name, {.num_features = num_features}, {}, absl::FromUnixSeconds(1));
  EXPECT_TRUE(state.ok()) << state.status();
  return *std::move(state);
}

class StatePoolTest : public testing::Test {
 protected:
  int64_t counted() const { return memory_.used(MemoryUse::kWrites); }

  MemoryBudget memory_{kDefaultMemoryBytes};
  StatePool pool_{&memory_, kIdleStateBytesMax};
};

TEST_F(StatePoolTest, CopiesInTheMemoryOfACopyThatIsLetGoOf) {
  const NormState first = NewState("first", 64);
  NormState second = NewState("second", 64);
  second.running_stats->mean[63] = 2.5;
  second.producers.Restore("p", 7, absl::FromUnixSeconds(2));

  std::shared_ptr<NormState> copy = pool_.Copy(first);
  EXPECT_EQ(EncodeState(*copy), EncodeState(first));
  EXPECT_EQ(counted(), 0);
  const double* const mean = copy->running_stats->mean.data();
  EXPECT_EQ(copy->weight.data(), first.weight.data());
  EXPECT_EQ(copy->bias.data(), first.bias.data());
  copy.reset();
  EXPECT_GE(counted(), static_cast<int64_t>(sizeof(NormState)) + 2 * 64 * 8);
  EXPECT_LT(counted(), first.MemoryBytes()) << "what is shared is not the pool's";

  copy = pool_.Copy(second);
  EXPECT_EQ(copy->running_stats->mean.data(), mean);
  EXPECT_EQ(EncodeState(*copy), EncodeState(second));
  EXPECT_EQ(counted(), 0);
}

// The holders of a copy are counted in its own memory, so that must stay until nobody counts.
TEST_F(StatePoolTest, AWeakPointerKeepsTheMemoryOfACopy) {
  const NormState state = NewState("state", 64);
  std::shared_ptr<NormState> copy = pool_.Copy(state);
  const NormState* const first = copy.get();
  std::weak_ptr<NormState> weak = copy;
  copy.reset();
  EXPECT_TRUE(weak.expired());
  EXPECT_EQ(counted(), 0);
  EXPECT_NE(pool_.Copy(state).get(), first);

  const int64_t of_another = counted();
  EXPECT_GT(of_another, 0);
  weak.reset();
  EXPECT_EQ(counted(), 2 * of_another);
  EXPECT_EQ(pool_.Copy(state).get(), first);
}

TEST_F(StatePoolTest, ASmallStateDoesNotHoldTheMemoryOfALargeOne) {
  const NormState small = NewState("small", 64);
  const NormState large = NewState("large", 4096);
  pool_.Copy(large).reset();
  EXPECT_GT(counted(), large.MemoryBytes() / 2);

  const std::shared_ptr<NormState> copy = pool_.Copy(small);
  EXPECT_LE(copy->MemoryBytes(), 2 * small.MemoryBytes());
  EXPECT_EQ(counted(), 0);
}

TEST_F(StatePoolTest, KeepsNoMoreThanItsLimitOrThanThereIsRoomFor) {
  const NormState state = NewState("state", 1024);
  const int64_t bytes = state.UnsharedMemoryBytes();
  std::vector<std::shared_ptr<NormState>> copies;
  for (int64_t i = 0; i < 2 * kIdleStateBytesMax / bytes; ++i) copies.push_back(pool_.Copy(state));
  copies.clear();
  EXPECT_LE(counted(), kIdleStateBytesMax);
  EXPECT_GT(counted(), kIdleStateBytesMax - 2 * bytes);

  MemoryBudget full(kMemoryBytesMin);
  full.Add(MemoryUse::kWrites, full.share(MemoryUse::kWrites));
  StatePool of_full(&full, kIdleStateBytesMax);
  of_full.Copy(state).reset();
  EXPECT_EQ(full.used(MemoryUse::kWrites), full.share(MemoryUse::kWrites));
}

TEST_F(StatePoolTest, CopiesOutliveTheirPool) {
  auto pool = std::make_unique<StatePool>(&memory_, kIdleStateBytesMax);
  const NormState state = NewState("state", 64);
  const std::shared_ptr<NormState> copy = pool->Copy(state);
  pool->Copy(state).reset();
  EXPECT_GT(counted(), 0);
  pool.reset();
  EXPECT_EQ(counted(), 0);
  EXPECT_EQ(EncodeState(*copy), EncodeState(state));
}

}  // namespace
}  // namespace normd
