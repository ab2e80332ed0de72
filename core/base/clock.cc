#include "core/base/clock.h"

#include "absl/time/clock.h"

namespace normd {
namespace {

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixMicros(absl::ToUnixMicros(absl::Now())); }
};

}  // namespace

const Clock* Clock::System() {
  static const SystemClock* const kClock = new SystemClock();
  return kClock;
}

}  // namespace normd
