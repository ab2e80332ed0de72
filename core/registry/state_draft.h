#ifndef NORMD_CORE_REGISTRY_STATE_DRAFT_H_
#define NORMD_CORE_REGISTRY_STATE_DRAFT_H_

#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "core/registry/state_pool.h"
#include "core/state/norm_state.h"

namespace normd {

// The newest value of one state on the write path: ahead of what is on disk. A change reads it with
// Get() and copies it on the first write; Seal() makes what was written immutable.
// Thread-compatible; the write path guards it.
class StateDraft {
 public:
  // Starts from what is on disk; null: no such state.
  explicit StateDraft(std::shared_ptr<const NormState> published);

  // The newest value; null when there is no such state.
  const NormState* Get() const { return copy_ != nullptr ? copy_.get() : sealed_.get(); }

  // The revision that the state gets when the change under way changes it.
  int64_t next_revision() const { return revision_ + 1; }

  // Changes the statistics of the state. REQUIRES: Get() is not null.
  NormState& Mutable();
  // Changes what users set (config, parameters, frozen), and so the etag. REQUIRES: as Mutable().
  NormState& MutableSettings();
  // Makes the state. REQUIRES: Get() is null.
  void Create(NormState state);
  // Removes the state. REQUIRES: Get() is not null.
  void Delete();

 private:
  friend class WriteCombiner;

  enum class Touched { kNothing, kStatistics, kSettings };

  // Begins one change, which copies the state with `pool`.
  void BeginChange(StatePool* pool) { pool_ = pool; }
  // Ends it: when it changed something and was not refused, gives the state its next
  // revision and `now` as update_time. Returns whether it did.
  bool EndChange(bool accepted, absl::Time now);
  // Whether there is something that no Seal() has returned yet.
  bool changed() const { return changed_; }
  // The revision of the newest value; of one that was deleted, 0 once that is sealed.
  int64_t revision() const { return revision_; }
  // The newest value, from now on immutable; null when the state is not there.
  std::shared_ptr<const NormState> Seal();

  std::shared_ptr<const NormState> sealed_;
  std::shared_ptr<NormState> copy_;
  StatePool* pool_ = nullptr;
  int64_t revision_ = 0;  // of the newest value; of the last one when it was deleted
  Touched touched_ = Touched::kNothing;
  bool changed_ = false;
};

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_STATE_DRAFT_H_
