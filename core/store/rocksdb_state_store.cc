#include "core/store/rocksdb_state_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/iterator.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/slice.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/status.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "core/store/data_folder.h"
#include "core/store/event_sink.h"
#include "core/store/known_revisions.h"
#include "core/store/name_locks.h"
#include "core/store/record_value.h"
#include "core/store/store_health.h"
#include "core/store/write_ahead_log.h"
#include "core/store/zeros_ahead.h"

namespace normd {
namespace {

using ::rocksdb::IOStatus;
using ::rocksdb::Slice;
using ::rocksdb::WALRecoveryMode;

Slice ToSlice(absl::string_view text) { return Slice(text.data(), text.size()); }

absl::string_view ToView(const Slice& slice) {
  return absl::string_view(slice.data(), slice.size());
}

// Hears of errors that RocksDB finds in the background. Thread-safe.
class ErrorListener final : public rocksdb::EventListener {
 public:
  // `events` outlives the listener.
  explicit ErrorListener(EventSink* events) : events_(events) {}

  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override {
    events_->Tell(absl::StrCat("event=background_error error=\"", error->ToString(), "\""));
    if (reason == rocksdb::BackgroundErrorReason::kCompaction && error->IsCorruption()) {
      // One damaged record must not keep all others from being written.
      compaction_met_damage_ = true;
      *error = rocksdb::Status::OK();
      return;
    }
    if (reason == rocksdb::BackgroundErrorReason::kWriteCallback) log_write_failed_ = true;
    last_is_no_space_ = error->IsNoSpace();
  }

  bool last_is_no_space() const { return last_is_no_space_; }

  // Whether a write to the write-ahead log failed since the last call.
  bool TakeLogWriteFailed() { return log_write_failed_.exchange(false); }

  // Whether a compaction met a damaged record since the last call.
  bool TakeCompactionMetDamage() { return compaction_met_damage_.exchange(false); }

 private:
  EventSink* const events_;
  std::atomic<bool> log_write_failed_ = false;
  std::atomic<bool> last_is_no_space_ = false;
  std::atomic<bool> compaction_met_damage_ = false;
};

// RocksDB's own log goes nowhere: kept in a file, it ends the process by an assertion when the disk
// is full. What matters in it comes to ErrorListener.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}
};

// A write-ahead log with zeros behind its end.
class LogFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  LogFile(std::unique_ptr<rocksdb::FSWritableFile> file, const std::string& path)
      : FSWritableFileOwnerWrapper(std::move(file)), zeros_(path) {}

  using FSWritableFileOwnerWrapper::Append;
  IOStatus Append(const Slice& data, const rocksdb::IOOptions& options,
                  rocksdb::IODebugContext* context) override {
    zeros_.BeforeAppend(target()->GetFileSize(options, context), data.size());
    return target()->Append(data, options, context);
  }

 private:
  ZerosAhead zeros_;
};

// The file system, whose write-ahead logs are those.
class StoreFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;
  const char* Name() const override { return "StoreFileSystem"; }
  IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file,
                           rocksdb::IODebugContext* context) override {
    IOStatus status = target()->NewWritableFile(path, options, file, context);
    if (status.ok() && absl::EndsWith(path, ".log")) {
      *file = std::make_unique<LogFile>(std::move(*file), path);
    }
    return status;
  }
};

// All that stands around an open database, in the order in which it is made.
struct Surroundings {
  DataFolder folder;
  // What a commit leaves free on the disk.
  int64_t reserved_bytes;
  std::unique_ptr<EventSink> events;
  std::shared_ptr<ErrorListener> listener;
  std::unique_ptr<rocksdb::Env> env;
};

class RocksdbStateStore final : public StateStore {
 public:
  RocksdbStateStore(Surroundings surroundings, std::unique_ptr<rocksdb::DB> db)
      : surroundings_(std::move(surroundings)), db_(std::move(db)) {}

  absl::StatusOr<StoredRecord> Load(absl::string_view name) const override;
  absl::Status Commit(absl::Span<const StoreMutation> mutations) override;
  absl::StatusOr<std::vector<StoredRecord>> List(absl::string_view prefix, absl::string_view after,
                                                 int64_t records_max,
                                                 int64_t bytes_max) const override;

 private:
  // Reads the record of `name` into `value` and returns its revision; 0: there is none.
  absl::StatusOr<int64_t> Read(absl::string_view name, rocksdb::PinnableSlice& value) const;

  // Adds the change to `batch`, unless it is made already.
  absl::Status Add(const StoreMutation& mutation, rocksdb::WriteBatch& batch) const;

  // OK when what is stored allows the change; whether it is made already.
  absl::StatusOr<bool> CheckExpected(const StoreMutation& mutation) const;

  // Writes and syncs the batch.
  absl::Status Write(rocksdb::WriteBatch& batch);

  // Ends compaction when it has met a damaged record: it could only fail again, and tables that
  // wait for it would end up stopping all writes. Reading grows slower from then on.
  void StopCompactionAtDamage();

  // The status to return when RocksDB's write ended with `status`.
  absl::Status ToCommitStatus(const rocksdb::Status& status) const;

  const std::string& directory() const { return surroundings_.folder.path(); }

  // Constant after construction. The database is closed first.
  const Surroundings surroundings_;
  const std::unique_ptr<rocksdb::DB> db_;

  NameLocks names_;
  mutable KnownRevisions known_{kStoreKnownRevisions};
  StoreHealth health_{surroundings_.folder.path(), surroundings_.events.get()};
};

absl::StatusOr<int64_t> RocksdbStateStore::Read(absl::string_view name,
                                                rocksdb::PinnableSlice& value) const {
  const rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), ToSlice(name), &value);
  if (status.IsNotFound()) return 0;
  if (status.IsCorruption()) return ValueDamaged(name, status.ToString());
  if (!status.ok()) {
    return MakeError(Reason::kStoreUnavailable,
                     absl::StrCat("cannot read '", name, "': ", status.ToString()));
  }
  const int64_t revision = RevisionOf(ToView(value));
  if (revision == 0) return NoRevision(name, ToView(value));
  return revision;
}

absl::StatusOr<StoredRecord> RocksdbStateStore::Load(absl::string_view name) const {
  rocksdb::PinnableSlice value;
  const uint64_t ticket = known_.BeginRead(name);
  NORMD_ASSIGN_OR_RETURN(const int64_t revision, Read(name, value));
  known_.EndRead(name, ticket, revision);
  if (revision == 0) {
    return MakeError(Reason::kStateNotFound, absl::StrCat("no record has the name '", name, "'"),
                     {{"name", name}});
  }
  return StoredRecord{std::string(name), revision, std::string(DataOf(ToView(value)))};
}

absl::Status RocksdbStateStore::Commit(absl::Span<const StoreMutation> mutations) {
  NORMD_RETURN_IF_ERROR(health_.CheckMayCommit());
  names_.Acquire(mutations);
  const absl::Cleanup release = [this, mutations] { names_.Release(mutations); };
  size_t bytes = 0;  // about
  for (const StoreMutation& mutation : mutations) {
    bytes += 64 + mutation.name.size() + (mutation.data.has_value() ? mutation.data->size() : 0);
  }
  rocksdb::WriteBatch batch(bytes);
  for (const StoreMutation& mutation : mutations) {
    NORMD_RETURN_IF_ERROR(Add(mutation, batch));
  }
  if (batch.Count() == 0) return absl::OkStatus();
  for (const StoreMutation& mutation : mutations) known_.BeginWrite(mutation.name);
  absl::Status status = Write(batch);
  health_.NoteCommit(status);
  if (!status.ok()) return status;
  for (const StoreMutation& mutation : mutations) {
    known_.EndWrite(mutation.name, mutation.data.has_value() ? mutation.revision : 0);
  }
  return status;
}

absl::Status RocksdbStateStore::Add(const StoreMutation& mutation,
                                    rocksdb::WriteBatch& batch) const {
  const bool deletes_nothing = !mutation.data.has_value() && mutation.expected_revision == 0;
  if (deletes_nothing || !known_.IsAt(mutation.name, mutation.expected_revision)) {
    NORMD_ASSIGN_OR_RETURN(const bool made, CheckExpected(mutation));
    if (made) return absl::OkStatus();
  }
  const Slice key = ToSlice(mutation.name);
  if (!mutation.data.has_value()) {
    batch.Delete(key);
    return absl::OkStatus();
  }
  const std::string revision = RevisionBytes(mutation.revision);
  const Slice value_parts[] = {revision, *mutation.data};
  batch.Put(rocksdb::SliceParts(&key, 1), rocksdb::SliceParts(value_parts, 2));
  return absl::OkStatus();
}

absl::StatusOr<bool> RocksdbStateStore::CheckExpected(const StoreMutation& mutation) const {
  rocksdb::PinnableSlice value;
  const absl::StatusOr<int64_t> found = Read(mutation.name, value);
  const bool is_delete = !mutation.data.has_value();
  const bool damaged = GetReason(found.status()) == Reason::kRecordDamaged;
  if (!found.ok() && !damaged) return found.status();
  if (damaged && !is_delete) {
    // Who expects nothing to be there has not seen what the record holds.
    if (mutation.expected_revision == 0) return found.status();
    surroundings_.events->Tell(absl::StrCat("event=damaged_record_replaced name=\"", mutation.name,
                                            "\" revision=", mutation.revision));
  }

  const bool made =
      found.ok() && (is_delete ? *found == 0
                               : *found > 0 && *found == mutation.revision &&
                                     DataOf(ToView(value)) == absl::string_view(*mutation.data));
  if (!made && !damaged && *found != mutation.expected_revision) {
    return MakeError(Reason::kRevisionConflict,
                     absl::StrCat("record '", mutation.name, "' is at revision ", *found,
                                  ", expected ", mutation.expected_revision, " (0: no record)"),
                     {{"name", mutation.name}});
  }
  return made;
}

absl::Status RocksdbStateStore::Write(rocksdb::WriteBatch& batch) {
  NORMD_RETURN_IF_ERROR(surroundings_.folder.CheckSpace(static_cast<int64_t>(batch.GetDataSize()),
                                                        surroundings_.reserved_bytes));
  StopCompactionAtDamage();
  rocksdb::WriteOptions options;
  options.sync = true;
  return ToCommitStatus(db_->Write(options, &batch));
}

void RocksdbStateStore::StopCompactionAtDamage() {
  if (!surroundings_.listener->TakeCompactionMetDamage()) return;
  const rocksdb::Status status = db_->SetOptions({{"disable_auto_compactions", "true"}});
  surroundings_.events->Tell(absl::StrCat("event=compaction_stopped directory=", directory(),
                                          " status=\"", status.ToString(), "\""));
}

absl::Status RocksdbStateStore::ToCommitStatus(const rocksdb::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  const std::string message =
      absl::StrCat("a write to '", directory(), "' failed: ", status.ToString());
  // Incomplete: the buffers are full, and moving them to tables failed before.
  const bool no_space =
      status.IsNoSpace() || (status.IsIncomplete() && surroundings_.listener->last_is_no_space());
  if (!no_space) return MakeError(Reason::kInternalError, message);

  // Within seconds of space coming back, RocksDB by itself moves the buffer to a table and begins a
  // new log. With an empty buffer it would keep a log whose last write failed, and the next write
  // would end the process by an assertion.
  uint64_t buffered = 0;
  if (surroundings_.listener->TakeLogWriteFailed() &&
      (!db_->GetIntProperty(rocksdb::DB::Properties::kNumEntriesActiveMemTable, &buffered) ||
       buffered == 0)) {
    return MakeError(Reason::kInternalError,
                     absl::StrCat(message, "; the write-ahead log must be opened anew"));
  }
  return MakeError(Reason::kStoreFull, message);
}

absl::StatusOr<std::vector<StoredRecord>> RocksdbStateStore::List(absl::string_view prefix,
                                                                  absl::string_view after,
                                                                  int64_t records_max,
                                                                  int64_t bytes_max) const {
  const std::string end = EndOfPrefix(prefix);
  const Slice end_slice(end);
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  if (!end.empty()) options.iterate_upper_bound = &end_slice;

  std::vector<StoredRecord> found;
  int64_t bytes = 0;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options));
  it->Seek(ToSlice(after < prefix ? prefix : after));
  if (it->Valid() && !after.empty() && it->key() == ToSlice(after)) it->Next();
  for (; it->Valid(); it->Next()) {
    const Slice value = it->value();
    const absl::string_view name = ToView(it->key());
    const int64_t revision = RevisionOf(ToView(value));
    if (revision == 0) {
      if (!found.empty()) return found;
      return NoRevision(name, ToView(value));
    }
    const absl::string_view data = DataOf(ToView(value));
    const auto data_bytes = static_cast<int64_t>(data.size());
    if (!found.empty() &&
        (static_cast<int64_t>(found.size()) >= records_max || bytes + data_bytes > bytes_max)) {
      return found;
    }
    bytes += data_bytes;
    found.push_back({std::string(name), revision, std::string(data)});
  }
  if (it->status().ok() || !found.empty()) return found;
  if (it->status().IsCorruption()) {
    return MakeError(Reason::kRecordDamaged,
                     absl::StrCat("records behind '", after, "' with the prefix '", prefix,
                                  "' are damaged: ", it->status().ToString()),
                     {{"after", after}});
  }
  return MakeError(Reason::kStoreUnavailable,
                   absl::StrCat("cannot list records: ", it->status().ToString()));
}

rocksdb::Options ToRocksdb(const RocksdbOptions& options, WALRecoveryMode mode,
                           const Surroundings& surroundings) {
  rocksdb::Options result;
  result.env = surroundings.env.get();
  result.create_if_missing = true;
  result.paranoid_checks = true;
  result.wal_recovery_mode = mode;
  result.recycle_log_file_num = 0;
  result.write_buffer_size = static_cast<size_t>(options.write_buffer_bytes);
  result.max_write_buffer_number = kStoreWriteBuffers;
  // One hint for all names: where the last record of a commit went, the next one's place is near.
  // It may lead a range deletion to the wrong list: there is none.
  result.memtable_insert_with_hint_prefix_extractor.reset(rocksdb::NewCappedPrefixTransform(0));
  result.max_total_wal_size = static_cast<uint64_t>(4 * options.write_buffer_bytes);
  result.max_open_files = options.max_open_files;
  // Tables that wait for compaction slow writes down and never stop them: compaction may have met a
  // damaged record and make no headway.
  result.level0_stop_writes_trigger = std::numeric_limits<int>::max();
  result.hard_pending_compaction_bytes_limit = 0;
  result.compaction_readahead_size = static_cast<size_t>(kStoreCompactionReadBytes);
  result.compression = rocksdb::kNoCompression;
  result.bottommost_compression = rocksdb::kNoCompression;
  result.listeners.push_back(surroundings.listener);
  result.info_log = std::make_shared<NoLog>();

  // Tables grow with the states, and what is kept of them in memory must not: index and filters lie
  // in pieces in the block cache, so that a cold read still takes one block.
  rocksdb::BlockBasedTableOptions table;
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.cache_index_and_filter_blocks = true;
  table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(options.block_cache_bytes));
  // Most creates look for a name that is not there.
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  result.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return result;
}

rocksdb::Status OpenDatabase(const RocksdbOptions& options, WALRecoveryMode mode,
                             const Surroundings& surroundings, std::unique_ptr<rocksdb::DB>& db) {
  rocksdb::DB* opened = nullptr;
  rocksdb::Status status =
      rocksdb::DB::Open(ToRocksdb(options, mode, surroundings), options.directory, &opened);
  db.reset(opened);
  return status;
}

absl::Status OpenError(const rocksdb::Status& status, const std::string& directory) {
  const std::string message =
      absl::StrCat("cannot open the data folder '", directory, "': ", status.ToString());
  if (status.IsNoSpace()) return MakeError(Reason::kStoreFull, message);
  if (status.IsCorruption() || status.IsNotFound() || status.IsPathNotFound()) {
    return absl::DataLossError(
        absl::StrCat(message, "; damage outside the write-ahead log: restore it from a backup"));
  }
  if (status.IsInvalidArgument() || status.IsNotSupported()) {
    return absl::FailedPreconditionError(
        absl::StrCat(message, "; made by an incompatible version"));
  }
  if (absl::StrContains(status.ToString(), "Permission denied") ||
      absl::StrContains(status.ToString(), "Read-only file system")) {
    return absl::FailedPreconditionError(message);
  }
  return MakeError(Reason::kStoreUnavailable, message);
}

// The number of the last change that recovery in `mode` finds. Changes nothing in the folder.
rocksdb::Status LatestSequence(const RocksdbOptions& options, WALRecoveryMode mode,
                               const Surroundings& surroundings, uint64_t& sequence) {
  rocksdb::DB* opened = nullptr;
  rocksdb::Status status = rocksdb::DB::OpenForReadOnly(ToRocksdb(options, mode, surroundings),
                                                        options.directory, &opened);
  const std::unique_ptr<rocksdb::DB> db(opened);
  if (status.ok()) sequence = db->GetLatestSequenceNumber();
  return status;
}

// Opens all that can still be read.
absl::StatusOr<std::unique_ptr<rocksdb::DB>> OpenLosing(const RocksdbOptions& options,
                                                        absl::string_view why,
                                                        const Surroundings& surroundings) {
  std::unique_ptr<rocksdb::DB> db;
  const rocksdb::Status status =
      OpenDatabase(options, WALRecoveryMode::kSkipAnyCorruptedRecords, surroundings, db);
  if (!status.ok()) return OpenError(status, options.directory);
  surroundings.events->Tell(
      absl::StrCat("event=data_loss_accepted directory=", options.directory, " why=\"", why, "\""));
  return db;
}

// Opens the database, dropping at most a commit that was never acknowledged.
absl::StatusOr<std::unique_ptr<rocksdb::DB>> Recover(const RocksdbOptions& options,
                                                     const Surroundings& surroundings) {
  NORMD_ASSIGN_OR_RETURN(const std::vector<std::string> logs, surroundings.folder.WriteAheadLogs());
  for (const std::string& log : logs) {
    NORMD_ASSIGN_OR_RETURN(const LogCondition condition, CheckWriteAheadLog(log));
    if (condition == LogCondition::kRecordLost) {
      const std::string why = absl::StrCat("damage in the middle of '", log, "'");
      if (!options.accept_data_loss) return surroundings.folder.CommitsLost(why);
      return OpenLosing(options, why, surroundings);
    }
    if (condition == LogCondition::kTornTail) {
      surroundings.events->Tell(absl::StrCat("event=torn_tail_dropped file=", log));
    }
  }

  std::unique_ptr<rocksdb::DB> db;
  const rocksdb::Status strict =
      OpenDatabase(options, WALRecoveryMode::kTolerateCorruptedTailRecords, surroundings, db);
  if (strict.ok()) return db;
  if (!strict.IsCorruption()) return OpenError(strict, options.directory);

  uint64_t until_damage = 0;
  uint64_t past_damage = 0;
  if (!LatestSequence(options, WALRecoveryMode::kPointInTimeRecovery, surroundings, until_damage)
           .ok() ||
      !LatestSequence(options, WALRecoveryMode::kSkipAnyCorruptedRecords, surroundings, past_damage)
           .ok()) {
    return OpenError(strict, options.directory);
  }
  if (until_damage != past_damage) {
    const std::string why =
        absl::StrCat(strict.ToString(), " after change ", until_damage, " of ", past_damage);
    if (!options.accept_data_loss) return surroundings.folder.CommitsLost(why);
    return OpenLosing(options, why, surroundings);
  }
  const rocksdb::Status status =
      OpenDatabase(options, WALRecoveryMode::kPointInTimeRecovery, surroundings, db);
  if (!status.ok()) return OpenError(status, options.directory);
  return db;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StateStore>> OpenRocksdbStateStore(RocksdbOptions options) {
  NORMD_ASSIGN_OR_RETURN(DataFolder folder, DataFolder::Open(options.directory));
  auto events = std::make_unique<EventSink>(std::move(options.on_event));
  auto listener = std::make_shared<ErrorListener>(events.get());
  Surroundings surroundings{
      std::move(folder), options.reserved_bytes, std::move(events), std::move(listener),
      rocksdb::NewCompositeEnv(std::make_shared<StoreFileSystem>(rocksdb::FileSystem::Default()))};
  NORMD_ASSIGN_OR_RETURN(std::unique_ptr<rocksdb::DB> db, Recover(options, surroundings));
  return std::make_unique<RocksdbStateStore>(std::move(surroundings), std::move(db));
}

}  // namespace normd
