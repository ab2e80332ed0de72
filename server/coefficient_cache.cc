#include "server/coefficient_cache.h"

#include <optional>
#include <utility>

#include "absl/hash/hash.h"
#include "server/data_batch.h"

namespace normd {
namespace {

// Values of a channel in a batch from which on its coefficients are little of the work.
constexpr size_t kValuesPerChannelMax = 32;

bool IsSame(const std::weak_ptr<const NormState>& kept,
            const std::shared_ptr<const NormState>& state) {
  return !kept.owner_before(state) && !state.owner_before(kept);
}

}  // namespace

std::shared_ptr<const RunningCoefficients> CoefficientCache::Find(
    const std::shared_ptr<const NormState>& state, const Batch& batch) {
  if (batch.dtype() == DataType::kFloat64 || batch.channels() > kChannelsMax ||
      batch.num_elements() > kValuesPerChannelMax * batch.channels()) {
    return nullptr;
  }
  Slot& slot = slots_[absl::HashOf(state.get()) % kSlots];
  absl::MutexLock lock(&slot.mutex);
  if (IsSame(slot.state, state) && slot.dtype == batch.dtype()) return slot.coefficients;
  if (std::exchange(slot.missed, state.get()) != state.get()) return nullptr;
  std::optional<RunningCoefficients> made =
      RunningCoefficients::Make(batch.dtype(), RunningOf(*state), AffineOf(*state));
  slot.missed = nullptr;
  slot.state = state;
  slot.dtype = batch.dtype();
  slot.coefficients =
      made.has_value() ? std::make_shared<const RunningCoefficients>(*std::move(made)) : nullptr;
  return slot.coefficients;
}

}  // namespace normd
