#ifndef NORMD_TESTS_CORE_REGISTRY_REGISTRY_FIXTURE_H_
#define NORMD_TESTS_CORE_REGISTRY_REGISTRY_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "core/base/memory_budget.h"
#include "core/registry/state_registry.h"
#include "tests/core/registry/registry_testing.h"

namespace normd::testing {

// A registry over a GatedStore that outlives it, and its calls as calls that wait.
class RegistryTest : public ::testing::Test {
 protected:
  // Starts a registry, after the end of the one before.
  void Start(int64_t cache_bytes_max = kDefaultCacheBytes,
             MemoryBudget* memory = MemoryBudget::Unlimited()) {
    registry_.reset();
    StateRegistry::Options options;
    options.cache_bytes_max = cache_bytes_max;
    options.memory = memory;
    registry_ = std::make_unique<StateRegistry>(options, &store_, &clock_, &observer_);
  }

  absl::StatusOr<StateHandle> Acquire(const std::string& name) {
    absl::StatusOr<StateHandle> result = absl::UnknownError("not answered");
    absl::Notification done;
    registry_->Acquire(name, [&](absl::StatusOr<StateHandle> handle) {
      result = std::move(handle);
      done.Notify();
    });
    done.WaitForNotification();
    return result;
  }

  absl::Status Submit(const std::string& name, FunctionChange::Function function) {
    const absl::StatusOr<StateHandle> handle = Acquire(name);
    if (!handle.ok()) return handle.status();
    auto outcome = std::make_shared<Outcome>();
    registry_->Submit(*handle, std::make_unique<FunctionChange>(std::move(function), outcome));
    return outcome->Await();
  }

  FakeClock clock_;
  GatedStore store_;
  RecordingObserver observer_;
  std::unique_ptr<StateRegistry> registry_;
};

}  // namespace normd::testing

#endif  // NORMD_TESTS_CORE_REGISTRY_REGISTRY_FIXTURE_H_
