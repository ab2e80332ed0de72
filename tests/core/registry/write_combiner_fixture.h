#ifndef NORMD_TESTS_CORE_REGISTRY_WRITE_COMBINER_FIXTURE_H_
#define NORMD_TESTS_CORE_REGISTRY_WRITE_COMBINER_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "core/base/memory_budget.h"
#include "core/registry/write_combiner.h"
#include "tests/core/registry/registry_testing.h"

namespace normd::testing {

// A combiner on a store with a gate.
class WriteCombinerTest : public ::testing::Test {
 protected:
  void Start(const WriteCombiner::Options& options = {}) {
    combiner_ = std::make_unique<WriteCombiner>(options, &memory_, &store_, &clock_, &observer_);
  }

  static std::shared_ptr<StateEntry> NewEntry(const std::string& name) {
    return std::make_shared<StateEntry>(name, nullptr);
  }

  std::shared_ptr<Outcome> Submit(const std::shared_ptr<StateEntry>& entry,
                                  FunctionChange::Function function,
                                  Durability durability = Durability::kDurable) {
    auto outcome = std::make_shared<Outcome>();
    combiner_->Submit(entry,
                      std::make_unique<FunctionChange>(std::move(function), outcome, durability));
    return outcome;
  }

  // An entry whose state is on disk.
  std::shared_ptr<StateEntry> NewState(const std::string& name, int64_t num_features = 1) {
    auto entry = NewEntry(name);
    EXPECT_TRUE(Submit(entry, Create(name, num_features))->Await().ok());
    return entry;
  }

  FakeClock clock_;
  MemoryBudget memory_{kGiB};
  GatedStore store_;
  RecordingObserver observer_;
  std::unique_ptr<WriteCombiner> combiner_;
};

}  // namespace normd::testing

#endif  // NORMD_TESTS_CORE_REGISTRY_WRITE_COMBINER_FIXTURE_H_
