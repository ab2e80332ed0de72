#include "core/store/known_revisions.h"

#include "absl/hash/hash.h"

namespace normd {

KnownRevisions::KnownRevisions(size_t places) : places_(places) {}

bool KnownRevisions::IsAt(absl::string_view name, int64_t revision) const {
  const uint64_t hash = absl::HashOf(name);
  const size_t index = IndexOf(hash);
  absl::MutexLock lock(&MutexOf(index));
  const Place& place = places_[index];
  return place.hash == hash && place.revision == revision;
}

uint64_t KnownRevisions::BeginRead(absl::string_view name) const {
  const size_t index = IndexOf(absl::HashOf(name));
  absl::MutexLock lock(&MutexOf(index));
  return places_[index].writes;
}

void KnownRevisions::EndRead(absl::string_view name, uint64_t ticket, int64_t revision) {
  const uint64_t hash = absl::HashOf(name);
  const size_t index = IndexOf(hash);
  absl::MutexLock lock(&MutexOf(index));
  Place& place = places_[index];
  if (place.writes != ticket) return;
  place.hash = hash;
  place.revision = revision;
}

void KnownRevisions::BeginWrite(absl::string_view name) {
  const size_t index = IndexOf(absl::HashOf(name));
  absl::MutexLock lock(&MutexOf(index));
  places_[index].revision = kUnknown;
  ++places_[index].writes;
}

void KnownRevisions::EndWrite(absl::string_view name, int64_t revision) {
  const uint64_t hash = absl::HashOf(name);
  const size_t index = IndexOf(hash);
  absl::MutexLock lock(&MutexOf(index));
  Place& place = places_[index];
  place.hash = hash;
  place.revision = revision;
  ++place.writes;
}

}  // namespace normd
