#ifndef NORMD_TESTS_BENCHMARKS_NULL_OBSERVER_H_
#define NORMD_TESTS_BENCHMARKS_NULL_OBSERVER_H_

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "core/registry/registry_observer.h"
#include "core/state/norm_state.h"

namespace normd {

// Looks at nothing, and ends the benchmark when the store fails or takes no writes.
class NullObserver final : public RegistryObserver {
 public:
  void OnPublished(const std::string& /*name*/, const std::shared_ptr<const NormState>& /*before*/,
                   const std::shared_ptr<const NormState>& /*state*/) override {}
  void OnStoreBlocked(const absl::Status& status) override { OnFatal(status); }
  void OnStoreUnblocked() override {}
  void OnFatal(const absl::Status& status) override {
    std::fprintf(stderr, "the store failed: %s\n", status.ToString().c_str());
    std::abort();
  }
};

}  // namespace normd

#endif  // NORMD_TESTS_BENCHMARKS_NULL_OBSERVER_H_
