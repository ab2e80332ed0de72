#include "server/coefficient_cache.h"

#include <optional>
#include <utility>

#include "absl/hash/hash.h"
#include "server/data_batch.h"

namespace normd {
namespace {

// Of a batch with more values of a channel its coefficients are little of the work.
constexpr size_t kValuesPerChannelMax = 32;

bool IsWorthIt(const Batch& batch) {
  return batch.dtype() != DataType::kFloat64 && batch.num_elements() > 0 &&
         batch.channels() <= kCoefficientChannelsMax &&
         batch.num_elements() <= kValuesPerChannelMax * batch.channels();
}

std::shared_ptr<const RunningCoefficients> MakeCoefficients(const NormState& state) {
  std::optional<RunningCoefficients> made =
      RunningCoefficients::Create(RunningOf(state), AffineOf(state));
  if (!made.has_value()) return nullptr;
  return std::make_shared<const RunningCoefficients>(*std::move(made));
}

}  // namespace

std::shared_ptr<const RunningCoefficients> CoefficientCache::Find(const NormState& state,
                                                                  const Batch& batch) {
  if (!IsWorthIt(batch)) return nullptr;
  const size_t hash = absl::HashOf(state.name);
  Slot& slot = slots_[hash % kCoefficientSlots];
  {
    const size_t value = absl::HashOf(hash, state.revision);
    absl::MutexLock lock(&slot.mutex);
    if (slot.kept.IsOf(state)) return slot.kept.coefficients;
    if (std::exchange(slot.missed, value) != value) return nullptr;
  }
  // Without the lock, which others wait for. What they then make too is the same.
  std::shared_ptr<const RunningCoefficients> coefficients = MakeCoefficients(state);
  Kept kept = {.name = state.name,
               .create_time = state.create_time,
               .revision = state.revision,
               .coefficients = coefficients};
  {
    absl::MutexLock lock(&slot.mutex);
    std::swap(slot.kept, kept);
  }
  return coefficients;
}

}  // namespace normd
