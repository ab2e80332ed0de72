#ifndef NORMD_CORE_BASE_CLOCK_H_
#define NORMD_CORE_BASE_CLOCK_H_

#include <time.h>

#include <chrono>

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

// The processor time that `clock` has counted, of a thread or of the process (clock_gettime(3)).
inline std::chrono::nanoseconds CpuTime(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace normd

#endif  // NORMD_CORE_BASE_CLOCK_H_
