#ifndef NORMD_CORE_BASE_CLOCK_H_
#define NORMD_CORE_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace normd {

// Tells the time. Implementations are thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Wall-clock time in whole microseconds, as a stored record keeps it; may jump in either
  // direction.
  virtual absl::Time Now() const = 0;

  // The machine's clock; lives for ever.
  static const Clock* System();
};

}  // namespace normd

#endif  // NORMD_CORE_BASE_CLOCK_H_
