#include "core/store/known_revisions.h"

#include <algorithm>

#include "absl/hash/hash.h"

namespace normd {

void KnownRevisions::Set::Keep(uint64_t hash, int64_t revision) {
  // The place of the name, or else the last one, comes first; those before it move by one.
  size_t place = 0;
  while (place + 1 < places.size() && places[place].hash != hash) ++place;
  std::move_backward(places.begin(), places.begin() + place, places.begin() + place + 1);
  places[0] = {.hash = hash, .revision = revision};
}

KnownRevisions::KnownRevisions(size_t places) : sets_(places / kPlacesOfASet) {}

bool KnownRevisions::IsAt(absl::string_view name, int64_t revision) const {
  const uint64_t hash = absl::HashOf(name);
  const size_t index = IndexOf(hash);
  absl::MutexLock lock(&MutexOf(index));
  const auto& places = sets_[index].places;
  return std::any_of(places.begin(), places.end(), [hash, revision](const Place& place) {
    return place.hash == hash && place.revision == revision;
  });
}

uint64_t KnownRevisions::BeginRead(absl::string_view name) const {
  const size_t index = IndexOf(absl::HashOf(name));
  absl::MutexLock lock(&MutexOf(index));
  return sets_[index].writes;
}

void KnownRevisions::EndRead(absl::string_view name, uint64_t ticket, int64_t revision) {
  const uint64_t hash = absl::HashOf(name);
  const size_t index = IndexOf(hash);
  absl::MutexLock lock(&MutexOf(index));
  if (sets_[index].writes == ticket) sets_[index].Keep(hash, revision);
}

void KnownRevisions::BeginWrite(absl::string_view name) {
  const uint64_t hash = absl::HashOf(name);
  const size_t index = IndexOf(hash);
  absl::MutexLock lock(&MutexOf(index));
  for (Place& place : sets_[index].places) {
    if (place.hash == hash) place.revision = kUnknown;
  }
  ++sets_[index].writes;
}

void KnownRevisions::EndWrite(absl::string_view name, int64_t revision) {
  const uint64_t hash = absl::HashOf(name);
  const size_t index = IndexOf(hash);
  absl::MutexLock lock(&MutexOf(index));
  sets_[index].Keep(hash, revision);
  ++sets_[index].writes;
}

}  // namespace normd
