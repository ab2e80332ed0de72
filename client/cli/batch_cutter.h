#ifndef NORMD_CLIENT_CLI_BATCH_CUTTER_H_
#define NORMD_CLIENT_CLI_BATCH_CUTTER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/array.h"
#include "client/cli/array_reader.h"
#include "client/cpp/batch.h"

namespace normd::cli {

struct CutOptions {
  int64_t batch_size = 0;  // rows of a mini-batch; 0: every array is one
  bool drop_last = false;  // leave out a last mini-batch with fewer rows
  int64_t epochs = 1;      // how often the whole input is read
  client::Layout layout = client::Layout::kChannelsFirst;
  // What the values are rounded to; nothing: their own dtype, and float32 for JSON text.
  std::optional<client::DataType> dtype = std::nullopt;
  // Refuse an array that would give a mini-batch with one value per channel.
  bool needs_variance = false;
};

// Where a mini-batch came from.
struct BatchPlace {
  int64_t number = 0;  // counted from 1 over the whole run
  int64_t epoch = 1;
  int64_t array = 1;      // of the input, counted from 1
  int64_t first_row = 0;  // of the array
  int64_t end_row = 0;    // one behind the last
  int64_t bytes = 0;
  client::DataType dtype = client::DataType::kFloat32;
  // The shape of all mini-batches of this array together, with the first of them.
  std::optional<std::vector<int64_t>> array_shape;
  // How much of the whole run was read with this mini-batch, 0 to 1; nothing when it is not known.
  std::optional<double> fraction_read;
};

// "mini-batch 7 (rows 600:700)", with array and epoch when they are not the first.
std::string PlaceToText(const BatchPlace& place);

// Cuts the arrays of an input into mini-batches along axis 0; the last of an array may be smaller.
// Thread-compatible.
class BatchCutter {
 public:
  // `reader` must outlive the cutter.
  BatchCutter(ArrayReader* reader, const CutOptions& options);

  struct MiniBatch {
    BatchPlace place;
    Array array;
  };

  // The next mini-batch; nothing at the end. Errors: the reader's; a value that does not fit in
  // the dtype; ONE_VALUE_PER_CHANNEL (an array that gives such a mini-batch, before any of its rows
  // is returned).
  absl::StatusOr<std::optional<MiniBatch>> Next();

 private:
  // The next rows, in the dtype to send.
  absl::StatusOr<Array> ReadRows(int64_t rows);
  // Goes to the next array that has a mini-batch. False at the end.
  absl::StatusOr<bool> NextArray();
  absl::Status CheckVariance(const std::vector<int64_t>& shape, int64_t rows) const;

  ArrayReader* const reader_;
  const CutOptions options_;
  int64_t number_ = 0;
  int64_t epoch_ = 1;
  int64_t array_ = 0;
  std::vector<int64_t> shape_;  // of the current array, without dropped rows
  int64_t next_row_ = 0;        // of the current array
  bool array_is_taken_ = true;  // all mini-batches of the current array have been returned
};

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_BATCH_CUTTER_H_
