#include "core/registry/state_draft.h"

#include <utility>

namespace normd {

StateDraft::StateDraft(std::shared_ptr<const NormState> published)
    : sealed_(std::move(published)), revision_(sealed_ == nullptr ? 0 : sealed_->revision) {}

NormState& StateDraft::Mutable() {
  if (copy_ == nullptr) copy_ = pool_->Copy(*sealed_);
  if (touched_ == Touched::kNothing) touched_ = Touched::kStatistics;
  return *copy_;
}

NormState& StateDraft::MutableSettings() {
  NormState& state = Mutable();
  touched_ = Touched::kSettings;
  return state;
}

void StateDraft::Create(NormState state) {
  copy_ = std::make_shared<NormState>(std::move(state));
  touched_ = Touched::kSettings;
}

void StateDraft::Delete() {
  copy_.reset();
  sealed_.reset();
  touched_ = Touched::kSettings;
}

bool StateDraft::EndChange(bool accepted, absl::Time now) {
  const Touched touched = std::exchange(touched_, Touched::kNothing);
  if (!accepted || touched == Touched::kNothing) {
    // Nobody counts the memory of a copy that holds no change.
    if (!changed_) copy_.reset();
    return false;
  }
  changed_ = true;
  if (copy_ != nullptr) {
    copy_->revision = ++revision_;
    copy_->update_time = now;
    if (touched == Touched::kSettings) copy_->settings_revision = revision_;
  }
  return true;
}

std::shared_ptr<const NormState> StateDraft::Seal() {
  if (copy_ != nullptr) sealed_ = std::move(copy_);
  // Once a delete is on its way to the disk, a state of this name starts anew.
  if (sealed_ == nullptr) revision_ = 0;
  changed_ = false;
  return sealed_;
}

}  // namespace normd
