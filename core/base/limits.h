#ifndef NORMD_CORE_BASE_LIMITS_H_
#define NORMD_CORE_BASE_LIMITS_H_

#include <cstdint>

#include "absl/time/time.h"

// Every limit of normd, and how they hang together. A name that begins with kDefault is the default
// of the server's flag of that name; the others cannot be changed.
namespace normd {

inline constexpr int64_t kKiB = int64_t{1} << 10;
inline constexpr int64_t kMiB = int64_t{1} << 20;
inline constexpr int64_t kGiB = int64_t{1} << 30;

// Names.
inline constexpr int64_t kStateNameBytesMax = 255;
inline constexpr int64_t kProducerIdBytesMax = 128;

// One state. Its record fits one commit: all float64, a channel has two parameters, two running
// statistics, three optimizer slots of each parameter and two of a calibration; and the producers.
inline constexpr int64_t kNumFeaturesMax = int64_t{1} << 20;
inline constexpr int64_t kNormalizedShapeAxesMax = 64;
inline constexpr int64_t kChannelRecordBytesMax = (2 + 2 + 2 * 3 + 2) * 8;
// What of it is sent: parameters and running statistics.
inline constexpr int64_t kChannelMessageBytesMax = (2 + 2) * 8;
// Of a state that is created: training cannot count from here to the end of int64.
inline constexpr int64_t kNumBatchesTrackedMax = int64_t{1} << 62;
inline constexpr int64_t kProducersMax = 65536;
inline constexpr int64_t kProducerRecordBytesMax = kProducerIdBytesMax + 32;
inline constexpr int64_t kDefaultProducers = 1024;
inline constexpr absl::Duration kDefaultProducerAge = absl::Hours(24);

// Messages. A message above the limit is answered in place as long as it is below
// kMessageHardFactor times the limit; beyond that gRPC ends the call.
inline constexpr int64_t kDefaultMessageBytes = 64 * kMiB;
inline constexpr int64_t kMessageBytesMin = 64 * kKiB;
inline constexpr int64_t kMessageBytesMax = kGiB / 2;
inline constexpr int64_t kMessageHardFactor = 2;
inline constexpr int64_t kControlMessageBytesMax = 64 * kMiB;
// Of one message, as wire::CountFields counts them. No request needs more than two shapes of 128
// axes, or a normalized_shape and a path of each field of a state, and some ten fields beside them.
inline constexpr int64_t kMessageFieldsMax = 1024;
// What gRPC and the server hold of a unary call beside its messages: some 12 KiB, measured.
inline constexpr int64_t kUnaryCallBytes = 16 * kKiB;
// Of one connection, beside as many streams and watches as there may be: the calls that gRPC holds
// of it, some 12 KiB each, before they are counted. A client of gRPC keeps back what is more.
inline constexpr int64_t kOtherCallsPerConnection = 2048;

// The store.
inline constexpr int64_t kDefaultStoreWriteBufferBytes = 64 * kMiB;
inline constexpr int64_t kDefaultStoreCacheBytes = 64 * kMiB;
inline constexpr int64_t kStoreWriteBufferBytesMin = kMiB;
inline constexpr int64_t kStoreWriteBuffers = 3;
// What compaction reads at once of each table that it merges; of the memory for this nobody counts.
inline constexpr int64_t kStoreCompactionReadBytes = 256 * kKiB;
// Revisions that are remembered, 18 bytes each, to spare commits a read; a power of two.
inline constexpr int64_t kStoreKnownRevisions = int64_t{1} << 18;
// Room that a commit leaves on the disk, for RocksDB to move its buffers to tables.
inline constexpr int64_t kDefaultStoreReservedBytes = 256 * kMiB;

// Streams. The requests and responses that one stream holds at a time.
inline constexpr int64_t kDefaultStreams = 1024;
inline constexpr int64_t kDefaultStreamMessages = 128;
inline constexpr int64_t kStreamMessagesMax = 4096;
inline constexpr int64_t kDefaultStreamBytes = 128 * kMiB;
inline constexpr int64_t kStreamWindowBytesMax = kGiB;  // HTTP/2 has 31 bits for it
// What is kept of the memory of past messages for the next ones.
inline constexpr int64_t kIdleBufferBytesMax = 128 * kMiB;

// The write path. The store has one log: two shards wait for each other's syncs, and each of these
// carries half as much. More pay where encoding, not the disk, is what limits.
inline constexpr int64_t kDefaultWriteShards = 1;
inline constexpr int64_t kWriteShardsMax = 64;
inline constexpr int64_t kCommitBytesMax = 128 * kMiB;
// What is kept of the memory of past copies of states, and as much of past records, for the next
// ones: a commit of some thousands of small states.
inline constexpr int64_t kIdleStateBytesMax = 16 * kMiB;
inline constexpr int64_t kDefaultDirtyBytes = 256 * kMiB;
inline constexpr int64_t kDefaultPendingUpdates = 65536;
// A few syncs long, so that relaxed updates cost a part of the disk's time and of a core's.
inline constexpr absl::Duration kDefaultRelaxedCommitDelay = absl::Milliseconds(5);

// The cache and the loaders.
inline constexpr int64_t kDefaultCacheBytes = kGiB;
inline constexpr int64_t kCacheBytesMin = kMiB;
inline constexpr int64_t kDefaultLoaderThreads = 4;
inline constexpr int64_t kLoaderThreadsMax = 64;

// The coefficients of eval mode that are kept for small batches, of so many states of so many
// channels: 12 bytes a channel, 3 MiB, beside what is counted.
inline constexpr size_t kCoefficientSlots = 64;
inline constexpr size_t kCoefficientChannelsMax = 4096;

// The threads that share the work on a large batch, and those that serve calls.
inline constexpr int64_t kComputeThreadsMax = 256;
inline constexpr int64_t kServingThreadsMax = 256;

// Memory. What the store does not take of it is dealt out in parts. A use never has another's part:
// the cache alone takes what others leave, and gives it back when they come for it.
inline constexpr int64_t kDefaultMemoryBytes = 4 * kGiB;
// What the store must leave.
inline constexpr int64_t kMemoryBytesMin = 32 * kMiB;
inline constexpr int64_t kMemoryParts = 32;
inline constexpr int64_t kCacheMemoryParts = 6;
inline constexpr int64_t kWritesMemoryParts = 8;
inline constexpr int64_t kStreamsMemoryParts = 12;
inline constexpr int64_t kCallsMemoryParts = 4;
inline constexpr int64_t kWatchesMemoryParts = 1;
// Left empty by the cache, so that it need not give way to every message.
inline constexpr int64_t kSpareMemoryParts = 1;
// A changed state waits as a draft; its commit holds its record and the store's copy of that.
inline constexpr int64_t kCopiesOfADraft = 3;

// Lists and watches.
inline constexpr int64_t kDefaultPageSize = 100;
inline constexpr int64_t kPageSizeMax = 1000;
inline constexpr int64_t kPageBytesMax = 16 * kMiB;
inline constexpr int64_t kDefaultWatchers = 1024;
inline constexpr int64_t kDefaultWatchPendingStates = 4096;

// Health and reflection: apart from the others, so that a server without room still tells that it
// lives. Part of what the cache leaves empty.
inline constexpr int64_t kStandardServicesBytes = kMiB;
inline constexpr int64_t kStandardCallsMax = 1024;
inline constexpr int64_t kStandardRequestBytesMax = 4 * kKiB;

// Draining.
inline constexpr absl::Duration kDefaultDrainTimeout = absl::Seconds(20);

static_assert(kNumFeaturesMax * kChannelRecordBytesMax + kProducersMax * kProducerRecordBytesMax <=
                  kCommitBytesMax,
              "any record fits one commit");
static_assert(kCommitBytesMax <= kDefaultStoreReservedBytes, "a commit leaves room for itself");
static_assert(kCommitBytesMax <= kDefaultDirtyBytes, "a commit takes what may wait");
// Half is left for what is not arrays.
static_assert(2 * kNumFeaturesMax * kChannelMessageBytesMax <= kControlMessageBytesMax,
              "any state can be read and created over the wire");
static_assert(kControlMessageBytesMax <= kDefaultMessageBytes);
static_assert(2 * kNormalizedShapeAxesMax < kMessageFieldsMax);
static_assert(kDefaultMessageBytes <= kDefaultStreamBytes, "a stream holds any message");
static_assert(kMessageBytesMax * kMessageHardFactor <= kGiB, "gRPC counts messages in int");
static_assert(kDefaultProducers <= kProducersMax);
static_assert(kCacheMemoryParts + kWritesMemoryParts + kStreamsMemoryParts + kCallsMemoryParts +
                      kWatchesMemoryParts + kSpareMemoryParts ==
                  kMemoryParts,
              "the memory is dealt out, all of it");
static_assert(kCopiesOfADraft * kDefaultDirtyBytes + 2 * kIdleStateBytesMax <=
                  (kDefaultMemoryBytes - kStoreWriteBuffers * kDefaultStoreWriteBufferBytes -
                   kDefaultStoreCacheBytes) /
                      kMemoryParts * kWritesMemoryParts,
              "by default the write queue has its own limit");
static_assert(kStandardRequestBytesMax < kMessageBytesMin);
static_assert(kStandardCallsMax < kOtherCallsPerConnection, "health leaves room for others");
static_assert(kStandardServicesBytes <= kMemoryBytesMin / kMemoryParts * kSpareMemoryParts);
static_assert(kDefaultPageSize <= kPageSizeMax);

}  // namespace normd

#endif  // NORMD_CORE_BASE_LIMITS_H_
