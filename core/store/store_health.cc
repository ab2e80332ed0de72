#include "core/store/store_health.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/error.h"

namespace normd {

absl::Status StoreHealth::CheckMayCommit() const {
  absl::MutexLock lock(&mutex_);
  if (health_ != Health::kFailed) return absl::OkStatus();
  return MakeError(Reason::kInternalError,
                   absl::StrCat("an earlier write to '", directory_, "' failed"));
}

void StoreHealth::NoteCommit(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return;
  const Health health = status.ok()                               ? Health::kGood
                        : GetReason(status) == Reason::kStoreFull ? Health::kFull
                                                                  : Health::kFailed;
  absl::MutexLock lock(&mutex_);
  if (health_ == health || health_ == Health::kFailed) return;
  health_ = health;
  const absl::string_view event = health == Health::kGood   ? "store_writable"
                                  : health == Health::kFull ? "store_full"
                                                            : "store_failed";
  events_->Tell(absl::StrCat("event=", event, " directory=", directory_, " error=\"",
                             status.message(), "\""));
}

}  // namespace normd
